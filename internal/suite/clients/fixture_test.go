//go:build clients

// Package clients runs the programs of examples/clients, as scripts/clients/install.sh installed them and
// as a person would start them, against the real sidecar and a Snowflake and a Parameter Store on this
// machine. It has tests only; make test-clients runs them.
package clients

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/build"
	"github.com/snowkey/snowkey/internal/tools/process/processtest"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	account = "LOCAL"
	user    = "SVC"
	version = "9.41.7" // of this Snowflake alone, so that no client can have it from elsewhere

	keyParameter  = "/app/key"
	passParameter = "/app/passphrase"
	passphrase    = "a passphrase for the clients"
)

// sidecar is the program as make build has it.
var sidecar string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "clients-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	sidecar = filepath.Join(dir, "sidecar")
	if err := build.Programs(context.Background(), dir, nil, "sidecar"); err != nil {
		panic(err)
	}
	m.Run()
}

// installed is the path of something in .cache/clients.
func installed(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(filepath.Join("../../../.cache/clients", path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(full); err != nil {
		t.Fatalf("%v: run this by make test-clients, which installs the clients", err)
	}
	return full
}

// A fixture is what one client has around it: the sidecar, and what that and the client talk to.
type fixture struct {
	t         *testing.T
	ssm       *localssm.Server
	snowflake *localsnowflake.Server
	url       *url.URL // of snowflake
	dir       string   // of the key files
	home      string   // of the client

	mu     sync.Mutex
	closed map[int64]time.Time // when clients closed sessions
}

// newFixture has the first test key everywhere, and a sidecar that has published it.
func newFixture(t *testing.T, more ...localsnowflake.Option) *fixture {
	t.Helper()
	return newFixtureServing(t, nil, more...)
}

// newFixtureServing is newFixture with a server of its own in front of Snowflake, unless that is nil.
func newFixtureServing(t *testing.T, serve func(*fixture, http.Handler) *url.URL, more ...localsnowflake.Option) *fixture {
	t.Helper()
	options := append([]localsnowflake.Option{localsnowflake.WithAccount(account), localsnowflake.WithServerVersion(version)}, more...)
	f := &fixture{
		t:         t,
		ssm:       localssm.New(),
		snowflake: localsnowflake.New(options...),
		dir:       t.TempDir(),
		home:      t.TempDir(),
		closed:    map[int64]time.Time{},
	}
	t.Cleanup(f.snowflake.Close)
	f.snowflake.CreateUser(user)
	f.snowflake.SetRoles(user, "loader")
	f.assign(1, 1)
	f.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointClose {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.closed[r.SessionID] = time.Now()
		}
		return nil
	})
	if serve == nil {
		serve = func(f *fixture, handler http.Handler) *url.URL { return testenv.Serve(f.t, handler) }
	}
	f.url = serve(f, f.snowflake)
	f.ssm.Put(passParameter, passphrase)
	f.rotate(1)
	environ := append(f.login(), // for the connections
		"SNOWFLAKE_ROLE=LOADER", "SNOWFLAKE_WAREHOUSE=wh", "SNOWFLAKE_DATABASE=DB", "SNOWFLAKE_SCHEMA=\"S\"",
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_ENDPOINT_URL_SSM="+testenv.Serve(f.t, f.ssm).String())
	f.start(f.home, environ, sidecar, "run", "--key-parameter="+keyParameter, "--passphrase-parameter="+passParameter,
		"--dir="+f.dir, "--connections", "--serve=der,pem", "--interval=1s")
	f.published(1)
	return f
}

// published waits until the sidecar has written and serves the nth test key, in every format.
func (f *fixture) published(n int) {
	f.t.Helper()
	for _, name := range []string{keyfile.PEM.FileName(), keyfile.DER.SocketName(), keyfile.PEM.SocketName()} {
		testenv.Eventually(f.t, "the sidecar publishes the key", func() bool {
			key, err := keyfile.Read(filepath.Join(f.dir, name))
			return err == nil && key.Equal(testkey.Key(n))
		})
	}
}

// assign puts the public half of the nth test key into a slot of the user.
func (f *fixture) assign(slot, n int) {
	f.snowflake.SetPublicKey(user, slot, &testkey.Key(n).RSA().PublicKey)
}

// rotate puts the nth test key into Parameter Store.
func (f *fixture) rotate(n int) {
	f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(n), passphrase))
}

// login says where Snowflake is, and who logs in.
func (f *fixture) login() []string {
	return []string{
		"SNOWFLAKE_ACCOUNT=" + account,
		"SNOWFLAKE_USER=" + user,
		"SNOWFLAKE_HOST=" + f.url.Hostname(),
		"SNOWFLAKE_PORT=" + f.url.Port(),
		"SNOWFLAKE_PROTOCOL=" + f.url.Scheme,
	}
}

// offline keeps drivers from looking for a cloud around them, and from sending telemetry.
var offline = []string{
	"SNOWFLAKE_DISABLE_PLATFORM_DETECTION=true",
	"SF_DISABLE_MINICORE=true",
	"DBT_SEND_ANONYMOUS_USAGE_STATS=false",
}

// environ is what a task definition would set.
func (f *fixture) environ() []string {
	return slices.Concat(f.login(), offline, []string{
		"SNOWFLAKE_PRIVATE_KEY_PATH=" + filepath.Join(f.dir, keyfile.PEM.FileName()),
		"INTERVAL=0.1",
	})
}

// byPath also sets what a session has.
func (f *fixture) byPath() []string {
	return append(f.environ(), "SNOWFLAKE_ROLE=LOADER", "SNOWFLAKE_WAREHOUSE=WH", "SNOWFLAKE_DATABASE=DB", "SNOWFLAKE_SCHEMA=S")
}

// start runs a program in the directory until the test ends.
func (f *fixture) start(directory string, environ []string, name string, args ...string) *processtest.Process {
	f.t.Helper()
	return processtest.Start(f.t, f.command(directory, environ, name, args...))
}

// command is a program with nothing of the developer's own environment but what finds programs. Those of the directory's
// virtual environment come first.
func (f *fixture) command(directory string, environ []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = directory
	cmd.Env = append([]string{"PATH=" + filepath.Join(directory, "venv/bin") + ":" + os.Getenv("PATH"), "HOME=" + f.home, "LANG=C.UTF-8"}, environ...)
	return cmd
}

// authorityName is the file in the client's home with the authority that the client has to trust.
const authorityName = "ca.pem"
