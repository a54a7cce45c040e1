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
	interrupted := func(w *world, at string) {
		p := w.process()
		p.Grace, p.NoWait = time.Hour, true
		p.fate = func(c call) fate {
			if c.what == at {
				return killedAfter
			}
			return answered
		}
		if result, err := p.run(); err == nil {
			w.t.Errorf("there was no %s: %+v", at, result)
		}
	}
	for name, tc := range map[string]struct {
		before func(*world)
		waits  bool // an earlier rotation has promised a grace period
		byHand bool // both slots are taken, by a key that no rotation has recorded
	}{
		"settled":                 {before: func(*world) {}},
		"with a grace period":     {before: func(w *world) { w.waitsWith(time.Hour)() }, waits: true},
		"killed after storing":    {before: func(w *world) { interrupted(w, "PutParameter "+keyParameter) }, waits: true},
		"killed after assigning":  {before: func(w *world) { interrupted(w, "ALTER USER SVC SET RSA_PUBLIC_KEY_2") }},
		"killed before assigning": {before: func(w *world) { interrupted(w, "PutParameter "+keyParameter+LeaseSuffix) }},
		"killed at the very end": {before: func(w *world) {
			w.process().must("before", Rotated)
			w.ssm.PutString(keyParameter+LeaseSuffix, `{"run":"x"}`)
		}},
		"after a rotation by hand":  {before: (*world).rotateByHand, byHand: true},
		"with a key that was tried": {before: func(w *world) { w.snowflake.SetPublicKey("svc", 2, &testkey.Key(90).RSA().PublicKey) }, byHand: true},
		"with somebody else's label": {before: func(w *world) {
			w.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase))
			w.ssm.Label(keyParameter, "x", 2)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tc.before(w)
			_, leaked := w.inUse()

			// 1: sidecar rotate --force-new --no-wait
			first := func() (Result, error) {
				p := w.process()
				p.ForceNew, p.NoWait, p.GraceAuto, p.Interval = true, true, true, 5*time.Minute
				p.RevokeOld = tc.waits // 1b: it says that it waits, and for whom; the person does not
				return p.run()
			}
			if tc.waits {
				p := w.process()
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
				w.freeAsToldBy(err)
				result, err = first()
			}
			if err != nil || !result.MadeKey || result.Outcome != Published {
				t.Fatalf("%+v, error %v", result, err)
			}
			if _, key := w.inUse(); key == leaked || key != result.Fingerprint {
				t.Fatalf("the key in use is %s, the leaked one is %s, %+v", key, leaked, result)
			}

			// 2: the tasks take it. 3: sidecar rotate --finish --revoke-old
			for range 2 { // the first one may have to say something
				p := w.process()
				p.Finish, p.RevokeOld, p.GraceAuto = true, true, true
				result, err = p.run()
				if err == nil {
					break
				}
				if !strings.Contains(err.Error(), "--labels x") {
					t.Fatal(err)
				}
				version, _ := w.inUse()
				w.ssm.Label(keyParameter, "x", version)
			}
			if err != nil || result.Outcome != Finished || result.OldFingerprint != leaked {
				t.Errorf("%+v, error %v", result, err)
			}
			w.settled("the runbook")
		})
	}
}

func (w *world) rotateByHand() {
	hand := testkey.Key(80)
	w.snowflake.SetPublicKey("svc", 2, &hand.RSA().PublicKey)
	w.ssm.Put(keyParameter, testkey.Encrypted(hand, passphrase))
}

// Each outcome says whether this run made a key.
func TestResult_MadeKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := func(change func(*process)) Result {
		p := w.process()
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
	p := w.process()
	p.fate = fateOf("ALTER", killedAfter)
	_, _ = p.run()
	if got := run(func(p *process) { p.Finish = true }); got.Outcome != Withdrawn || got.MadeKey {
		t.Errorf("%+v", got)
	}
	w.settled(fmt.Sprint(Withdrawn))
}
