package rotate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// Somebody rotates by hand at any moment of a run: a public key first, in whatever slot does not hold the
// key in use, then the private one, as the documentation of Snowflake has it.
func TestByHand_RotationMeanwhile(t *testing.T) {
	t.Parallel()
	all := calls(t, undisturbed)
	publishing := slices.IndexFunc(all, func(c call) bool { return c.what == "PutParameter "+keyParameter })
	removing := slices.IndexFunc(all, func(c call) bool { return strings.Contains(c.what, "UNSET") })
	recording := slices.IndexFunc(all, func(c call) bool { return c.what == "PutParameter "+keyParameter+LeaseSuffix }) // to acquire
	recording += 1 + slices.IndexFunc(all[recording+1:], func(c call) bool { return c.what == "PutParameter "+keyParameter+LeaseSuffix })
	for i, c := range all {
		if !testenv.Has(c.n) {
			continue
		}
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			what := fmt.Sprintf("somebody rotates after call %d, %s", c.n, c.what)
			f := newFixture(t)
			p := f.process()
			hand := testkey.Key(80)
			p.after = func(now call) {
				if now.n != c.n {
					return
				}
				slot := 1
				if _, key := f.inUse(); f.snowflake.Fingerprints("svc")[0] == key {
					slot = 2
				}
				f.snowflake.SetPublicKey("svc", slot, &hand.RSA().PublicKey)
				f.ssm.Put(keyParameter, testkey.Encrypted(hand, passphrase))
			}
			f.lax = true // for the moment after which both have written
			_, _ = p.run()
			f.lax = false
			f.check("the end")
			again := f.process()
			again.Finish = true
			result, err := again.run()
			if result.Outcome == Refused && (i < recording || i == publishing-1 || i >= removing) {
				// No rotation has recorded the key that they left. The one that may use it has to decide.
				f.check("a refusal")
				f.freeAsToldBy(err)
				again = f.process()
				again.Finish = true
				_, err = again.run()
			}
			if err != nil {
				t.Errorf("%s: %v\n%s\nthen\n%s", what, err, p.story(), again.story())
			}
			f.settled(what)
			// What somebody has stored is the key in use, but for the moment after the last read of a run.
			if _, key := f.inUse(); key != hand.Fingerprint() && i != publishing-1 {
				t.Errorf("%s: the key in use is %s, not theirs", what, key)
			}
		})
	}
}

// freeAsToldBy does as an administrator what a refusal says, which must not be about the key in use.
func (f *fixture) freeAsToldBy(err error) {
	f.t.Helper()
	_, key := f.inUse()
	for i, property := range []string{"RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2"} {
		slot := f.snowflake.Fingerprints("svc")[i]
		if !strings.HasSuffix(err.Error(), "ALTER USER SVC UNSET "+property) {
			continue
		}
		if slot == key || !strings.Contains(err.Error(), slot) {
			f.t.Errorf("%v: the slot has %s, the key in use is %s", err, slot, key)
		}
		f.snowflake.UnsetPublicKey("svc", i+1)
		return
	}
	f.t.Errorf("%v: it names no statement", err)
}

// Somebody stores the same key again, or the old one, at any moment.
func TestByHand_ParameterIsWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	for _, c := range calls(t, undisturbed) {
		if !testenv.Has(c.n) {
			continue
		}
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			what := fmt.Sprintf("somebody stores the old key after call %d, %s", c.n, c.what)
			f := newFixture(t)
			p := f.process()
			p.after = func(now call) {
				// From the old key's removal on there is nothing to go back to.
				if now.n == c.n && f.snowflake.Fingerprints("svc")[0] != "" {
					f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase))
				}
			}
			f.lax = true // for the moment between its removal and its restoration
			_, _ = p.run()
			f.lax = false
			f.check("the end")
			again := f.process()
			again.Finish = true
			if _, err := again.run(); err != nil {
				t.Errorf("%s: %v\n%s\nthen\n%s", what, err, p.story(), again.story())
			}
			f.settled(what)
		})
	}
}

func TestStore_KeepsTierAndLineBreak(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ssm.Put(passParameter, `"`+passphrase+"\"\n")
	f.ssm.Put(keyParameter, strings.Repeat(" ", 5000)+testkey.Encrypted(testkey.Key(0), passphrase))
	f.process().must("advanced", Rotated)
	f.settled("advanced")
	latest, err := f.process().Store.Latest(t.Context(), keyParameter)
	if err != nil || latest.Tier != "Advanced" {
		t.Errorf("tier %s, error %v", latest.Tier, err)
	}
}

func TestStore_HundredVersions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 99 {
		f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase))
	}
	f.process().must("a hundred versions", Rotated)
	f.settled("a hundred versions")
}
