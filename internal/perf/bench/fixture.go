package main

import (
	"context"
	"crypto"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	keyParameter        = "/bench/key"
	passphraseParameter = "/bench/passphrase"
	passphrase          = "correct horse battery staple"
)

// A fixture is a Parameter Store, the programs, and a place for the key in memory.
type fixture struct {
	ssm      *localssm.Server
	endpoint string
	programs string // directory
	keys     string // directory, on a tmpfs where there is one
	root     string // of the repository
}

// memory is where Linux has a tmpfs without anybody mounting one.
const memory = "/dev/shm"

func newFixture(ctx context.Context) (w *fixture, stop func(), err error) {
	w = &fixture{ssm: localssm.New()}
	if w.root, err = repository(); err != nil {
		return nil, nil, err
	}
	if w.programs, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, nil, err
	}
	under := memory
	if _, err := os.Stat(memory); err != nil {
		under = w.programs
	}
	if w.keys, err = os.MkdirTemp(under, "bench-"); err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	w.endpoint = "http://" + listener.Addr().String()
	server := &http.Server{Handler: w.ssm, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	stop = func() {
		_ = server.Close()
		_ = os.RemoveAll(w.keys)
		_ = os.RemoveAll(w.programs)
	}
	sealed, err := sealed(testkey.Key(0))
	if err == nil {
		w.ssm.Put(keyParameter, sealed)
		w.ssm.Put(passphraseParameter, passphrase)
		err = w.build(ctx, "./sidecar", "./internal/perf/bench/floor", "./internal/perf/bench/plainsdk", "./internal/perf/bench/stopwatch")
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return w, stop, nil
}

// sealed is the key as `openssl pkcs8 -topk8` of OpenSSL 3 encrypts it if it is told nothing else: PBKDF2 with
// 2048 rounds of HMAC-SHA256, AES-256-CBC.
func sealed(key *keyfile.Key) (string, error) {
	der, err := pkcs8.MarshalPrivateKey(key.RSA(), []byte(passphrase), &pkcs8.Opts{
		Cipher: pkcs8.AES256CBC, KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 2048, HMACHash: crypto.SHA256},
	})
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})), nil
}

// build makes all programs as a release is made, so that none has an advantage.
func (w *fixture) build(ctx context.Context, packages ...string) error {
	for _, p := range packages {
		cmd := exec.CommandContext(ctx, "scripts/build.sh", p, runtime.GOARCH, w.program(filepath.Base(p)))
		cmd.Dir, cmd.Stderr = w.root, os.Stderr
		cmd.Env = append(os.Environ(), "VERSION=v0.0.0", "REVISION=bench")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("scripts/build.sh %s: %w", p, err)
		}
	}
	return nil
}

func (w *fixture) program(name string) string { return filepath.Join(w.programs, name) }

// environment is what every contestant has: credentials are there, as those of a task's role are after one
// more request, which all would have to make.
func (w *fixture) environment(path string) []string {
	return []string{
		"AWS_ENDPOINT_URL_SSM=" + w.endpoint, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench", "HOME=" + w.programs, "PATH=" + path,
	}
}

func repository() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}
