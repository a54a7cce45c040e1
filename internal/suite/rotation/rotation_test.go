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
	"net/http"
	"net/http/httptest"
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

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if testing.Short() {
		return m.Run() // which needs no program
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
	return m.Run()
}

// A world is what the three programs share.
type world struct {
	t         *testing.T
	ssm       *localssm.Server
	snowflake *localsnowflake.Server
	at        *url.URL // of snowflake
	login     string   // of the user
	environ   []string
	dir       string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, ssm: localssm.New(), snowflake: localsnowflake.New(), login: user, dir: t.TempDir()}
	w.snowflake.CreateUser(user)
	w.snowflake.SetPublicKey(user, 1, &testkey.Key(0).RSA().PublicKey)
	w.snowflake.SetLoginLatency(100 * time.Millisecond)
	w.snowflake.SetQueryLatency(3 * time.Millisecond)
	w.ssm.Put("/app/passphrase", "a passphrase")
	w.ssm.Put("/app/key", testkey.Encrypted(testkey.Key(0), "a passphrase"))
	w.at = w.serve(w.snowflake)
	w.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_ENDPOINT_URL_SSM=" + w.serve(w.ssm).String(),
		"SNOWKEY_KEY_PARAMETER=/app/key", "SNOWKEY_PASSPHRASE_PARAMETER=/app/passphrase", "SNOWKEY_INTERVAL=1s",
		"SNOWFLAKE_ACCOUNT=LOCAL", "SNOWFLAKE_USER=" + user,
		"SNOWFLAKE_PROTOCOL=http", "SNOWFLAKE_HOST=" + w.at.Hostname(), "SNOWFLAKE_PORT=" + w.at.Port(),
	}
	return w
}

func (w *world) serve(h http.Handler) *url.URL {
	server := httptest.NewServer(h)
	w.t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	return at
}

// A program is one of ours that runs.
type program struct {
	*exec.Cmd
	stdout bytes.Buffer
	mu     sync.Mutex
	stderr bytes.Buffer
}

func (p *program) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(text)
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func (w *world) start(args ...string) *program {
	w.t.Helper()
	p := &program{Cmd: exec.Command(sidecar, args...)}
	p.Env, p.Stdout, p.Stderr = w.environ, &p.stdout, p
	if err := p.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
		if w.t.Failed() {
			w.t.Logf("sidecar %s:\n%s%s", strings.Join(args, " "), p.said(), &p.stdout)
		}
	})
	return p
}

// A load is queries that never stop.
type load struct {
	db               *sql.DB
	answered, failed atomic.Int64
	stop             context.CancelFunc
	group            sync.WaitGroup
}

func (w *world) load() *load {
	w.t.Helper()
	port, _ := strconv.Atoi(w.at.Port())
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	db, err := snowkey.Open(ctx, filepath.Join(w.dir, keyfile.DER.FileName()), gosnowflake.Config{
		Account: "LOCAL", User: w.login, Protocol: "http", Host: w.at.Hostname(), Port: port,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	l := &load{db: db}
	ctx, l.stop = context.WithCancel(w.t.Context())
	for range workers {
		l.group.Go(func() {
			for ctx.Err() == nil {
				var answer string
				switch err := db.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&answer); {
				case err == nil:
					l.answered.Add(1)
				case ctx.Err() == nil:
					l.failed.Add(1)
					w.t.Errorf("a query failed: %v", err)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	w.t.Cleanup(func() { l.stop(); l.group.Wait(); db.Close() })
	return l
}

type summary struct {
	Result, Fingerprint string
	Old                 string `json:"old_fingerprint"`
}

// rotate runs the command to its end.
func (w *world) rotate(args ...string) summary {
	w.t.Helper()
	p := w.start(append([]string{"rotate"}, args...)...)
	var s summary
	if err := p.Wait(); err != nil {
		w.t.Errorf("rotate: %v", err)
		return s
	}
	if err := json.Unmarshal(p.stdout.Bytes(), &s); err != nil {
		w.t.Error(err)
	}
	return s
}

func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("it never came about that %s", what)
		}
	}
}

func (w *world) sessionsAreOf(key string) {
	w.t.Helper()
	w.eventually("sessions are the new key's", func() bool {
		for _, s := range w.snowflake.Sessions() {
			if s.Fingerprint != key {
				return false
			}
		}
		return true
	})
}

// queriesGoOn waits for as many answers as show that every worker has had some, by sessions of this key.
func (w *world) queriesGoOn(l *load, key string) {
	w.t.Helper()
	from := l.answered.Load()
	w.eventually("queries are answered", func() bool { return l.answered.Load() > from+20*workers })
	w.sessionsAreOf(key)
}

// onlyKeyIs likewise, and sees that one slot has this key, and the other none.
func (w *world) onlyKeyIs(l *load, key string) {
	w.t.Helper()
	w.queriesGoOn(l, key)
	slots := w.snowflake.Fingerprints(user)
	if slots != [2]string{key, ""} && slots != [2]string{"", key} {
		w.t.Errorf("the key in use is %s, the slots are %v", key, slots)
	}
}

// grace gives the sidecar, which refreshes each second, and the pool some seconds to follow.
const grace = "--grace=6s"

func TestRotation_FailsNoQuery(t *testing.T) {
	testenv.Heavy(t)
	w := newWorld(t)
	w.start("run", "--dir="+w.dir)
	l := w.load()
	w.onlyKeyIs(l, testkey.Key(0).Fingerprint())

	first := w.rotate(grace)
	if first.Result != "rotated" || first.Old != testkey.Key(0).Fingerprint() {
		t.Errorf("summary %+v", first)
	}
	w.onlyKeyIs(l, first.Fingerprint)

	// Killed while it waits; the next run completes it.
	p := w.start("rotate", grace)
	w.eventually("it waits", func() bool { return strings.Contains(p.said(), "waiting") })
	_ = p.Process.Kill()
	_ = p.Wait()
	second := w.rotate("--finish", grace)
	if second.Result != "finished" || second.Old != first.Fingerprint {
		t.Errorf("summary %+v", second)
	}
	w.onlyKeyIs(l, second.Fingerprint)

	// Two at once are one rotation.
	both := make(chan summary, 2)
	for range 2 {
		go func() { both <- w.rotate(grace) }()
	}
	a, b := <-both, <-both
	if a.Fingerprint != b.Fingerprint || a.Fingerprint == second.Fingerprint || a.Result != "rotated" && b.Result != "rotated" {
		t.Errorf("summaries %+v and %+v", a, b)
	}
	w.onlyKeyIs(l, a.Fingerprint)

	// A key that has leaked.
	leaked := w.rotate("--force-new", "--no-wait", "--grace=1h")
	if leaked.Result != "published" || leaked.Old != a.Fingerprint {
		t.Errorf("summary %+v", leaked)
	}
	w.sessionsAreOf(leaked.Fingerprint)
	if revoked := w.rotate("--finish", "--revoke-old"); revoked.Result != "finished" || revoked.Old != a.Fingerprint {
		t.Errorf("summary %+v", revoked)
	}
	w.onlyKeyIs(l, leaked.Fingerprint)

	l.stop()
	l.group.Wait()
	t.Logf("%d queries answered, %d failed", l.answered.Load(), l.failed.Load())
}

// A user whose login name is not its name, and a named key pair: one that is added, and one that is rotated.
func TestRotation_NamedKeyPairFailsNoQuery(t *testing.T) {
	testenv.Heavy(t)
	const name, login = `"Etl"`, "etl@corp.example"
	w := newWorld(t)
	w.snowflake.UnsetPublicKey(user, 1) // two users with one key cannot be rotated
	w.snowflake.CreateUserWithLogin(name, login)
	w.snowflake.SetPublicKey(name, 1, &testkey.Key(0).RSA().PublicKey)
	w.login = login
	w.environ = append(w.environ, "SNOWFLAKE_USER="+login)
	w.start("run", "--dir="+w.dir)
	l := w.load()
	w.queriesGoOn(l, testkey.Key(0).Fingerprint())

	time.Sleep(time.Second) // the age is by SSM's Date, which is in seconds
	old := testkey.Key(0).Fingerprint()
	for _, step := range []string{"added", "rotated", "rotated again, at an age that is reached"} {
		s := w.rotate("--key-pair=app", "--max-age=1ns", grace)
		if s.Result != "rotated" || s.Old != old {
			t.Fatalf("%s: summary %+v", step, s)
		}
		w.queriesGoOn(l, s.Fingerprint)
		old = s.Fingerprint
	}
	if young := w.rotate("--key-pair=app", "--max-age=30d"); young.Result != "young" || young.Fingerprint != old {
		t.Errorf("summary %+v", young)
	}
	if slots := w.snowflake.Fingerprints(name); slots != [2]string{} {
		t.Errorf("the slots have %v", slots)
	}

	l.stop()
	l.group.Wait()
	t.Logf("%d queries answered, %d failed", l.answered.Load(), l.failed.Load())
}
