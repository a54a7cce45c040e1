package main

import (
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/doctable"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/keygen"
)

var update = flag.Bool("update", false, "write the copies that were found into docs/secret-hygiene.md")

// released is the program as it is released. This test binary has the tests' own secrets in it, and a search
// of its memory would find those.
func releasedBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sidecar")
	cmd := exec.Command("scripts/build.sh", "./sidecar", runtime.GOARCH, path)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// overTLS puts TLS in front of Parameter Store, as AWS has it: TLS has buffers of its own.
func (k *task) overTLS() *httptest.Server {
	k.t.Helper()
	server := httptest.NewTLSServer(k.ssm)
	k.t.Cleanup(server.Close)
	k.env["AWS_ENDPOINT_URL_SSM"] = server.URL
	k.env["AWS_CA_BUNDLE"] = filepath.Join(k.t.TempDir(), "ca.pem")
	k.must(os.WriteFile(k.env["AWS_CA_BUNDLE"], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	return server
}

// A count is how many copies of each trace were found in each moment.
type count map[string][]int

func TestCopies_OfTheKeyInMemory(t *testing.T) {
	testenv.Heavy(t)
	key, err := keygen.Generate(2048)
	if err != nil {
		t.Fatal(err)
	}
	passphrase := keygen.NewPassphrase()
	encrypted, err := keygen.Encrypt(key, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	all := traces(key, encrypted, string(passphrase.Bytes()))

	var server *httptest.Server
	fromSSM := func(k *task) {
		server = k.overTLS()
		k.ssm.Put(keyParameter, string(encrypted))
		k.ssm.Put(passParameter, string(passphrase.Bytes()))
	}
	fromEnvironment := func(k *task) {
		k.withoutAWS()
		k.env["SECRET_KEY"], k.env["PRIVATE_KEY_PASSPHRASE"] = string(encrypted), string(passphrase.Bytes())
	}
	scan := func(program string, k *task, prepare func(*task), between ...func()) count {
		k.program = program
		prepare(k)
		run := k.run()
		run.follows(key.Fingerprint())
		c := count{}
		sample := func() {
			time.Sleep(500 * time.Millisecond) // until it sleeps
			memory := memoryOf(t, run.PID())
			for _, tr := range all {
				c[tr.what] = append(c[tr.what], tr.copies(memory))
			}
		}
		sample()
		for _, happens := range between {
			happens()
			run.refresh()
			sample()
		}
		run.end(syscall.SIGTERM)
		run.want(exitDone)
		return c
	}

	released, plain := releasedBinary(t), filepath.Join(t.TempDir(), "sidecar")
	cmd := exec.Command("go", "build", "-o", plain, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	nothing := func() {}
	// As happens by itself 90 s after a refresh.
	ended := scan(released, newTask(t), fromSSM, func() {
		server.CloseClientConnections()
		time.Sleep(200 * time.Millisecond) // until the sidecar knows
	}, nothing)
	ssm, env, without := scan(released, newTask(t), fromSSM, nothing), scan(released, newTask(t), fromEnvironment, nothing), scan(plain, newTask(t), fromSSM, nothing)
	k, account := verified(t)
	account.SetPublicKey("svc", 1, &key.RSA().PublicKey)
	verified := scan(released, k, fromSSM, nothing) // which signs with it
	table := new(strings.Builder)
	fmt.Fprintln(table, "| copies of the | after publishing | the next refresh | if on a new connection | and the refresh after | from SECRET_KEY: after publishing | the next refresh | without runtimesecret: after publishing | the next refresh |")
	fmt.Fprintln(table, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, tr := range all {
		fmt.Fprintf(table, "| %s | %d | %d | %d | %d |", tr.what, ssm[tr.what][0], ssm[tr.what][1], ended[tr.what][1], ended[tr.what][2])
		for _, c := range []count{env, without} {
			fmt.Fprintf(table, " %d | %d |", c[tr.what][0], c[tr.what][1])
		}
		fmt.Fprintln(table)
	}
	t.Logf("\n%s", table)

	for _, tr := range all {
		kept := 0 // the key that is restored when a file vanishes
		if strings.Contains(tr.what, "(") || strings.Contains(tr.what, "mod") {
			kept = 1
			if without[tr.what][0] <= 1 {
				t.Errorf("%s: %d copies without runtimesecret: the search does not find them", tr.what, without[tr.what][0])
			}
		}
		for name, c := range map[string]count{"SSM": ssm, "the environment": env, "SSM with --verify": verified} {
			if n := c[tr.what][1]; n != kept {
				t.Errorf("%s, from %s: %d copies after the next refresh, want %d", tr.what, name, n, kept)
			}
			// What came through net/http and TLS lies there until the next answer comes over the same connection.
			if n := c[tr.what][0]; n > kept && (kept == 1 || name == "the environment" || n > 4) {
				t.Errorf("%s, from %s: %d copies after publishing", tr.what, name, n)
			}
		}
		for _, n := range ended[tr.what] {
			if n > kept && (kept == 1 || n > 4) {
				t.Errorf("%s, from SSM over two connections: %d copies", tr.what, n)
			}
		}
	}
	if *update {
		if err := doctable.Write("../docs/secret-hygiene.md", "copies", table.String()); err != nil {
			t.Fatal(err)
		}
	}
}

// Readiness checks and a predecessor's key leave no more copies than a refresh does: the next refresh may be hours away.
func TestCopies_BetweenTwoRefreshes(t *testing.T) {
	testenv.Heavy(t)
	program := releasedBinary(t)
	key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
	if err != nil {
		t.Fatal(err)
	}
	for name, began := range map[string]func(*task) *process{
		"reads at sockets": func(k *task) *process {
			k.env["SNOWKEY_FORMATS"], k.env["SNOWKEY_SERVE"] = "none", "der,pem,b64,pem.b64"
			run := k.run()
			for _, f := range slices.Repeat(keyfile.Formats, 25) {
				k.read(f)
			}
			return run
		},
		"/readyz": func(k *task) *process {
			k.env["SNOWKEY_METRICS_ADDR"] = freeAddress(t)
			run := k.run()
			time.Sleep(100 * time.Millisecond) // until the garbage of the refresh is collected
			if status, _ := run.get("/readyz"); status != http.StatusOK {
				t.Errorf("/readyz: %d", status)
			}
			return run
		},
		"exec with a predecessor's key": func(k *task) *process {
			k.publish()
			k.ssm.DenyParameter(keyParameter)
			run := k.start("exec", onDemand, "--", "/bin/sh", "-c", "echo begun; exec sleep 60")
			run.eventually("CMD", func() bool { return strings.Contains(run.stdout.String(), "begun") })
			return run
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTask(t)
			k.program = program
			k.overTLS()
			run := began(k)
			for what, n := range map[string]*big.Int{"d": key.RSA().D, "p": key.RSA().Primes[0], "q": key.RSA().Primes[1]} {
				run.eventually("one copy of "+what+", the one that is kept", func() bool {
					return number(what, n).copies(memoryOf(t, run.PID())) == 1
				})
			}
			text := inBase64("the key as PEM or base64", keyfile.DER.Encode(key))
			run.eventually("no copy of "+text.what, func() bool { return text.copies(memoryOf(t, run.PID())) == 0 })
		})
	}
}
