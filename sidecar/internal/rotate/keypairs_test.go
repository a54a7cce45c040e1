package rotate

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

const pairName = "ETL"

// newNamedFixture has the key in use in a named key pair, and nothing in the slots.
func newNamedFixture(t *testing.T) *fixture {
	f := newFixture(t)
	f.snowflake.UnsetPublicKey("svc", 1)
	f.snowflake.AddKeyPair("svc", pairName, &testkey.Key(0).RSA().PublicKey)
	return f
}

func (f *fixture) named() *process {
	p := f.process()
	p.KeyPair = pairName
	return p
}

// settledInPair: the key in use is in the key pair, and what was replaced is expiring.
func (f *fixture) settledInPair(what string) {
	f.t.Helper()
	_, key := f.inUse()
	held := ""
	for _, p := range f.snowflake.KeyPairs("svc") {
		switch {
		case p.Name == pairName:
			held = p.Fingerprint
			if !p.ExpiresAt.IsZero() {
				f.t.Errorf("%s: the key in use expires", what)
			}
		case p.ExpiresAt.IsZero():
			f.t.Errorf("%s: %s does not expire", what, p.Name)
		}
	}
	if held != key {
		f.t.Errorf("%s: the key in use is %s, the key pair has %s", what, key, held)
	}
	if slots := f.snowflake.Fingerprints("svc"); slots != [2]string{} {
		f.t.Errorf("%s: the slots have %v", what, slots)
	}
	f.ended(what)
}

func TestKeyPair_IsRotated(t *testing.T) {
	t.Parallel()
	f := newNamedFixture(t)
	for n := 1; n <= 2; n++ {
		p := f.named()
		p.Grace = 30 * time.Hour
		result := p.must("rotation", Rotated)
		if result.Fingerprint != testkey.Key(n).Fingerprint() || result.OldFingerprint != testkey.Key(n-1).Fingerprint() || result.Place != "key pair "+pairName {
			t.Errorf("result %+v", result)
		}
		f.settledInPair("rotation")
	}
	for _, pair := range f.snowflake.KeyPairs("svc") {
		if pair.Name != pairName && time.Until(pair.ExpiresAt).Round(time.Minute) != 30*time.Hour {
			t.Errorf("%s expires at %v", pair.Name, pair.ExpiresAt)
		}
	}
}

func TestKeyPair_TakesKeyFromSlot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.named().must("from the slot", Rotated)
	f.settledInPair("from the slot")
}

func TestKeyPair_KilledAnywhereAndRunAgain(t *testing.T) {
	t.Parallel()
	for start, make := range map[string]func(*testing.T) *fixture{"named": newNamedFixture, "from a slot": newFixture} {
		undisturbed := make(t).named()
		undisturbed.must("undisturbed")
		for name, how := range map[string]fate{"before": killed, "after": killedAfter} {
			for _, c := range undisturbed.calls {
				if !testenv.Has(c.n + len(start) + len(name)) {
					continue
				}
				what := fmt.Sprintf("%s, killed %s %v", start, name, c)
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					f := make(t)
					p := f.named()
					p.fate = killAt(c.n, how)
					if _, err := p.run(); err == nil && c.n < len(undisturbed.calls)-1 { // the lease can stay
						t.Fatal("it was not")
					}
					again := f.named()
					again.Finish = c.n%2 == 0
					dry := f.dryRun(what, again)
					result := again.must(what)
					dry.matches(again)
					if result.Outcome == Nothing && !again.Finish {
						t.Errorf("%s: nothing was done", what)
					}
					if _, key := f.inUse(); start == "from a slot" && key == testkey.Key(0).Fingerprint() {
						f.settled(what) // taken back
						return
					}
					f.settledInPair(what)
				})
			}
		}
	}
}

func TestKeyPair_KilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	for seed := range testenv.Times(3, 20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewSource(int64(seed)))
			f := newNamedFixture(t)
			what := ""
			for range 2 + random.Intn(4) {
				p := f.named()
				p.fate = killAt(1+random.Intn(32), []fate{killed, killedAfter}[random.Intn(2)])
				if _, err := p.run(); err != nil {
					what += fmt.Sprintf(" %v", p.calls[len(p.calls)-1])
				}
			}
			f.named().must(what)
			f.settledInPair(what)
		})
	}
}

// A key pair that expires anyway may not be asked to last longer.
func TestKeyPair_ExpiringIsRotated(t *testing.T) {
	t.Parallel()
	p := newExpiringWorld(t, 1).named()
	p.Grace = 100 * time.Hour
	p.must("an expiring key pair", Rotated)
}

func TestKeyPair_Refuses(t *testing.T) {
	t.Parallel()
	stranger := testkey.Key(90)
	for name, tc := range map[string]struct {
		change func(*fixture)
		want   Outcome
		says   []string
	}{
		"the name is another key's": {func(f *fixture) { f.snowflake.AddKeyPair("svc", pairName, &stranger.RSA().PublicKey) },
			Refused, []string{stranger.Fingerprint(), "REMOVE KEY PAIR " + pairName}},
		"no privilege": {func(f *fixture) { f.snowflake.SetCanAlterUsers("svc", false) }, Refused, []string{"42501", "GRANT MODIFY"}},
		"no named key pairs": {func(f *fixture) {
			f.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if strings.Contains(r.Statement, "KEY PAIR") {
					return &localsnowflake.Fault{Code: localsnowflake.SyntaxError, SQLState: "42000", Status: 422, Message: "SQL compilation error: syntax error"}
				}
				return nil
			})
		}, Refused, []string{"without --key-pair"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := f.named()
			tc.change(f)
			p.refuses(tc.want, tc.says...)
		})
	}
}

// A rotated key pair cannot be rotated back: the key in use expires unless the rotation is completed.
func TestKeyPair_RotationNotStoredSaysThatKeyExpires(t *testing.T) {
	t.Parallel()
	f := newNamedFixture(t)
	p := f.named()
	p.fail = func(c call) (int, string) {
		if c.what == "PutParameter "+keyParameter {
			return ssmErrors["access denied"].status, ssmErrors["access denied"].body
		}
		return 0, ""
	}
	if _, err := p.run(); err == nil || !strings.Contains(err.Error(), "expires with the key pair that was rotated") {
		t.Errorf("error %v", err)
	}
	f.check("a rotation that cannot be published")
	f.named().must("again", Rotated)
	f.settledInPair("again")
}

// A rotation that Snowflake refuses leaves the one before it as it was: complete.
func TestKeyPair_RefusedRotationLeavesTheRecordComplete(t *testing.T) {
	t.Parallel()
	f := newNamedFixture(t)
	f.named().must("first", Rotated)
	refused := f.named()
	refused.ForceNew = true
	refused.fail = func(c call) (int, string) {
		if strings.HasPrefix(c.what, "ALTER") {
			return sqlErrors["no privilege"].status, sqlErrors["no privilege"].body
		}
		return 0, ""
	}
	if result, err := refused.run(); err == nil {
		t.Fatalf("it was not refused: %+v", result)
	}
	if f.leased() {
		t.Error("the rotation before it is unfinished")
	}
	f.named().must("after it", Rotated)
	f.settledInPair("after it")
}
