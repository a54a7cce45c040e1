package rotate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awsssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// accepts reports whether Snowflake accepts a key, and will go on.
func (f *fixture) accepts(n int) bool {
	slots := f.snowflake.Fingerprints("svc")
	key := testkey.Key(n).Fingerprint()
	for _, p := range f.snowflake.KeyPairs("svc") {
		if p.Fingerprint == key && p.Status == localsnowflake.KeyPairActive && p.ExpiresAt.IsZero() {
			return true
		}
	}
	return slices.Contains(slots[:], key)
}

// waitsWith starts a run with this grace period and returns when it waits. stop ends it.
func (f *fixture) waitsWith(grace time.Duration) (stop func()) {
	f.t.Helper()
	p := f.process()
	p.Grace = grace
	waits, stopped, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	p.Stop = stopped
	p.whileItWaits(func() { close(waits) })
	go func() {
		defer close(over)
		_, _ = p.run()
	}()
	select {
	case <-waits:
	case <-over:
		f.t.Fatalf("it did not wait\n%s", p.story())
	}
	return func() { close(stopped); <-over }
}

func TestGrace_IsNotShortenedByAnotherRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	defer f.waitsWith(time.Hour)()
	for name, change := range map[string]func(*process){
		"finish, a shorter one":  func(p *process) { p.Finish, p.Grace = true, time.Minute },
		"finish, one that is 0":  func(p *process) { p.Finish, p.Grace = true, 0 },
		"rotate, a shorter one":  func(p *process) { p.Grace = time.Minute },
		"finish, auto":           func(p *process) { p.Finish, p.GraceAuto, p.NoWait = true, true, true },
		"rotate once more, auto": func(p *process) { p.GraceAuto, p.NoWait, p.Interval, p.Attended = true, true, time.Second, true },
	} {
		p := f.process()
		change(p)
		result, err := p.run()
		if result.Outcome != Waiting || result.MadeKey || !f.accepts(0) {
			t.Errorf("%s: %s, error %v, slots %v\n%s", name, result.Outcome, err, f.snowflake.Fingerprints("svc"), p.story())
		}
		if left := time.Until(result.GraceUntil); left < 50*time.Minute {
			t.Errorf("%s: the old key may go in %v", name, left)
		}
		if (err != nil) == p.GraceAuto {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestGrace_IsMadeLongerByAnotherRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	defer f.waitsWith(time.Hour)()
	longer := f.process()
	longer.Finish, longer.NoWait, longer.Grace = true, true, 3*time.Hour
	longer.must("a longer one", Waiting)
	p := f.process()
	p.Finish, p.NoWait, p.GraceAuto = true, true, true
	if left := time.Until(p.must("auto", Waiting).GraceUntil); left < 2*time.Hour {
		t.Errorf("the old key may go in %v", left)
	}
}

func TestGrace_OfKilledRunIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.process()
	p.Grace = time.Hour
	p.fate = func(c call) fate {
		if c.what == "PutParameter "+keyParameter {
			return killedAfter
		}
		return answered
	}
	_, _ = p.run()
	again := f.process()
	again.Finish, again.NoWait, again.GraceAuto = true, true, true
	if result := again.must("after a kill", Waiting); time.Until(result.GraceUntil) < 50*time.Minute || !f.accepts(0) {
		t.Errorf("%+v", result)
	}
}

func TestGrace_RevokeOldEndsIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.waitsWith(time.Hour)()
	p := f.process()
	p.Finish, p.RevokeOld, p.GraceAuto = true, true, true
	p.must("--revoke-old", Finished)
	f.settled("--revoke-old")
}

func TestLabels_KeyPairIsNotGivenAnEnd(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*fixture){
		"the version in use has the label": func(f *fixture) { f.ssm.Label(keyParameter, "production", 1) },
		"an earlier one of the same key": func(f *fixture) {
			f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase))
			f.ssm.Label(keyParameter, "production", 1)
		},
		"one that cannot be opened": func(f *fixture) {
			f.ssm.Put(passParameter, another)
			f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), another))
			f.ssm.Label(keyParameter, "production", 1)
		},
	} {
		f := newNamedFixture(t)
		f.lax = true // the passphrase of the test does not open every version
		change(f)
		for _, dry := range []bool{true, false} {
			p := f.named()
			p.DryRun = dry
			result, err := p.run()
			if result.Outcome != Refused || err == nil || !strings.Contains(err.Error(), "label production") || !f.accepts(0) {
				t.Errorf("%s: %s, error %v, %+v", name, result.Outcome, err, f.snowflake.KeyPairs("svc"))
			}
		}
		if f.leased() {
			t.Errorf("%s: the lease is still there", name)
		}
	}
}

func TestLabels_VersionOfAnotherPassphraseKeepsKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.lax = true
	f.ssm.Label(keyParameter, "production", 1)
	f.ssm.Put(passParameter, another)
	f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), another))
	p := f.process()
	result, err := p.run()
	if result.Outcome != Refused || !result.MadeKey || err == nil || !strings.Contains(err.Error(), "cannot be opened") || !f.accepts(0) || !f.accepts(1) {
		t.Errorf("%+v, error %v, slots %v", result, err, f.snowflake.Fingerprints("svc"))
	}
	f.ssm.Label(keyParameter, "production", 3)
	again := f.process()
	again.Finish = true
	again.must("when the label has moved", Finished)
	if f.accepts(0) {
		t.Error("the old key is still there")
	}
}

func TestRecord_OnlyNamedKeysAreRemoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ssm.Put("/other/key", testkey.Encrypted(testkey.Key(0), passphrase)) // whose application stays on it
	f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(40), passphrase))
	f.snowflake.SetPublicKey("svc", 2, &testkey.Key(40).RSA().PublicKey)
	for name, change := range map[string]func(*process){
		"finish": func(p *process) { p.Finish = true }, "rotate": undisturbed, "a leak": func(p *process) { p.ForceNew, p.RevokeOld = true, true },
		"in a key pair": func(p *process) { p.KeyPair, p.Finish = "ETL", true },
	} {
		p := f.process()
		change(p)
		_, _ = p.run()
		if !f.accepts(0) || !f.accepts(40) {
			t.Errorf("%s: slots %v\n%s", name, f.snowflake.Fingerprints("svc"), p.story())
		}
	}
}

func TestSharers_RefusedBeforeFirstStatement(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(*fixture){
		"in a slot": func(f *fixture) { f.snowflake.SetPublicKey("reporting", 2, &testkey.Key(0).RSA().PublicKey) },
		"in a named key pair": func(f *fixture) {
			f.snowflake.AddKeyPair("reporting", "apart", &testkey.Key(0).RSA().PublicKey)
		},
	} {
		f := newFixture(t)
		f.snowflake.CreateUser("reporting")
		give(f)
		for _, start := range []func(*fixture) *process{(*fixture).process, func(f *fixture) *process { p := f.process(); p.ForceNew = true; return p }} {
			start(f).refuses(Refused, "also the key of user REPORTING", "a parameter of its own")
			if f.snowflake.Executed("ALTER") > 0 {
				t.Errorf("%s: a statement was run", name)
			}
		}
	}
	f := newFixture(t)
	f.snowflake.CreateUser("reporting")
	f.snowflake.SetPublicKey("reporting", 1, &testkey.Key(50).RSA().PublicKey)
	f.process().must("another user has another key", Rotated)
}

func TestMaxAge_YoungKeyStays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.process()
	p.MaxAge = 24 * time.Hour
	if result := p.must("young", Young); result.MadeKey {
		t.Errorf("%+v", result)
	}
	f.settled("young")
	p = f.process()
	p.MaxAge = time.Nanosecond
	time.Sleep(time.Second) // the Date header has whole seconds
	p.must("old", Rotated)
}

func TestRetry_TransientErrorsPass(t *testing.T) {
	t.Parallel()
	all := calls(t, undisturbed)
	for i, c := range all {
		if !testenv.Has(i) {
			continue
		}
		bad := sqlErrors["503"]
		if c.ssm {
			bad = ssmErrors["throttled"]
		}
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.once()
			p.RetryFor = time.Minute
			var failures atomic.Int32
			p.fail = func(now call) (int, string) {
				if now.n >= c.n && now.ssm == c.ssm && failures.Add(1) <= 6 {
					return bad.status, bad.body
				}
				return 0, ""
			}
			result := p.must("an outage that ends", Rotated)
			if version, _ := f.inUse(); !result.MadeKey || version > 3 {
				t.Errorf("version %d, %+v\n%s", version, result, p.story())
			}
			if i >= len(all)-2 {
				f.process().must("the lease could not be deleted", Finished)
			}
			f.settled("an outage that ends")
		})
	}
}

func TestRetry_EndsInTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.once()
	p.RetryFor = 300 * time.Millisecond
	p.fail = func(call) (int, string) { return ssmErrors["throttled"].status, ssmErrors["throttled"].body }
	began := time.Now()
	if result, err := p.run(); result.Outcome != Failed || err == nil || time.Since(began) < 100*time.Millisecond {
		t.Errorf("%s after %v, error %v", result.Outcome, time.Since(began), err)
	}
	for _, lasting := range []string{"access denied", "kms"} {
		f := newFixture(t)
		p := f.once()
		p.RetryFor = time.Hour
		p.fail = func(call) (int, string) { return ssmErrors[lasting].status, ssmErrors[lasting].body }
		if result, _ := p.run(); result.Outcome != Refused || strings.Contains(p.story(), "trying again") {
			t.Errorf("%s: %s\n%s", lasting, result.Outcome, p.story())
		}
	}
}

func TestRetry_ThrottlingMakesGraceLonger(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.once()
	p.RetryFor, p.NoWait, p.GraceAuto, p.Grace, p.Attended, p.Interval = time.Minute, true, true, 0, true, time.Second
	p.fail = func(c call) (int, string) {
		if c.n == 1 {
			return ssmErrors["throttled"].status, ssmErrors["throttled"].body
		}
		return 0, ""
	}
	if result := p.must("throttled", Published); time.Until(result.GraceUntil) < 50*time.Minute {
		t.Errorf("the old key may go at %v", result.GraceUntil)
	}
}

const noChange = `{"Type":"NoChangeNotification","Version":"1.0","Attributes":{"After":"20","Unit":"Days"}}`

func TestStore_KeepsPatternAndPolicies(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	expires := time.Now().Add(90 * 24 * time.Hour).UTC().Truncate(time.Second)
	policies := "[" + noChange + `,{"Type":"Expiration","Version":"1.0","Attributes":{"Timestamp":"` + expires.Format(time.RFC3339) + `"}}]`
	value, pattern, yes := testkey.Encrypted(testkey.Key(0), passphrase), "^-----BEGIN ENCRYPTED", true
	name := keyParameter
	if _, err := f.raw.PutParameter(t.Context(), &awsssm.PutParameterInput{
		Name: &name, Value: &value, Type: types.ParameterTypeSecureString, Tier: types.ParameterTierAdvanced,
		AllowedPattern: &pattern, Policies: &policies, Overwrite: &yes,
	}); err != nil {
		t.Fatal(err)
	}
	p := f.process()
	p.NoWait, p.Grace = true, time.Hour
	p.must("with policies", Published)
	if story := p.story(); !strings.Contains(story, expires.Format(time.RFC3339)) {
		t.Errorf("it does not say when AWS deletes the parameter:\n%s", story)
	}
	latest, err := p.Store.Latest(t.Context(), keyParameter)
	if err != nil || latest.Pattern != pattern || len(latest.Policies) != 2 || !latest.Expires().Equal(expires) {
		t.Errorf("%+v, error %v", latest, err)
	}
}

func TestStore_PatternThatRefusesKeysIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.process()
	p.fail = func(c call) (int, string) {
		if c.what == "PutParameter "+keyParameter {
			bad := ssmError("ParameterPatternMismatchException", "Parameter value, cannot be validated against allowedPattern: ^x")
			return bad.status, bad.body
		}
		return 0, ""
	}
	p.refuses(Refused, "AllowedPattern", "--allowed-pattern")
}

func TestWait_SaysWhenItEnds(t *testing.T) {
	t.Parallel()
	for attended, want := range map[bool]bool{true: true, false: false} {
		f := newFixture(t)
		p := f.process()
		p.Grace, p.Attended = 3*time.Second, attended
		var shown []string
		if attended {
			p.Countdown = func(remains string) { shown = append(shown, remains) }
		}
		p.must("a wait", Rotated)
		story := p.story()
		if strings.Count(story, "waiting until ") != 1 || strings.Count(story, "the grace period is over") != 1 || strings.Contains(story, "waiting 0s") {
			t.Errorf("attended %v:\n%s", attended, story)
		}
		if said := strings.Contains(story, "Ctrl-C is safe") && strings.Contains(story, "`sidecar rotate --finish` completes it"); said != want {
			t.Errorf("attended %v:\n%s", attended, story)
		}
		if attended && (len(shown) < 2 || !strings.HasSuffix(shown[0], " left") || shown[len(shown)-1] != "") {
			t.Errorf("a countdown of %q", shown)
		}
	}
	f := newFixture(t)
	p := f.process()
	p.must("no wait", Rotated)
	if strings.Contains(p.story(), "waiting") {
		t.Error(p.story())
	}
}

func TestTransient_Classes(t *testing.T) {
	for class, want := range map[keyfile.ErrorClass]bool{
		keyfile.ClassNetwork: true, keyfile.ClassThrottled: true, keyfile.ClassOther: false, keyfile.ClassAccessDenied: false, keyfile.ClassSnowflake: false,
	} {
		if err := failure.New(class, errors.New("x"), ""); transient(err) != want || transient(refusal{err}) {
			t.Errorf("%s: %v", class, !want)
		}
	}
	if transient(context.Canceled) {
		t.Error("a run that was ended is retried")
	}
}
