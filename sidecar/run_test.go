package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// hang makes SSM accept every call and answer none.
func hang(k *task) {
	k.ssm.Intercept(func(localssm.Call) *localssm.Fault { return &localssm.Fault{Delay: time.Hour} })
}

// calls are those to SSM since the first so many.
func (k *task) calls(since int) []localssm.Call { return k.ssm.Calls()[since:] }

// connect requests a refresh, as a reader does.
func (k *task) connect() error {
	conn, err := net.Dial("unix", filepath.Join(k.dir, keyfile.RefreshSocketName))
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestRun_PublishesAtOnceAndFollowsWithinTheInterval(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	began := time.Now()
	run := k.start("run", "--interval=10s")
	run.follows(fingerprint(t, oldFingerprint))
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("%v until the first key: that is no `at once`", took)
	}
	k.ssm.Put(keyParameter, content(t, nextKey))
	changed := time.Now()
	run.follows(fingerprint(t, nextFingerprint))
	if took := time.Since(changed); took > 18*time.Second {
		t.Errorf("%v until the next key with an interval of 10s", took)
	}

	run.eventually("the log says so twice", func() bool { return run.count("key published") == 2 })
	published := run.last("key published")
	if published.Fingerprint != fingerprint(t, nextFingerprint) || published.Version != "2" {
		t.Errorf("the log says %+v", published)
	}
	if out := run.stdout.String(); out != "" {
		t.Errorf("stdout has %q", out)
	}
}

func TestRun_IsTheDefaultCommand(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.start(onDemand)
	p.follows(fingerprint(t, oldFingerprint))
	k.ssm.Put(keyParameter, content(t, nextKey))
	p.refresh()
	p.follows(fingerprint(t, nextFingerprint))
	p.end(syscall.SIGTERM)
	p.want(exitDone)
}

func TestRefresh_UnchangedKeyIsNeitherDecryptedNorWritten(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	run := k.run()
	run.refresh()
	run.eventually("says that it published", func() bool { return strings.Contains(run.stderr.String(), "key published") })
	before, calls, decrypts, said := k.snapshot(), len(k.ssm.Calls()), k.ssm.Decrypts(), run.stderr.String()
	for range 5 {
		run.refresh()
	}
	if n := k.ssm.Decrypts() - decrypts; n != 0 {
		t.Errorf("%d values decrypted", n)
	}
	if made := k.calls(calls); len(made) != 5 {
		t.Errorf("%d calls for 5 refreshes: %v", len(made), made)
	}
	for _, c := range k.calls(0) {
		if c.Action != "GetParameters" || len(c.Names) != 2 {
			t.Errorf("key and passphrase do not come in one call: %v", c)
		}
	}
	k.untouched(before)
	if now := run.stderr.String(); now != said {
		t.Errorf("it said:\n%s", strings.TrimPrefix(now, said))
	}
}

func TestRefresh_KeyAndPassphraseChangeInTurn(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	run := k.run()
	before := k.snapshot()

	k.ssm.Put(keyParameter, content(t, nextKeyOfNext))
	run.signal(syscall.SIGHUP)
	run.fails(badInput{name: "between two changes", class: keyfile.ClassPassphrase}, 0)
	if level := run.last("refresh failed").Level; level != "WARN" {
		t.Errorf("between two changes the log has level %s", level)
	}
	k.untouched(before)

	k.ssm.Put(passParameter, nextPassphrase)
	run.signal(syscall.SIGHUP)
	run.follows(fingerprint(t, nextFingerprint))
}

// After an outage the sidecar recovers without a request.
func TestRun_RecoversByItself(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	run := k.run("--interval=1h")
	before := k.snapshot()
	k.ssm.Delete(keyParameter)
	run.signal(syscall.SIGHUP)
	run.eventually("it tries again by itself", func() bool { return run.count("refresh failed") > 1 })
	k.untouched(before)
	k.ssm.Put(keyParameter, content(t, nextKey))
	run.follows(fingerprint(t, nextFingerprint))
	run.eventually("the log says so", func() bool { return run.count("recovered") == 1 })
}

func TestSocket_ConnectionTriggersARefresh(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	run := k.run()
	k.ssm.Put(keyParameter, content(t, nextKey))
	run.eventually("the socket is there", func() bool { return run.connect() == nil })
	run.follows(fingerprint(t, nextFingerprint))
}

func TestSocket_ManyConnectionsAreOneRefresh(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	run := k.run()
	run.eventually("the socket is there", func() bool {
		info, err := os.Stat(filepath.Join(k.dir, keyfile.RefreshSocketName))
		return err == nil && info.Mode().Perm() == 0o660
	})
	calls := len(k.ssm.Calls())
	for range 50 {
		if err := run.connect(); err != nil {
			t.Fatal(err)
		}
	}
	run.eventually("a refresh", func() bool { return len(k.calls(calls)) > 0 })
	time.Sleep(300 * time.Millisecond)
	if n := len(k.calls(calls)); n != 1 {
		t.Errorf("50 connections caused %d refreshes at once", n)
	}
}

func TestRefresh_RestoresAMissingFile(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*task){
		"nothing else wrong": func(*task) {},
		"SSM denies":         func(k *task) { k.ssm.DenyParameter(keyParameter) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			run := k.run()
			decrypts := k.ssm.Decrypts()
			meanwhile(k)
			for _, file := range []string{"rsa_key.der", "rsa_key.pem"} {
				k.must(os.Remove(filepath.Join(k.dir, file)))
				k.do("healthcheck").want(exitFailed, file)
				run.refresh()
				k.do("healthcheck").want(exitDone)
			}
			if k.ssm.Decrypts() != decrypts {
				t.Error("a value was decrypted, though nothing has changed in SSM")
			}
		})
	}
}

func TestRefresh_RestoresAChangedFile(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	run := k.run()
	path := filepath.Join(k.dir, "rsa_key.pem")
	good := content(t, path)
	k.must(os.Chmod(path, 0o600))
	k.must(os.WriteFile(path, []byte("nonsense"), 0o600))
	run.refresh()
	if content(t, path) != good {
		t.Error("it still has another content")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o440 {
		t.Errorf("it still has another mode: %v %v", info, err)
	}
}

// These are not parallel: what a second is should not depend on the tests beside.
func TestRun_SignalEndsItWithinASecond(t *testing.T) {
	for _, tc := range []struct {
		name   string
		signal syscall.Signal
		start  func(*task) *process
	}{
		{"SIGTERM while it waits", syscall.SIGTERM, func(k *task) *process { return k.run() }},
		{"SIGINT while it waits", syscall.SIGINT, func(k *task) *process { return k.run() }},
		{"SIGTERM while SSM hangs", syscall.SIGTERM, hanging},
		{"SIGTERM while a later refresh hangs", syscall.SIGTERM, func(k *task) *process {
			run := k.run()
			calls := len(k.ssm.Calls())
			hang(k)
			run.signal(syscall.SIGHUP)
			run.eventually("a call", func() bool { return len(k.calls(calls)) > 0 })
			return run
		}},
		{"SIGTERM between failures", syscall.SIGTERM, func(k *task) *process {
			k.ssm.Delete(keyParameter)
			run := k.start("run")
			run.eventually("a failure", func() bool { return run.count("refresh failed") > 0 })
			return run
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newTask(t)
			run := tc.start(k)
			began := time.Now()
			run.end(tc.signal)
			if took := time.Since(began); took > 10*time.Second { // a call to SSM may take 20
				t.Errorf("it took %v", took)
			}
			run.want(exitDone)
			if _, err := os.Lstat(filepath.Join(k.dir, keyfile.RefreshSocketName)); err == nil {
				t.Error("the socket was left behind")
			}
		})
	}
}

// hanging is `run` whose first call is not answered.
func hanging(k *task) *process {
	hang(k)
	run := k.start("run")
	run.eventually("a call", func() bool { return len(k.calls(0)) > 0 })
	return run
}

func TestRun_StopLogsNoFailure(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	run := hanging(k)
	run.end(syscall.SIGTERM)
	run.want(exitDone)
	for _, l := range run.log() {
		if l.Level != "INFO" {
			t.Errorf("it said:\n%s", &run.stderr)
		}
	}
}

func TestSocket_FileInItsPlaceDisablesOnlyTheSocket(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	path := filepath.Join(k.dir, keyfile.RefreshSocketName)
	k.must(os.WriteFile(path, []byte("somebody else's"), 0o600))
	run := k.run()
	run.refresh()
	run.refresh()
	run.follows(fingerprint(t, oldFingerprint))
	const warning = "refresh.sock is unavailable; send SIGHUP to refresh"
	run.eventually("a warning", func() bool { return run.count(warning) > 0 })
	if says := run.last(warning).Error; run.count(warning) != 1 || !strings.Contains(says, "refresh.sock is not a socket; remove it") {
		t.Errorf("%d warnings for 3 refreshes, the last %q", run.count(warning), says)
	}
	run.end(syscall.SIGTERM)
	if content(t, path) != "somebody else's" {
		t.Error("the file is another now")
	}

	k.must(os.Remove(path))
	run = k.run()
	run.eventually("the socket is there", func() bool { return run.connect() == nil })
}

// kill -9 comes at any moment of a write. A reader still finds a whole key, and the successor cleans up.
func TestRun_KillLeavesAWholeKey(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.publish()
	keys := []string{content(t, nextKey), content(t, oldKey)}
	for i := range 10 {
		run := k.run()
		k.ssm.Put(keyParameter, keys[i%2])
		run.signal(syscall.SIGHUP)
		time.Sleep(time.Duration(i) * 2 * time.Millisecond)
		run.end(syscall.SIGKILL)
		for _, name := range []string{"rsa_key.der", "rsa_key.pem"} {
			_, err := keyfile.Read(filepath.Join(k.dir, name))
			k.must(err)
		}
	}

	k.must(os.WriteFile(filepath.Join(k.dir, ".snowkey-LEFTOVER"), []byte("half a key"), 0o600))
	k.must(os.WriteFile(filepath.Join(k.dir, "somebody-elses"), []byte("file"), 0o600))
	run := k.run()
	names := map[string]bool{}
	for name := range k.snapshot() {
		names[name] = true
	}
	if fmt.Sprint(names) != "map[rsa_key.der:true rsa_key.pem:true somebody-elses:true]" {
		t.Errorf("the successor leaves %v", names)
	}
	run.eventually("it has replaced the socket", func() bool { return run.connect() == nil })
}

func TestRun_DoesNotRewriteAPredecessorsKey(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("once").want(exitDone)
	before, first := k.snapshot(), k.status()
	run := k.run()
	k.untouched(before)
	if now := k.status().PublishedAt; !now.Equal(first.PublishedAt) {
		t.Errorf("published_at went from %v to %v", first.PublishedAt, now)
	}
	if n := run.count("key published"); n != 0 {
		t.Errorf("the log says %d times that it was published", n)
	}
}

func TestRun_IsReadyWhenAKeyIsOnDisk(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.env["SNOWKEY_METRICS_ADDR"] = freeAddress(t)
	k.ssm.DenyParameter(passParameter)
	run := k.start("run", onDemand)
	run.eventually("a failure", func() bool { return run.count("refresh failed") > 0 })
	run.serves("/livez", http.StatusOK, "ok")
	run.serves("/readyz", http.StatusServiceUnavailable, "no key from /app/key")

	k.heal()
	run.signal(syscall.SIGHUP)
	run.follows(fingerprint(t, oldFingerprint))
	run.serves("/livez", http.StatusOK, "ok")
	run.becomesReady()
	run.serves("/readyz", http.StatusOK, "ok")
	run.eventually("the refresh is counted", func() bool {
		_, body := run.get("/metrics")
		return strings.Contains(body, `snowkey_refreshes_total{outcome="ok"} 1`)
	})
	run.serves("/metrics", http.StatusOK, `snowkey_refreshes_total{outcome="access_denied"}`, "snowkey_publishes_total 1",
		"snowkey_last_success_timestamp_seconds 1", "snowkey_key_published_timestamp_seconds 1", "snowkey_build_info{goversion=")
	run.serves("/", http.StatusNotFound)

	k.do("run").want(exitFailed, "--metrics-addr", "address already in use")
}

// becomesReady waits: that it is not ready is remembered for a moment.
func (p *process) becomesReady() {
	p.t.Helper()
	p.eventually("ready", func() bool {
		status, _ := p.get("/readyz")
		return status == http.StatusOK
	})
}

func (p *process) serves(path string, status int, says ...string) {
	p.t.Helper()
	got, body := p.get(path)
	if got != status {
		p.t.Errorf("%s answers %d %s, want %d", path, got, body, status)
	}
	for _, words := range says {
		if !strings.Contains(body, words) {
			p.t.Errorf("%s: no %q in:\n%s", path, words, body)
		}
	}
}

func TestSecretKey_NeedsNoAWS(t *testing.T) {
	t.Parallel()
	k := fromEnvironment(t)
	k.do("once").want(exitDone, "published "+fingerprint(t, oldFingerprint))
	if s := k.status(); s.Source != "SECRET_KEY "+fingerprint(t, oldFingerprint) || s.Fingerprint != fingerprint(t, oldFingerprint) {
		t.Errorf("status %+v", s)
	}

	run := k.run()
	k.must(os.Remove(filepath.Join(k.dir, "rsa_key.der")))
	run.refresh()
	k.do("healthcheck").want(exitDone)
	run.end(syscall.SIGTERM)
	run.want(exitDone)
	if calls := k.calls(0); len(calls) > 0 {
		t.Errorf("SSM was called: %v", calls)
	}
}

// fromEnvironment is a task that has its key the way ECS `secrets` hands it over, and nothing of AWS.
func fromEnvironment(t *testing.T) *task {
	k := newTask(t)
	k.withoutAWS()
	k.env["SECRET_KEY"] = content(t, oldKey)
	k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase
	return k
}

// A key in the environment cannot change: `run` ends at once, so that the task fails visibly.
func TestSecretKey_UnusableKeyEndsTheProcess(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(*task)
		says  []string
	}{
		"wrong passphrase": {set("PRIVATE_KEY_PASSPHRASE", wrongPassphrase), []string{"passphrase does not open the key"}},
		"no passphrase":    {unset("PRIVATE_KEY_PASSPHRASE"), []string{"no passphrase was given", "PRIVATE_KEY_PASSPHRASE"}},
		"cut off":          {set("SECRET_KEY", "-----BEGIN PRIVATE KEY-----\n"+notAKey), []string{"no END PRIVATE KEY line"}},
		"its ARN":          {set("SECRET_KEY", "arn:aws:ssm:us-east-1:123456789012:parameter/app/key"), []string{"only names a key", "ECS takes an ARN under secrets"}},
		"empty":            {set("SECRET_KEY", " \n"), []string{"the value is empty"}},
		"too long":         {set("SECRET_KEY", strings.Repeat(notAKey, 1000)[:70000]), []string{"the value has 70000 bytes"}},
		"EC":               {func(k *task) { k.env["SECRET_KEY"] = content(k.t, "internal/decrypt/testdata/ec.pem") }, []string{"RSA only"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := fromEnvironment(t)
			k.publish()
			before := k.snapshot()
			tc.spoil(k)
			k.do("once").want(exitRefused, tc.says...)
			k.do("run").want(exitFailed, append(tc.says, "sidecar: SECRET_KEY: ")...)
			k.untouched(before)
		})
	}
}

func TestLog_OneObjectPerLine(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	run := k.run()
	k.ssm.Delete(keyParameter)
	run.signal(syscall.SIGHUP)
	run.eventually("a failure", func() bool { return run.count("refresh failed") > 0 })
	run.end(syscall.SIGTERM)
	for text := range strings.Lines(run.stderr.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(text), &entry); err != nil || entry["time"] == nil || entry["level"] == nil || entry["msg"] == nil {
			t.Errorf("not a line of the log: %s", text)
		}
		if entry["msg"] != "refresh failed" {
			continue
		}
		if entry["class"] != "not_found" || !strings.HasSuffix(entry["error"].(string), "/app/key in us-east-1") || !strings.HasPrefix(entry["advice"].(string), "create it there") {
			t.Errorf("what happened, its class, and what to do are not apart: %s", text)
		}
	}
}
