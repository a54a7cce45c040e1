package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// several is a task of these keys, which share a passphrase. Key NAME is in the parameter /NAME/key.
func several(t *testing.T, names ...string) *task {
	t.Helper()
	k := newTask(t)
	delete(k.env, "SNOWKEY_KEY_PARAMETER")
	delete(k.env, "SNOWKEY_PASSPHRASE_PARAMETER")
	lines := []string{"# the keys of this task", ""}
	for _, name := range names {
		k.ssm.Put("/"+name+"/key", content(t, oldKey))
		lines = append(lines, fmt.Sprintf(" name=%s, key-parameter=/%[1]s/key, passphrase-parameter=%s", name, passParameter))
	}
	k.env["SNOWKEY_KEYS"] = strings.Join(lines, "\n") + "\n"
	return k
}

// of is the task as the reader of one key sees it: its directory, and nothing else.
func (k *task) of(name string) *task {
	one := *k
	one.dir = filepath.Join(k.dir, name)
	return &one
}

// holds reports whether all of these keys are on disk with this fingerprint, and their status says so.
func (k *task) holds(fingerprint string, names ...string) bool {
	for _, name := range names {
		key, err := keyfile.Read(filepath.Join(k.dir, name, "rsa_key.pem"))
		if err != nil || key.Fingerprint() != fingerprint || k.of(name).status().Fingerprint != fingerprint {
			return false
		}
	}
	return true
}

func TestSeveralKeys_EachHasADirectory(t *testing.T) {
	t.Parallel()
	k := several(t, "etl", "report")
	k.must(os.Chmod(k.dir, 0o750))
	run := k.start("run", onDemand)
	run.eventually("both", func() bool { return k.holds(fingerprint(t, oldFingerprint), "etl", "report") })
	if calls := k.calls(0); len(calls) != 1 || len(calls[0].Names) != 3 {
		t.Errorf("not one call for three names: %v", calls)
	}

	// A refresh that finds nothing new is one call that decrypts nothing.
	calls, decrypts := len(k.ssm.Calls()), k.ssm.Decrypts()
	run.signal(syscall.SIGHUP)
	run.eventually("a refresh", func() bool { return len(k.ssm.Calls()) > calls })
	if k.ssm.Decrypts() != decrypts || len(k.calls(calls)) != 1 {
		t.Errorf("%v, %d decrypted", k.calls(calls), k.ssm.Decrypts()-decrypts)
	}
	for _, name := range []string{"etl", "report"} {
		one := k.of(name)
		if info, err := os.Stat(one.dir); err != nil || info.Mode() != os.ModeDir|0o750 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		if s := one.status(); s.Source != arnOf("/"+name+"/key") || s.Version != "1" || s.LastError != nil {
			t.Errorf("%s: status %+v", name, s)
		}
		run.eventually(name+" has a socket", func() bool { return one.connect() == nil })
	}
	if left := k.snapshot(); len(left) != 2 {
		t.Errorf("and beside them: %v", left)
	}
	k.ssm.Put("/report/key", content(t, nextKey))
	before, err := os.Stat(filepath.Join(k.dir, "etl", "rsa_key.der"))
	k.must(err)
	run.signal(syscall.SIGHUP)
	run.eventually("one of them changes", func() bool { return k.holds(fingerprint(t, nextFingerprint), "report") })
	if after, err := os.Stat(filepath.Join(k.dir, "etl", "rsa_key.der")); err != nil || !os.SameFile(before, after) {
		t.Errorf("the other was written again: %v", err)
	}
	if s := run.stderr.String(); !strings.Contains(s, `"keys":["etl","report"]`) || !strings.Contains(s, `"key":"report"`) {
		t.Errorf("the log does not name the keys:\n%s", s)
	}
}

func TestSeveralKeys_EachSocketTriggersARefresh(t *testing.T) {
	t.Parallel()
	k := several(t, "etl", "report")
	run := k.start("run", onDemand)
	run.eventually("both", func() bool { return k.holds(fingerprint(t, oldFingerprint), "etl", "report") })
	k.ssm.Put("/etl/key", content(t, nextKey))
	run.eventually("a connection", func() bool { return k.of("report").connect() == nil })
	run.eventually("a refresh", func() bool { return k.holds(fingerprint(t, nextFingerprint), "etl") })
}

// Each fault of one key, and what `once` says about it.
func TestSeveralKeys_BadKeyDelaysNoOther(t *testing.T) {
	t.Parallel()
	for _, bad := range []badInput{
		{"no parameter", func(k *task) { k.ssm.Delete("/bad/key") }, exitRefused, keyfile.ClassNotFound, []string{"key bad: no parameter /bad/key"}},
		{"no permission", func(k *task) { k.ssm.DenyParameter("/bad/key") }, exitRefused, keyfile.ClassAccessDenied, []string{"key bad: AccessDenied", "parameter/bad/key"}},
		{"no kms:Decrypt", func(k *task) { k.ssm.DenyDecrypt("/bad/key") }, exitRefused, keyfile.ClassKMS, []string{"key bad: ", "kms:Decrypt"}},
		{"a disabled KMS key", func(k *task) { k.ssm.DisableKMSKey("/bad/key") }, exitRefused, keyfile.ClassKMS, []string{"key bad: ", "is disabled"}},
		{"no key", put("/bad/key", notAKey), exitRefused, keyfile.ClassUnreadableKey, []string{"key bad: ", "neither PEM nor base64"}},
		{"another passphrase", func(k *task) { k.ssm.Put("/bad/key", content(k.t, nextKeyOfNext)) }, exitRefused, keyfile.ClassPassphrase, []string{"key bad: ", "does not open"}},
		{"a directory that is none", func(k *task) { k.must(os.WriteFile(filepath.Join(k.dir, "bad"), nil, 0o600)) }, exitFailed, "", []string{"key bad: ", "is not a directory"}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			k := several(t, "bad", "etl", "report")
			bad.spoil(k)
			once := k.do("once")
			once.want(bad.exit, bad.says...)
			if out := once.stdout.String(); strings.Count(out, "\n") != 2 || strings.Count(out, "published ") != 2 {
				t.Errorf("stdout has %q", out)
			}
			if !k.holds(fingerprint(t, oldFingerprint), "etl", "report") {
				t.Error("the good keys are not on disk")
			}
			for _, name := range []string{"etl", "report"} {
				if s := k.of(name).status(); s.LastError != nil {
					t.Errorf("%s: status %+v", name, s)
				}
			}
			if bad.class != "" {
				if s := k.of("bad").status(); s.LastError == nil || s.LastError.Class != bad.class {
					t.Errorf("status of the bad key: %+v", s)
				}
			}
			k.do("healthcheck").want(exitFailed, "unhealthy", "key bad: ")

			// And in one process: the others go on following.
			k.ssm.Put("/etl/key", content(t, nextKey))
			run := k.start("run", onDemand)
			run.eventually("a good key changes", func() bool { return k.holds(fingerprint(t, nextFingerprint), "etl") })
			k.ssm.ClearFaults()
			k.ssm.Put("/bad/key", content(t, oldKey))
			if bad.class == "" {
				k.must(os.Remove(filepath.Join(k.dir, "bad")))
			}
			run.signal(syscall.SIGHUP)
			run.eventually("the bad one is mended", func() bool { return k.holds(fingerprint(t, oldFingerprint), "bad") })
			k.do("healthcheck").want(exitDone)
			if n := run.count("refresh failed"); n < 1 || strings.Contains(run.stderr.String(), `"msg":"refresh failed","key":"etl"`) {
				t.Errorf("%d failures in the log:\n%s", n, &run.stderr)
			}
		})
	}
}

func TestSeveralKeys_OnceCountsTheFailures(t *testing.T) {
	t.Parallel()
	k := several(t, "a", "b", "c")
	k.ssm.Delete("/a/key")
	k.ssm.Delete("/c/key")
	k.do("once").want(exitRefused, "2 of 3 keys failed:\n  - key a: no parameter /a/key", "SecureString, or correct --key-parameter or --passphrase-parameter\n  - key c: no parameter /c/key", "published")
	k.ssm.Throttle(1000)
	k.do("once").want(exitFailed, "3 of 3 keys failed:", "key b: ", "Rate exceeded")
}

// firstAttempts are the calls since then, without the SDK's own retries.
func (k *task) firstAttempts(since int) []localssm.Call {
	return slices.DeleteFunc(k.calls(since), func(c localssm.Call) bool { return c.Again })
}

// One key that AWS refuses costs one more call per refresh, not one for each key.
func TestSeveralKeys_RefusedKeyIsFetchedAlone(t *testing.T) {
	t.Parallel()
	k := several(t, "a", "b", "c", "bad")
	k.ssm.DenyParameter("/bad/key")
	run := k.start("run", onDemand)
	run.eventually("the good ones", func() bool { return k.holds(fingerprint(t, oldFingerprint), "a", "b", "c") })
	k.ssm.Put("/a/key", content(t, nextKey))
	calls := len(k.ssm.Calls())
	run.signal(syscall.SIGHUP)
	run.eventually("a refresh", func() bool { return k.holds(fingerprint(t, nextFingerprint), "a") })
	together := 0
	for _, c := range k.firstAttempts(calls) {
		switch {
		case slices.Contains(c.Names, "/bad/key") && len(c.Names) > 2:
			t.Errorf("the refused key was in a call with others: %v", c.Names)
		case !slices.Contains(c.Names, "/bad/key"):
			together++
		}
	}
	if together != 2 { // what changed, and then its value
		t.Errorf("%d calls for the good keys: %v", together, k.firstAttempts(calls))
	}
}

func TestSeveralKeys_Health(t *testing.T) {
	t.Parallel()
	k := several(t, "etl", "report")
	k.env["SNOWKEY_METRICS_ADDR"] = freeAddress(t)
	k.do("healthcheck").want(exitFailed, "no sidecar has published here")
	k.ssm.Delete("/report/key")
	keys := k.env["SNOWKEY_KEYS"]
	delete(k.env, "SNOWKEY_KEYS")
	var args []string // as flags, which the health check does not see
	for line := range strings.Lines(keys) {
		if strings.Contains(line, "name=") {
			args = append(args, "--key="+strings.TrimSpace(line))
		}
	}
	k.do("healthcheck").want(exitFailed, "unhealthy")
	run := k.start(append([]string{"run", onDemand}, args...)...)
	run.eventually("one", func() bool { return k.holds(fingerprint(t, oldFingerprint), "etl") })
	k.do("healthcheck").want(exitFailed, "key report: no key from ")
	k.do("healthcheck", "--dir="+filepath.Join(k.dir, "etl")).want(exitDone)
	k.do("healthcheck", "--dir="+filepath.Join(k.dir, "report")).want(exitFailed, "no key from ")
	if status, body := run.get("/readyz"); status != 503 || !strings.Contains(body, "no key from /report/key") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	_, metrics := run.get("/metrics")
	for _, want := range []string{`snowkey_publishes_total{key="etl"} 1`, `snowkey_publishes_total{key="report"} 0`, `snowkey_refreshes_total{key="report",outcome="not_found"}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}

	k.ssm.Put("/report/key", content(t, oldKey))
	run.eventually("both, without a request", func() bool { return k.holds(fingerprint(t, oldFingerprint), "etl", "report") })
	k.do("healthcheck").want(exitDone)
	run.becomesReady()
	k.env["SNOWKEY_KEYS"] = keys
	k.do("healthcheck").want(exitDone)
	k.ssm.Delete("/report/key")
	run.signal(syscall.SIGHUP)
	run.eventually("a failure", func() bool { return k.of("report").status().LastError != nil })
	k.do("healthcheck").want(exitDone, "key report: "+fingerprint(t, oldFingerprint)+" is published; the refresh at ", "not_found")
	k.do("healthcheck", "--dir="+filepath.Join(k.dir, "etl")).want(exitDone)
	run.end(syscall.SIGTERM) // which would put the directory back
	k.must(os.RemoveAll(filepath.Join(k.dir, "report")))
	k.do("healthcheck", "--dir="+filepath.Join(k.dir, "etl")).want(exitDone)
	k.do("healthcheck").want(exitFailed, "/report/status.json")
}

// A volume that outlives its tasks has what a sidecar of one key left there, maybe in a directory whose name
// is now a key's.
func TestSeveralKeys_HealthIgnoresAFormerTask(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("once").want(exitDone)
	name := filepath.Base(k.dir)
	later := several(t, name)
	later.dir = k.dir
	later.ssm.Delete("/" + name + "/key")
	later.do("once").want(exitRefused)
	later.do("healthcheck").want(exitFailed, "key "+name+": no key from ")
}

// A key's directory needs other advice than a volume.
func TestSeveralKeys_DirectoryOfAnotherUser(t *testing.T) {
	t.Parallel()
	k := several(t, "bad", "etl")
	k.unprivileged()
	k.must(os.Mkdir(filepath.Join(k.dir, "bad"), 0o500))
	k.do("once").want(exitFailed, "key bad: ", "permission denied; remove the directory, which the sidecar creates again, or chown it to ", "published")
	k.must(os.Remove(filepath.Join(k.dir, "bad")))
	k.do("once").want(exitDone, "published", "unchanged")
}

func TestSeveralKeys_RemovedDirectoryIsRestored(t *testing.T) {
	t.Parallel()
	k := several(t, "etl")
	run := k.start("run", onDemand)
	run.eventually("all that a first refresh makes", func() bool {
		_, err := os.Lstat(filepath.Join(k.of("etl").dir, "refresh.sock"))
		return err == nil && k.holds(fingerprint(t, oldFingerprint), "etl")
	})
	k.must(os.RemoveAll(k.of("etl").dir))
	k.ssm.Throttle(1000)
	run.signal(syscall.SIGHUP)
	run.eventually("it is back", func() bool { return k.holds(fingerprint(t, oldFingerprint), "etl") })
}

func TestTwoSidecars_ShareAVolumeButNoKeyDirectory(t *testing.T) {
	t.Parallel()
	k := several(t, "etl")
	first := k.start("run", onDemand)
	first.eventually("it", func() bool { return k.holds(fingerprint(t, oldFingerprint), "etl") })
	k.ssm.Put("/other/key", content(t, nextKey))
	delete(k.env, "SNOWKEY_KEYS")
	k.do("once", "--key=name=etl,key-parameter=/other/key,passphrase-parameter="+passParameter,
		"--key=name=report,key-parameter=/other/key,passphrase-parameter="+passParameter).
		want(exitFailed, "key etl: a sidecar that publishes "+arnOf("/etl/key")+" has locked", "published")
	if !k.holds(fingerprint(t, oldFingerprint), "etl") || !k.holds(fingerprint(t, nextFingerprint), "report") {
		t.Error("the wrong key was replaced, or the right one was not")
	}
}

func TestSeveralKeys_EachIsVerifiedForItsUser(t *testing.T) {
	t.Parallel()
	k, account := verified(t)
	account.CreateUser("reporter")
	key, err := keyfile.Read("testdata/next.pem")
	k.must(err)
	account.SetPublicKey("reporter", 1, &key.RSA().PublicKey)
	k.ssm.Put("/report/key", content(t, nextKey))
	delete(k.env, "SNOWKEY_KEY_PARAMETER")
	delete(k.env, "SNOWKEY_PASSPHRASE_PARAMETER")
	keys := "name=etl,key-parameter=" + keyParameter + ",passphrase-parameter=" + passParameter +
		"\nname=report,key-parameter=/report/key,passphrase-parameter=" + passParameter
	k.env["SNOWKEY_KEYS"] = keys
	k.do("once").want(exitRefused, "key report: Snowflake refuses the key", "user svc", "published "+fingerprint(t, oldFingerprint))
	k.env["SNOWKEY_KEYS"] = keys + ",user=reporter"
	k.do("once").want(exitDone, "unchanged "+fingerprint(t, oldFingerprint), "published "+fingerprint(t, nextFingerprint))
	delete(k.env, "SNOWFLAKE_USER")
	k.do("once").want(exitUsage, "account= and user= of key etl")
	k.env["SNOWKEY_KEYS"] = strings.Replace(keys, "\n", ",user=svc\n", 1) + ",user=reporter,account=local"
	k.do("once").want(exitDone)
}

// A Snowflake that hangs for one key does not keep the other from its readers.
func TestSeveralKeys_SlowSnowflakeDelaysNoOther(t *testing.T) {
	t.Parallel()
	verifying, account := verified(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, payload, _ := strings.Cut(r.Header.Get("Authorization"), ".")
		payload, _, _ = strings.Cut(payload, ".")
		if claims, _ := base64.RawURLEncoding.DecodeString(payload); strings.Contains(string(claims), "LOCAL.SLOW") {
			_, _ = io.Copy(io.Discard, r.Body) // without which the server does not notice that the client goes
			<-r.Context().Done()
			return
		}
		account.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	k := several(t, "etl", "slow")
	for name, value := range verifying.env {
		if strings.HasPrefix(name, "SNOWFLAKE_") {
			k.env[name] = value
		}
	}
	k.env["SNOWFLAKE_HOST"], k.env["SNOWFLAKE_PORT"], _ = strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	k.env["SNOWKEY_VERIFY"] = "true"
	k.env["SNOWKEY_KEYS"] = strings.TrimSpace(k.env["SNOWKEY_KEYS"]) + ",user=slow"
	run := k.start("run", onDemand)
	run.eventually("the other", func() bool { return k.holds(fingerprint(t, oldFingerprint), "etl") })
	if run.count("refresh failed") > 0 || k.of("slow").status().Fingerprint != "" {
		t.Errorf("it did not wait:\n%s", &run.stderr)
	}
	run.end(syscall.SIGTERM)
	run.want(exitDone)
}

func TestSeveralKeys_Exec(t *testing.T) {
	t.Parallel()
	k := several(t, "etl", "report")
	k.ssm.Throttle(1) // what may pass is waited for
	k.env["SNOWKEY_ON_CHANGE"] = "SIGUSR1"
	p := k.start("exec", onDemand, "--", "sh", "-c",
		`trap 'echo changed' USR1; test -s "$SNOWKEY_DIR/etl/rsa_key.der" && test -s "$SNOWKEY_DIR/report/rsa_key.der" && echo both; while :; do sleep 0.05; done`)
	said := func(text string) func() bool { return func() bool { return p.stdout.String() == text } }
	p.eventually("CMD starts with both keys", said("both\n"))
	k.ssm.Put("/report/key", content(t, nextKey))
	p.eventually("a connection", func() bool { return k.of("etl").connect() == nil })
	p.eventually("CMD hears of the second", said("both\nchanged\n"))
	k.ssm.Put("/etl/key", content(t, nextKey))
	p.eventually("CMD hears of the first", func() bool { _ = k.of("etl").connect(); return p.stdout.String() == "both\nchanged\nchanged\n" })
	p.signal(syscall.SIGTERM)
	p.wait()

	k = several(t, "etl", "report")
	k.ssm.Delete("/report/key")
	p = k.do("exec", "--", "echo", "started")
	p.want(exitRefused, "no key from /report/key, so CMD was not started: key report: no parameter")
	if p.stdout.String() != "" {
		t.Error("CMD was started")
	}
}

// Keys of one parameter work until a rotation for one user replaces the key of the other: every command with keys warns.
func TestSeveralKeys_SharedParameterIsReported(t *testing.T) {
	t.Parallel()
	k := several(t)
	k.ssm.Put("/etl/key", content(t, oldKey))
	const arn = "arn:aws:ssm:us-east-1:123456789012:parameter/etl/key"
	k.env["SNOWKEY_KEYS"] = "name=etl,user=ETL,key-parameter=/etl/key,passphrase-parameter=" + passParameter +
		"\nname=report,user=REPORT,key-parameter=" + arn + ",passphrase-parameter=" + passParameter
	k.env["AWS_ENDPOINT_URL_STS"] = k.env["AWS_ENDPOINT_URL_SSM"]
	says := "the keys etl and report are of one parameter, /etl/key and " + arn + " (if the ARN is of this account), for the users ETL and REPORT"
	const advice = "store a key for each user in a parameter of its own: rotate for one user replaces the key of the other"

	k.do("once").want(exitDone, "sidecar: warning: "+says+"; "+advice)
	for _, args := range [][]string{{"run"}, {"exec", "--", "sleep", "60"}} {
		p := k.start(args...)
		p.eventually("the warning", func() bool { return p.count(says) == 1 })
		if log := p.log(); log[0].Msg != "started" || log[1].Msg != says || log[1].Level != "WARN" || log[1].Advice != advice {
			t.Errorf("%s: the log begins with %+v", args[0], log[:2])
		}
		p.end(syscall.SIGTERM)
	}
	if lines, want := k.do("doctor").stdout.String(), "warn  parameters of the keys: "+says+"\n      fix: "+advice+"\n"; !strings.Contains(lines, want) {
		t.Errorf("no %q in\n%s", want, lines)
	}
}

// Twelve keys and their one passphrase are thirteen names: two calls.
func TestSeveralKeys_TenNamesInACall(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("k%d", i))
	}
	k := several(t, names...)
	k.do("once").want(exitDone)
	calls := k.firstAttempts(0)
	if len(calls) != 2 || len(calls[0].Names)+len(calls[1].Names) != 12+2 {
		t.Errorf("%v", calls)
	}
	for _, c := range calls {
		if !slices.Contains(c.Names, passParameter) || len(c.Names) > 10 {
			t.Errorf("keys without their passphrase: %v", c.Names)
		}
	}
}

// An error that every key would get is one call for all of them.
func TestSeveralKeys_OutageCausesNoCallStorm(t *testing.T) {
	t.Parallel()
	k := several(t, "a", "b", "c", "d", "e")
	k.env["AWS_MAX_ATTEMPTS"] = "1"
	run := k.start("run", onDemand)
	run.eventually("all", func() bool { return k.holds(fingerprint(t, oldFingerprint), "a", "b", "c", "d", "e") })
	k.ssm.Intercept(func(localssm.Call) *localssm.Fault { return &localssm.Fault{Status: 500, Code: "InternalServerError"} })
	calls := len(k.ssm.Calls())
	run.signal(syscall.SIGHUP)
	time.Sleep(3 * time.Second)
	failures := run.count("refresh failed")
	if n := len(k.calls(calls)); failures < 5 || failures != 5*n && failures != 5*(n-1) {
		t.Errorf("%d calls for %d failures of five keys", n, failures)
	}
}
