package main

import (
	"encoding/json"
	"maps"
	"math/rand"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/suite/taskdef"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/sidecar/internal/rotate"
)

// rotating is a task that may rotate the key that its account has.
func rotating(t *testing.T) (*task, *localsnowflake.Server) {
	testenv.Heavy(t)
	t.Helper()
	k, account := verified(t)
	delete(k.env, "SNOWKEY_VERIFY")
	k.env["SNOWKEY_GRACE"] = "1s"
	return k, account
}

// summary is the one line that rotate prints on stdout.
func summary(t *testing.T, p *process) (r rotate.Result) {
	t.Helper()
	line := strings.TrimSuffix(p.stdout.String(), "\n")
	if strings.Contains(line, "\n") {
		t.Errorf("stdout is %q", line)
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Errorf("stdout is %q: %v", line, err)
	}
	return r
}

// rotate runs the command and looks for the new key in what it printed.
func (k *task) rotate(args ...string) *process {
	k.t.Helper()
	p := k.do(append([]string{"rotate"}, args...)...)
	made := search{map[string]string{}, map[int]bool{}}
	for _, value := range k.history(keyParameter) {
		made.markMade(k.t, keyParameter, []byte(value))
	}
	for name, text := range p.outputs() {
		if found := made.in(text); found != "" {
			k.t.Errorf("%s: there is %s in its %s", p, found, name)
		}
	}
	return p
}

// inUse is the key in the parameter, which has to be the only one that the account knows.
func (k *task) inUse(account *localsnowflake.Server) string {
	k.t.Helper()
	text, _ := k.stored(keyParameter)
	key := opened(k.t, text, passphrase).Fingerprint()
	if slots := account.Fingerprints("svc"); slots != [2]string{key, ""} && slots != [2]string{"", key} {
		k.t.Errorf("the key in use is %s, the slots are %v", key, slots)
	}
	if _, left := k.stored(keyParameter + rotate.LeaseSuffix); left {
		k.t.Error("the lease is still there")
	}
	return key
}

func TestRotate_GivesNewKey(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	old := fingerprint(t, oldFingerprint)
	k.rotate("--dry-run").want(exitDone, "ALTER USER SVC SET RSA_PUBLIC_KEY_2='PUBLIC_KEY_OF_THE_NEW_KEY'", "wait 1s for the tasks to take the new key", "ALTER USER SVC UNSET RSA_PUBLIC_KEY", "changed nothing")
	if got := k.inUse(account); got != old {
		t.Fatalf("--dry-run made %s of %s", got, old)
	}
	p := k.rotate()
	p.want(exitDone, "removed the old key "+old) // a rest of the grace period below 1s is not announced
	got := summary(t, p)
	if got.Outcome != rotate.Rotated || got.Fingerprint != k.inUse(account) || got.OldFingerprint != old || got.Place != "RSA_PUBLIC_KEY_2" {
		t.Errorf("summary %+v", got)
	}
	p = k.rotate("--finish")
	p.want(exitDone, "nothing to finish")
	if got := summary(t, p); got.Outcome != rotate.Nothing {
		t.Errorf("summary %+v", got)
	}
}

func TestRotate_InTwoParts(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	k.env["SNOWKEY_GRACE"] = "1h"
	p := k.rotate("--no-wait")
	p.want(exitDone, "--finish")
	got := summary(t, p)
	if got.Outcome != rotate.Published || !got.MadeKey || time.Until(got.GraceUntil) < 50*time.Minute {
		t.Errorf("summary %+v", got)
	}
	p = k.rotate("--no-wait")
	if p.want(exitDone); len(k.history(keyParameter)) != 2 {
		t.Error("an unfinished rotation was followed by another")
	}
	if got := summary(t, p); got.Outcome != rotate.Waiting || got.MadeKey {
		t.Errorf("summary %+v", got)
	}
	k.rotate("--finish", "--grace=0s").want(exitFailed, "--revoke-old")
	k.rotate("--finish", "--revoke-old").want(exitDone, "removed the old key")
	if k.inUse(account) != got.Fingerprint {
		t.Error("the new key is not the one in use")
	}
}

func TestRotate_StoppedWhileItWaits(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	k.env["SNOWKEY_GRACE"] = "1h"
	p := k.start("rotate")
	p.eventually("it waits", func() bool { return strings.Contains(p.stderr.String(), "waiting") })
	p.end(syscall.SIGTERM)
	p.want(exitFailed, "sidecar rotate --finish")
	if got := summary(t, p); got.Outcome != rotate.Published || !got.MadeKey {
		t.Errorf("summary %+v", got)
	}
	k.rotate("--finish", "--revoke-old").want(exitDone)
	k.inUse(account)
}

// A signal in the middle of a change, whose summary tells what is in use then.
func TestRotate_StoppedWhileItStoresKey(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	k.env["SNOWKEY_GRACE"] = "1h"
	storing := make(chan struct{})
	store := sync.OnceFunc(func() { close(storing) }) // the SDK may ask again
	k.ssm.Intercept(func(c localssm.Call) *localssm.Fault {
		if c.Action != "PutParameter" || c.Names[0] != keyParameter {
			return nil
		}
		store()
		return &localssm.Fault{Delay: 300 * time.Millisecond}
	})
	p := k.start("rotate")
	<-storing
	p.end(syscall.SIGTERM)
	p.want(exitFailed, "stopped before the end: the new key is in use", "sidecar rotate --finish")
	k.ssm.Intercept(nil)
	text, _ := k.stored(keyParameter)
	got := summary(t, p)
	if got.Outcome != rotate.Published || got.Version != 2 || got.Fingerprint != opened(t, text, passphrase).Fingerprint() ||
		got.OldFingerprint != fingerprint(t, oldFingerprint) || got.Place != "RSA_PUBLIC_KEY_2" {
		t.Errorf("summary %+v", got)
	}
	k.rotate("--finish", "--revoke-old").want(exitDone, "removed the old key")
	k.inUse(account)
}

func TestRotate_StoppedBeforeItHasBegun(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	asked := make(chan struct{})
	ask := sync.OnceFunc(func() { close(asked) })
	account.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
		ask()
		return &localsnowflake.Fault{Delay: time.Hour}
	})
	p := k.start("rotate")
	<-asked
	p.end(syscall.SIGINT)
	p.want(exitFailed, "nothing was changed; run it again")
	if got := summary(t, p); got.Outcome != rotate.Failed {
		t.Errorf("summary %+v", got)
	}
	if got := k.inUse(account); got != fingerprint(t, oldFingerprint) {
		t.Errorf("the key in use is %s", got)
	}
}

// A terminal that goes away takes neither the change with it nor the messages about it.
func TestRotate_OutlivesTerminal(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	k.env["SNOWKEY_GRACE"] = "1h"
	p := k.start("rotate")
	p.eventually("it waits", func() bool { return strings.Contains(p.stderr.String(), "waiting") })
	p.end(syscall.SIGHUP)
	p.want(exitFailed, "sidecar rotate --finish")
	if got := summary(t, p); got.Outcome != rotate.Published || !got.MadeKey {
		t.Errorf("summary %+v", got)
	}
	k.rotate("--finish", "--revoke-old").want(exitDone)
	k.env["SNOWKEY_GRACE"] = "0s"
	before := k.inUse(account)

	reader, writer, err := os.Pipe()
	k.must(err)
	k.must(reader.Close())
	t.Cleanup(func() { writer.Close() })
	k.stdout, k.stderr = writer, writer
	k.do("rotate").want(exitDone)
	if k.inUse(account) == before {
		t.Error("the key was not rotated")
	}
}

func TestRotate_Refuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*task, *localsnowflake.Server)
		code   int
		says   []string
	}{
		"a reference to Secrets Manager": {func(k *task, _ *localsnowflake.Server) {
			k.env["SNOWKEY_KEY_PARAMETER"] = "/aws/reference/secretsmanager/app"
		}, exitUsage, []string{"is rotated there", "read only"}},
		"a version": {func(k *task, _ *localsnowflake.Server) { k.env["SNOWKEY_KEY_PARAMETER"] = keyParameter + ":1" }, exitUsage, []string{"without the : and what follows it"}},
		"a parameter of another account": {func(k *task, _ *localsnowflake.Server) {
			k.env["SNOWKEY_KEY_PARAMETER"] = "arn:aws:ssm:us-east-1:999999999999:parameter" + keyParameter
		}, exitRefused, []string{"another account"}},
		"no login": {func(k *task, _ *localsnowflake.Server) { delete(k.env, "SNOWFLAKE_USER") }, exitUsage, []string{"SNOWFLAKE_USER"}},
		"no privilege": {func(_ *task, a *localsnowflake.Server) { a.SetCanAlterUsers("SVC", false) }, exitRefused,
			[]string{"GRANT MODIFY PROGRAMMATIC AUTHENTICATION METHODS ON USER SVC"}},
		"no such user":    {func(k *task, _ *localsnowflake.Server) { k.env["SNOWFLAKE_USER"] = "svd" }, exitRefused, []string{"user svd"}},
		"another account": {func(k *task, _ *localsnowflake.Server) { k.env["SNOWFLAKE_ACCOUNT"] = "locla" }, exitRefused, []string{"SNOWFLAKE_ACCOUNT"}},
	} {
		t.Run(name, func(t *testing.T) {
			k, account := rotating(t)
			tc.change(k, account)
			p := k.rotate()
			p.want(tc.code, tc.says...)
			if tc.code == exitRefused {
				if got := summary(t, p); got.Outcome != rotate.Refused || got.Error == "" {
					t.Errorf("summary %+v", got)
				}
			}
			if got := k.inUse(account); got != fingerprint(t, oldFingerprint) {
				t.Errorf("the key in use is %s", got)
			}
		})
	}
}

func TestRotate_TakesARN(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	k.env["SNOWKEY_KEY_PARAMETER"] = "arn:aws:ssm:us-east-1:123456789012:parameter" + keyParameter
	k.env["SNOWKEY_GRACE"] = "0s"
	p := k.rotate()
	p.want(exitDone)
	if got := summary(t, p); got.Outcome != rotate.Rotated || got.Parameter != k.env["SNOWKEY_KEY_PARAMETER"] || got.Fingerprint != k.inUse(account) {
		t.Errorf("summary %+v", got)
	}
}

// The real process, killed at moments that nobody chose.
func TestRotate_KilledAtRandomMoments(t *testing.T) {
	k, account := rotating(t)
	k.env[testLease] = "500ms"
	k.env["SNOWKEY_GRACE"] = "0s"
	for seed := range testenv.Times(3, 12) {
		random := rand.New(rand.NewSource(int64(seed)))
		p := k.start("rotate")
		select {
		case <-p.Done():
		case <-time.After(time.Duration(random.Intn(3000)) * time.Millisecond):
		}
		p.Kill()
		p.wait()
		text, _ := k.stored(keyParameter)
		slots := account.Fingerprints("svc")
		if key := opened(t, text, passphrase).Fingerprint(); key != slots[0] && key != slots[1] {
			t.Fatalf("killed %v: the key in use, %s, is in no slot: %v", seed, key, slots)
		}
	}
	k.rotate().want(exitDone)
	k.inUse(account)
}

// The example's policy allows what a rotation asks SSM for, and nothing that none asks for.
func TestRotate_PolicyIsWhatItTakes(t *testing.T) {
	t.Parallel()
	k, _ := rotating(t)
	k.env[testLease] = "100ms"
	k.ssm.Put(keyParameter+rotate.LeaseSuffix, `{"run":"of one that has died"}`)
	k.rotate().want(exitDone, "took over")
	k.rotate("--no-wait", "--grace=1h").want(exitDone)
	k.rotate("--no-wait", "--grace=2h").want(exitDone)
	k.rotate("--finish", "--revoke-old").want(exitDone)
	e, err := taskdef.Read(os.DirFS("../examples/taskdef"), "rotate-task-role-policy.json")
	k.must(err)
	example := strings.NewReplacer(keyParameter, "/app/key", passParameter, "/app/passphrase")
	asked := map[string]bool{}
	for _, c := range k.ssm.Calls() {
		for _, name := range c.Names {
			asked["ssm:"+c.Action+" arn:aws:ssm:REGION:ACCOUNT:parameter"+example.Replace(name)] = true
		}
	}
	allowed := map[string]bool{}
	for _, s := range e.Policies[0].Statement {
		for _, action := range s.Action {
			for _, resource := range s.Resource {
				if strings.HasPrefix(action, "ssm:") {
					allowed[action+" "+resource] = true
				}
			}
		}
	}
	if !maps.Equal(asked, allowed) {
		t.Errorf("asked for\n%v\nallowed\n%v", asked, allowed)
	}
}

func TestRotate_RetriesWhatPasses(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	k.env[testRetry] = "1m"
	k.ssm.Throttle(4)
	k.rotate().want(exitDone, "trying again", "removed the old key")
	k.inUse(account)
}

func TestRotate_MaxAge(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	old := k.inUse(account)
	p := k.rotate("--max-age=30d")
	p.want(exitDone, "is rotated at the age of 720h0m0s")
	if got := summary(t, p); got.Outcome != rotate.Young || got.MadeKey || k.inUse(account) != old {
		t.Errorf("summary %+v", got)
	}
}

// Nobody attends a process without a terminal: it waits for an hour.
func TestRotate_AutoGraceWithoutTerminal(t *testing.T) {
	t.Parallel()
	k, _ := rotating(t)
	delete(k.env, "SNOWKEY_GRACE")
	p := k.rotate("--no-wait")
	p.want(exitDone, "grace period (auto) 1h0m0s")
	if got := summary(t, p); time.Until(got.GraceUntil) < 50*time.Minute {
		t.Errorf("summary %+v", got)
	}
}

func TestRotate_LeakedKey(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	k.env["SNOWKEY_GRACE"] = "1h"
	first := summary(t, k.rotate("--force-new", "--no-wait"))
	if first.Outcome != rotate.Published || !first.MadeKey {
		t.Errorf("summary %+v", first)
	}
	p := k.rotate("--finish", "--revoke-old")
	p.want(exitDone)
	if got := summary(t, p); got.OldFingerprint != fingerprint(t, oldFingerprint) || k.inUse(account) != first.Fingerprint {
		t.Errorf("summary %+v", got)
	}
}

// The runbook's second half, line by line: an administrator ends the key, which needs no rotation.
func TestRunbook_RevokeAtOnce(t *testing.T) {
	t.Parallel()
	k, account := rotating(t)
	run := k.start("run", "--interval=2s")
	run.follows(fingerprint(t, oldFingerprint))
	account.UnsetPublicKey("svc", 1)
	k.rotate().want(exitRefused, "Snowflake", "refused")

	p := k.do("keygen", "--put", "--overwrite")
	p.want(exitDone, "at their next refresh")
	text, _ := k.stored(keyParameter)
	key := opened(t, text, passphrase)
	p.assigns("SVC", key)
	account.SetPublicKey("svc", 1, &key.RSA().PublicKey)
	run.follows(key.Fingerprint())
	if made := k.inUse(account); made == fingerprint(t, oldFingerprint) {
		t.Error("the leaked key is still in use")
	}
	k.rotate("--dry-run").want(exitDone, "ALTER USER SVC SET RSA_PUBLIC_KEY_2")
}
