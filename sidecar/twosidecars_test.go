package main

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

const otherParameter = "/other/key"

// Two sidecars with different keys in one directory would replace each other's for ever.
func TestTwoSidecars_SecondSourceIsRefused(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.ssm.Put(otherParameter, content(t, nextKey))
	first := k.run()
	before := k.snapshot()
	says := []string{"a sidecar that publishes " + arnOf(keyParameter) + " has locked " + k.dir, "a volume of its own", "--dir"}

	second := k.start("run", onDemand, "--key-parameter="+otherParameter)
	second.fails(badInput{name: "refused", class: keyfile.ClassLocked, says: says}, 0)
	second.signal(syscall.SIGHUP)
	second.fails(badInput{name: "refused again", class: keyfile.ClassLocked, says: says}, 1)
	k.do("once", "--key-parameter="+otherParameter).want(exitFailed, says...)
	k.untouched(before)
	if first.connect() != nil {
		t.Error("the first one's socket is gone")
	}

	first.end(syscall.SIGKILL) // the lock ends with the process, however it ends
	second.signal(syscall.SIGHUP)
	second.follows(fingerprint(t, nextFingerprint))
}

// Tasks that follow each other on one host share a volume for a while.
func TestTwoSidecars_SameSourceSharesDirectory(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	first := k.run()
	before := k.snapshot()
	second := k.run()
	k.do("once").want(exitDone, "unchanged")
	k.untouched(before)
	k.ssm.Put(keyParameter, content(t, nextKey))
	for _, p := range []*process{second, first} {
		p.signal(syscall.SIGHUP)
		p.follows(fingerprint(t, nextFingerprint))
		if n := p.count("refresh failed"); n > 0 {
			t.Errorf("%d refreshes failed:\n%s", n, &p.stderr)
		}
	}
}

// Neither sidecar is refused while SSM has answered none of them, and neither claims what is on disk.
func TestTwoSidecars_SameSourceMayStartTogether(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{
		"run": {"run", onDemand}, "once": {"once"}, "exec": {"exec", "--", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.must(publish.New(publish.Dir{Path: k.dir}).Status(keyfile.Status{Schema: keyfile.StatusSchema, Source: arnOf(otherParameter), CheckedAt: time.Now()})) // of a predecessor
			before := k.status()
			first := hanging(k)
			calls := len(k.calls(0))
			second := k.start(command...)
			second.eventually("a call of its own", func() bool { return len(k.calls(calls)) > 0 })
			if s := k.status(); !reflect.DeepEqual(s, before) {
				t.Errorf("the status was %+v and is %+v", before, s)
			}
			for _, p := range []*process{first, second} {
				p.end(syscall.SIGTERM)
				if said := p.stderr.String(); strings.Contains(said, "has locked") {
					t.Errorf("it said:\n%s", said)
				}
			}
		})
	}
}

// The spelling of a source does not say which key it is: the same name in two Regions, and SECRET_KEY twice.
func TestTwoSidecars_SourcesSpelledAlike(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]func(t *testing.T) (first, second *task){
		"SECRET_KEY twice": func(t *testing.T) (first, second *task) {
			first, second = fromEnvironment(t), fromEnvironment(t)
			second.env["SECRET_KEY"] = content(t, nextKey)
			return first, second
		},
		"one name in two Regions": func(t *testing.T) (first, second *task) {
			elsewhere := localssm.New(localssm.WithRegion("eu-central-1"))
			elsewhere.Put(keyParameter, content(t, nextKey))
			elsewhere.Put(passParameter, passphrase)
			other := httptest.NewServer(elsewhere)
			t.Cleanup(other.Close)
			first, second = newTask(t), newTask(t)
			second.env["AWS_REGION"], second.env["AWS_ENDPOINT_URL_SSM"] = "eu-central-1", other.URL
			return first, second
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := of(t)
			two.dir = one.dir
			first := one.run()
			before := one.snapshot()
			second := two.start("run", "--interval=1s")
			second.eventually("refused twice", func() bool { return second.count("refresh failed") > 1 })
			if says := second.last("refresh failed").Error; !strings.Contains(says, "has locked") {
				t.Errorf("it says %q", says)
			}
			first.refresh()
			one.untouched(before)
			first.end(syscall.SIGTERM)
			second.follows(fingerprint(t, nextFingerprint))
		})
	}
}

// What another source left on a volume is no key of this task's: not for CMD, and not for /readyz.
func TestVolume_KeyOfAnotherSource(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("once").want(exitDone, "published")
	left := k.snapshot()["rsa_key.der"].ModTime()
	k.do("exec", "--key-parameter=/app/missing", "--", "/bin/echo", "CMD ran").want(exitRefused, "no parameter /app/missing", "CMD was not started")
	if s := k.status(); s.Fingerprint != "" || !s.CheckedAt.IsZero() || s.LastError == nil {
		t.Errorf("status %+v", s)
	}
	k.env["SNOWKEY_METRICS_ADDR"] = freeAddress(t)
	run := k.start("run", onDemand, "--key-parameter=/app/missing")
	run.eventually("a failure", func() bool { return run.count("refresh failed") > 0 })
	run.serves("/readyz", http.StatusServiceUnavailable, "no key from /app/missing")
	if now := k.snapshot()["rsa_key.der"].ModTime(); !now.Equal(left) {
		t.Error("the other source's key was written again")
	}
	k.ssm.Put("/app/missing", content(t, nextKey))
	run.refresh()
	run.follows(fingerprint(t, nextFingerprint))
	run.eventually("it is ready", func() bool { status, _ := run.get("/readyz"); return status == http.StatusOK })
}

// As many signals as a process can send are no more refreshes than connections cause.
func TestRun_SignalFloodIsLimited(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	delete(k.env, testSignalGap)
	run := k.run()
	calls := len(k.ssm.Calls())
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		run.signal(syscall.SIGHUP)
	}
	run.eventually("a refresh", func() bool { return len(k.calls(calls)) > 0 })
	if n := len(k.calls(calls)); n != 1 {
		t.Errorf("%d calls in two seconds of signals", n)
	}
}
