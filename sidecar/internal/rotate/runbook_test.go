package rotate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// The key in use has leaked, in every state that a rotation can be in. After the first line of the runbook there is a new
// key, or a word on what to do first. After its last line the leaked key is gone.
func TestRunbook_LeakedKeyIsGone(t *testing.T) {
	t.Parallel()
	interrupted := func(f *fixture, at string) {
		p := f.process()
		p.Grace, p.NoWait = time.Hour, true
		p.fate = func(c call) fate {
			if c.what == at {
				return killedAfter
			}
			return answered
		}
		if result, err := p.run(); err == nil {
			f.t.Errorf("there was no %s: %+v", at, result)
		}
	}
	for name, tc := range map[string]struct {
		before func(*fixture)
		waits  bool // an earlier rotation has promised a grace period
		byHand bool // both slots are taken, by a key that no rotation has recorded
	}{
		"settled":                 {before: func(*fixture) {}},
		"with a grace period":     {before: func(f *fixture) { f.waitsWith(time.Hour)() }, waits: true},
		"killed after storing":    {before: func(f *fixture) { interrupted(f, "PutParameter "+keyParameter) }, waits: true},
		"killed after assigning":  {before: func(f *fixture) { interrupted(f, "ALTER USER SVC SET RSA_PUBLIC_KEY_2") }},
		"killed before assigning": {before: func(f *fixture) { interrupted(f, "PutParameter "+keyParameter+LeaseSuffix) }},
		"killed at the very end": {before: func(f *fixture) {
			f.process().must("before", Rotated)
			f.ssm.PutString(keyParameter+LeaseSuffix, `{"run":"x"}`)
		}},
		"after a rotation by hand": {before: func(f *fixture) {
			hand := testkey.Key(80)
			f.snowflake.SetPublicKey("svc", 2, &hand.RSA().PublicKey)
			f.ssm.Put(keyParameter, testkey.Encrypted(hand, passphrase))
		}, byHand: true},
		"with a key that was tried": {before: func(f *fixture) { f.snowflake.SetPublicKey("svc", 2, &testkey.Key(90).RSA().PublicKey) }, byHand: true},
		"with somebody else's label": {before: func(f *fixture) {
			f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase))
			f.ssm.Label(keyParameter, "x", 2)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			tc.before(f)
			_, leaked := f.inUse()

			// 1: sidecar rotate --force-new --no-wait
			first := func() (Result, error) {
				p := f.process()
				p.ForceNew, p.NoWait, p.GraceAuto, p.Interval = true, true, true, 5*time.Minute
				p.RevokeOld = tc.waits // 1b: it says that it waits, and for whom; the person does not
				return p.run()
			}
			if tc.waits {
				p := f.process()
				stop := make(chan struct{})
				p.ForceNew, p.NoWait, p.GraceAuto, p.Stop = true, true, true, stop
				p.whileItWaits(func() { close(stop) })
				if result, err := p.run(); err == nil || result.MadeKey || result.Outcome != Waiting {
					t.Fatalf("it did not wait: %+v, error %v\n%s", result, err, p.story())
				}
			}
			result, err := first()
			if tc.byHand {
				if result.Outcome != Refused || result.MadeKey {
					t.Fatalf("%+v", result)
				}
				f.freeAsToldBy(err)
				result, err = first()
			}
			if err != nil || !result.MadeKey || result.Outcome != Published {
				t.Fatalf("%+v, error %v", result, err)
			}
			if _, key := f.inUse(); key == leaked || key != result.Fingerprint {
				t.Fatalf("the key in use is %s, the leaked one is %s, %+v", key, leaked, result)
			}

			// 2: the tasks take it. 3: sidecar rotate --finish --revoke-old
			for range 2 { // the first one may have to say something
				p := f.process()
				p.Finish, p.RevokeOld, p.GraceAuto = true, true, true
				result, err = p.run()
				if err == nil {
					break
				}
				if !strings.Contains(err.Error(), "--labels x") {
					t.Fatal(err)
				}
				version, _ := f.inUse()
				f.ssm.Label(keyParameter, "x", version)
			}
			if err != nil || result.Outcome != Finished || result.OldFingerprint != leaked {
				t.Errorf("%+v, error %v", result, err)
			}
			f.settled("the runbook")
		})
	}
}

// Each outcome says whether this run made a key.
func TestResult_MadeKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := func(change func(*process)) Result {
		p := f.process()
		change(p)
		result, err := p.run()
		if err != nil {
			result.Error = err.Error()
		}
		return result
	}
	for i, tc := range []struct {
		change func(*process)
		want   Outcome
		made   bool
	}{
		{func(p *process) { p.Finish = true }, Nothing, false},
		{func(p *process) { p.MaxAge = time.Hour }, Young, false},
		{func(p *process) { p.DryRun = true }, DryRun, false},
		{func(p *process) { p.NoWait, p.Grace = true, time.Hour }, Published, true},
		{func(p *process) { p.NoWait, p.GraceAuto = true, true }, Waiting, false},
		{func(p *process) { p.RevokeOld = true }, Finished, false},
		{undisturbed, Rotated, true},
	} {
		if got := run(tc.change); got.Outcome != tc.want || got.MadeKey != tc.made {
			t.Errorf("%d: %s, made %v, want %s, %v: %s", i, got.Outcome, got.MadeKey, tc.want, tc.made, got.Error)
		}
	}
	p := f.process()
	p.fate = fateOf("ALTER", killedAfter)
	_, _ = p.run()
	if got := run(func(p *process) { p.Finish = true }); got.Outcome != Withdrawn || got.MadeKey {
		t.Errorf("%+v", got)
	}
	f.settled(fmt.Sprint(Withdrawn))
}
