package rotate

import (
	"fmt"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/sidecar/internal/keygen"
)

// newExpiringWorld has the key in use in a named key pair that was added for so many days.
func newExpiringWorld(t *testing.T, days int) *fixture {
	t.Helper()
	f := newFixture(t)
	f.snowflake.UnsetPublicKey("svc", 1)
	hand := testkey.Key(70)
	f.snowflake.SetPublicKey("svc", 2, &hand.RSA().PublicKey)
	add := fmt.Sprintf("ALTER USER SVC ADD KEY PAIR etl PUBLIC_KEY='%s' DAYS_TO_EXPIRY=%d", keygen.PublicKey(testkey.Key(0)), days)
	if _, err := f.process().Snowflake.Query(t.Context(), hand, add); err != nil {
		t.Fatal(err)
	}
	f.snowflake.UnsetPublicKey("svc", 2)
	return f
}

// keepsNo sees that a key logs in no more, once a leak was handled by the runbook.
func (f *fixture) keepsNo(n int, pair string) {
	f.t.Helper()
	p := f.process()
	p.KeyPair, p.ForceNew, p.NoWait, p.GraceAuto, p.Interval = pair, true, true, true, time.Minute
	if result, err := p.run(); err != nil || !result.MadeKey {
		f.t.Fatalf("%+v, error %v\n%s", result, err, p.story())
	}
	q := f.process()
	q.KeyPair, q.Finish, q.RevokeOld, q.GraceAuto = pair, true, true, true
	result, err := q.run()
	if err != nil || result.Outcome != Finished || result.OldFingerprint != testkey.Key(n).Fingerprint() {
		f.t.Errorf("%+v, error %v\n%s", result, err, q.story())
	}
	if f.accepts(n) {
		f.t.Errorf("the leaked key is still accepted\n%s", q.story())
	}
}

func TestRunbook_LeakedKeyOfAKeyPairIsGone(t *testing.T) {
	t.Parallel()
	newNamedFixture(t).keepsNo(0, pairName)
}

// Administrators give one key to a slot and a key pair, or to both slots.
func TestRunbook_LeakedKeyIsGoneFromEveryPlace(t *testing.T) {
	public := &testkey.Key(0).RSA().PublicKey
	for name, tc := range map[string]struct {
		slot2, pair string // where the key is, too
		target      string
	}{
		"both slots, to a key pair":      {slot2: "SVC", target: pairName},
		"both slots":                     {slot2: "SVC"},
		"slot and key pair, in slots":    {pair: "OTHER"},
		"slot and key pair, to another":  {pair: "OTHER", target: pairName},
		"slot and key pair, in the pair": {pair: pairName, target: pairName},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if tc.slot2 != "" {
				f.snowflake.SetPublicKey(tc.slot2, 2, public)
			}
			if tc.pair != "" {
				f.snowflake.UnsetPublicKey("svc", 1) // Snowflake adds no key pair with a key that the user has
				f.snowflake.AddKeyPair("svc", tc.pair, public)
				f.snowflake.SetPublicKey("svc", 1, public)
			}
			f.keepsNo(0, tc.target)
		})
	}
}

// DAYS_TO_EXPIRY is not the end that a rotation gives.
func TestKeyPair_WithExpiryOfItsOwnIsInUse(t *testing.T) {
	t.Parallel()
	f := newExpiringWorld(t, 90)
	p := f.process()
	p.KeyPair = "NEW"
	p.must("to another", Rotated)
	if f.accepts(0) {
		t.Error("the old key pair stays for 90 days")
	}

	f = newExpiringWorld(t, 90)
	p = f.process()
	p.KeyPair = "NEW"
	p.fate = fateOf("ALTER USER SVC ADD KEY PAIR", killedAfter)
	_, _ = p.run()
	p = f.process()
	p.KeyPair, p.Finish = "NEW", true
	p.must("interrupted", Withdrawn)
}

// A promise holds whatever is rotated next.
func TestKeyPair_WithOldKeyIsNotRotatedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	f := newNamedFixture(t)
	p := f.process()
	p.KeyPair, p.NoWait, p.Grace = "OTHER", true, 72*time.Hour
	p.must("published", Published)
	q := f.named()
	q.GraceAuto, q.NoWait = true, true
	q.must("back", Waiting)
	for _, k := range f.snowflake.KeyPairs("svc") {
		if k.Fingerprint == testkey.Key(0).Fingerprint() && !k.ExpiresAt.IsZero() {
			t.Errorf("promised 72h, and it expires in %v", time.Until(k.ExpiresAt))
		}
	}
}

// What a refusal advises for a label works.
func TestKeyPair_AnotherNameKeepsLabelledKey(t *testing.T) {
	t.Parallel()
	f := newNamedFixture(t)
	f.ssm.Label(keyParameter, "production", 1)
	p := f.named()
	if result, err := p.run(); result.Outcome != Refused {
		t.Fatalf("%+v, error %v", result, err)
	}
	q := f.process()
	q.KeyPair, q.NoWait, q.Grace = "OTHER", true, time.Hour
	q.must("another key pair", Published)
	if !f.accepts(0) {
		t.Error("the label leads to a key that is not accepted")
	}
}

func TestGoal_FinishNamesItsKeyPair(t *testing.T) {
	for pair, want := range map[string]string{
		"": "`sidecar rotate --finish`", "ETL": "`sidecar rotate --finish --key-pair ETL`", "My Pair": "`sidecar rotate --finish --key-pair '\"My Pair\"'`",
	} {
		if got := (Goal{KeyPair: pair}).finish(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
