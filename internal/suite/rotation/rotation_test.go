// Package rotation runs `sidecar rotate` beside `sidecar run` and a Go program under load, the real programs
// against a Snowflake and a Parameter Store on this machine. It has tests only: they are here since nothing
// below sidecar/ imports the Snowflake driver.
package rotation

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/build"
	"github.com/snowkey/snowkey/internal/tools/process/processtest"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

const (
	user     = "SVC"
	workers  = 6
	patience = 60 * time.Second // a busy machine
)

var sidecar string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() { // which needs no program
		m.Run()
		return
	}
	dir, err := os.MkdirTemp("", "rotation-test-")
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

// A fixture is what the three programs share.
type fixture struct {
	t         *testing.T
	ssm       *localssm.Server
	snowflake *localsnowflake.Server
	at        *url.URL // of snowflake
	login     string   // of the user
	environ   []string
	dir       string
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, ssm: localssm.New(), snowflake: localsnowflake.New(), login: user, dir: t.TempDir()}
	f.snowflake.CreateUser(user)
	f.snowflake.SetPublicKey(user, 1, &testkey.Key(0).RSA().PublicKey)
	f.snowflake.SetLoginLatency(100 * time.Millisecond)
	f.snowflake.SetQueryLatency(3 * time.Millisecond)
	f.ssm.Put("/app/passphrase", "a passphrase")
	f.ssm.Put("/app/key", testkey.Encrypted(testkey.Key(0), "a passphrase"))
	f.at = testenv.Serve(t, f.snowflake)
	f.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_ENDPOINT_URL_SSM=" + testenv.Serve(t, f.ssm).String(),
		"SNOWKEY_KEY_PARAMETER=/app/key", "SNOWKEY_PASSPHRASE_PARAMETER=/app/passphrase", "SNOWKEY_INTERVAL=1s",
		"SNOWFLAKE_ACCOUNT=LOCAL", "SNOWFLAKE_USER=" + user,
		"SNOWFLAKE_PROTOCOL=http", "SNOWFLAKE_HOST=" + f.at.Hostname(), "SNOWFLAKE_PORT=" + f.at.Port(),
	}
	return f
}

// start runs the sidecar. It prints its summary to stdout.
func (f *fixture) start(stdout io.Writer, args ...string) *processtest.Process {
	f.t.Helper()
	cmd := exec.Command(sidecar, args...)
	cmd.Env, cmd.Stdout = f.environ, stdout
	return processtest.Start(f.t, cmd)
}

// A load is queries that never stop.
type load struct {
	db               *sql.DB
	answered, failed atomic.Int64
	stop             context.CancelFunc
	group            sync.WaitGroup
}

func (f *fixture) load() *load {
	f.t.Helper()
	port, _ := strconv.Atoi(f.at.Port())
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	db, err := snowkey.Open(ctx, filepath.Join(f.dir, keyfile.DER.FileName()), gosnowflake.Config{
		Account: "LOCAL", User: f.login, Protocol: "http", Host: f.at.Hostname(), Port: port,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	l := &load{db: db}
	ctx, l.stop = context.WithCancel(f.t.Context())
	for range workers {
		l.group.Go(func() {
			for ctx.Err() == nil {
				var answer string
				switch err := db.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&answer); {
				case err == nil:
					l.answered.Add(1)
				case ctx.Err() == nil:
					l.failed.Add(1)
					f.t.Errorf("a query failed: %v", err)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	f.t.Cleanup(func() { l.stop(); l.group.Wait(); db.Close() })
	return l
}

type summary struct {
	Result, Fingerprint string
	Old                 string `json:"old_fingerprint"`
}

// rotate runs the command to its end.
func (f *fixture) rotate(args ...string) summary {
	f.t.Helper()
	var stdout bytes.Buffer
	p := f.start(&stdout, append([]string{"rotate"}, args...)...)
	var s summary
	if err := p.Err(); err != nil {
		f.t.Errorf("rotate: %v", err)
		return s
	}
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		f.t.Error(err)
	}
	return s
}

func (f *fixture) sessionsAreOf(key string) {
	f.t.Helper()
	testenv.Eventually(f.t, "sessions are the new key's", func() bool {
		for _, s := range f.snowflake.Sessions() {
			if s.Fingerprint != key {
				return false
			}
		}
		return true
	})
}

// queriesGoOn waits for as many answers as show that every worker has had some, by sessions of this key.
func (f *fixture) queriesGoOn(l *load, key string) {
	f.t.Helper()
	from := l.answered.Load()
	testenv.Eventually(f.t, "queries are answered", func() bool { return l.answered.Load() > from+20*workers })
	f.sessionsAreOf(key)
}

// onlyKeyIs likewise, and sees that one slot has this key, and the other none.
func (f *fixture) onlyKeyIs(l *load, key string) {
	f.t.Helper()
	f.queriesGoOn(l, key)
	slots := f.snowflake.Fingerprints(user)
	if slots != [2]string{key, ""} && slots != [2]string{"", key} {
		f.t.Errorf("the key in use is %s, the slots are %v", key, slots)
	}
}

// grace gives the sidecar, which refreshes each second, and the pool some seconds to follow.
const grace = "--grace=6s"

func TestRotation_FailsNoQuery(t *testing.T) {
	testenv.Heavy(t)
	f := newFixture(t)
	f.start(nil, "run", "--dir="+f.dir)
	l := f.load()
	f.onlyKeyIs(l, testkey.Key(0).Fingerprint())

	first := f.rotate(grace)
	if first.Result != "rotated" || first.Old != testkey.Key(0).Fingerprint() {
		t.Errorf("summary %+v", first)
	}
	f.onlyKeyIs(l, first.Fingerprint)

	// Killed while it waits; the next run completes it.
	p := f.start(nil, "rotate", grace)
	testenv.Eventually(f.t, "it waits", func() bool { return strings.Contains(p.String(), "waiting") })
	p.Kill()
	second := f.rotate("--finish", grace)
	if second.Result != "finished" || second.Old != first.Fingerprint {
		t.Errorf("summary %+v", second)
	}
	f.onlyKeyIs(l, second.Fingerprint)

	// Two at once are one rotation.
	both := make(chan summary, 2)
	for range 2 {
		go func() { both <- f.rotate(grace) }()
	}
	a, b := <-both, <-both
	if a.Fingerprint != b.Fingerprint || a.Fingerprint == second.Fingerprint || a.Result != "rotated" && b.Result != "rotated" {
		t.Errorf("summaries %+v and %+v", a, b)
	}
	f.onlyKeyIs(l, a.Fingerprint)

	// A key that has leaked.
	leaked := f.rotate("--force-new", "--no-wait", "--grace=1h")
	if leaked.Result != "published" || leaked.Old != a.Fingerprint {
		t.Errorf("summary %+v", leaked)
	}
	f.sessionsAreOf(leaked.Fingerprint)
	if revoked := f.rotate("--finish", "--revoke-old"); revoked.Result != "finished" || revoked.Old != a.Fingerprint {
		t.Errorf("summary %+v", revoked)
	}
	f.onlyKeyIs(l, leaked.Fingerprint)

	l.stop()
	l.group.Wait()
	t.Logf("%d queries answered, %d failed", l.answered.Load(), l.failed.Load())
}

// A user whose login name is not its name, and a named key pair: one that is added, and one that is rotated.
func TestRotation_NamedKeyPairFailsNoQuery(t *testing.T) {
	testenv.Heavy(t)
	const name, login = `"Etl"`, "etl@corp.example"
	f := newFixture(t)
	f.snowflake.UnsetPublicKey(user, 1) // two users with one key cannot be rotated
	f.snowflake.CreateUserWithLogin(name, login)
	f.snowflake.SetPublicKey(name, 1, &testkey.Key(0).RSA().PublicKey)
	f.login = login
	f.environ = append(f.environ, "SNOWFLAKE_USER="+login)
	f.start(nil, "run", "--dir="+f.dir)
	l := f.load()
	f.queriesGoOn(l, testkey.Key(0).Fingerprint())

	time.Sleep(time.Second) // the age is by SSM's Date, which is in seconds
	old := testkey.Key(0).Fingerprint()
	for _, step := range []string{"added", "rotated", "rotated again, at an age that is reached"} {
		s := f.rotate("--key-pair=app", "--max-age=1ns", grace)
		if s.Result != "rotated" || s.Old != old {
			t.Fatalf("%s: summary %+v", step, s)
		}
		f.queriesGoOn(l, s.Fingerprint)
		old = s.Fingerprint
	}
	if young := f.rotate("--key-pair=app", "--max-age=30d"); young.Result != "young" || young.Fingerprint != old {
		t.Errorf("summary %+v", young)
	}
	if slots := f.snowflake.Fingerprints(name); slots != [2]string{} {
		t.Errorf("the slots have %v", slots)
	}

	l.stop()
	l.group.Wait()
	t.Logf("%d queries answered, %d failed", l.answered.Load(), l.failed.Load())
}
