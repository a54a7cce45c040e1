package rotate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// The record of a rotation that never took place says nothing about the key of another program.
func TestRecord_OfWhatNeverTookPlaceRemovesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.process()
	p.fate = fateOf("ALTER USER SVC SET", killed)
	_, _ = p.run()
	hand := testkey.Key(40)
	f.snowflake.SetPublicKey("svc", 2, &hand.RSA().PublicKey)
	f.ssm.Put(keyParameter, testkey.Encrypted(hand, passphrase))
	for _, revokes := range []bool{false, true} {
		q := f.process()
		q.Finish, q.RevokeOld = true, revokes
		if result, err := q.run(); result.Outcome != Refused || !f.accepts(0) {
			t.Errorf("%+v, error %v\n%s", result, err, q.story())
		}
	}
}

// A record that could not be deleted is that of a rotation which is complete.
func TestRecord_ThatCannotBeDeletedIsOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	denied := func(p *process) *process {
		p.fail = func(c call) (int, string) {
			if c.what == "DeleteParameter "+keyParameter+LeaseSuffix {
				return ssmErrors["access denied"].status, ssmErrors["access denied"].body
			}
			return 0, ""
		}
		return p
	}
	denied(f.process()).must("first", Rotated)
	denied(f.process()).must("second", Rotated)
	f.snowflake.SetPublicKey("svc", 2, &testkey.Key(0).RSA().PublicKey) // given to another program
	q := denied(f.process())
	if result, err := q.run(); result.Outcome != Refused || !f.accepts(0) {
		t.Errorf("%+v, error %v\n%s", result, err, q.story())
	}
}

func TestRecord_OlderAnswerIsNotUsed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.process()
	p.NoWait, p.Grace = true, time.Hour
	stored, given := false, false
	p.after = func(c call) { stored = stored || c.what == "PutParameter "+keyParameter }
	p.fail = func(c call) (int, string) {
		if !stored || given || c.what != "GetParameterHistory "+keyParameter+LeaseSuffix {
			return 0, ""
		}
		given = true
		value, _ := json.Marshal(`{"run":"x"}`)
		return http.StatusOK, fmt.Sprintf(`{"Parameters":[{"Name":%q,"Type":"String","Version":1,"LastModifiedDate":%d,"Value":%s}]}`,
			keyParameter+LeaseSuffix, time.Now().Unix()-1, value)
	}
	p.must("its own lease", Published)

	q := f.process()
	q.GraceAuto, q.Finish, q.NoWait = true, true, true
	missed := false
	q.fail = func(c call) (int, string) {
		if missed || c.what != "GetParameterHistory "+keyParameter+LeaseSuffix {
			return 0, ""
		}
		missed = true
		return http.StatusBadRequest, `{"__type":"ParameterNotFound"}`
	}
	q.must("another run's", Waiting)
}

// made_key is about the key that is in use when the run ends.
func TestResult_KeyThatWasReplacedIsNotMade(t *testing.T) {
	for name, change := range map[string]func(*fixture){
		"stored again": func(f *fixture) { f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase)) },
		"rotated again": func(f *fixture) {
			b := f.process()
			b.ForceNew, b.NoWait, b.RevokeOld, b.Grace = true, true, true, time.Second
			b.must("another run", Published)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.lax = true // somebody else decides which key is in use
			p := f.process()
			p.Grace = 6 * time.Second
			p.whileItWaits(func() { change(f) })
			if result, err := p.run(); err == nil || result.MadeKey || result.Outcome != Failed {
				t.Errorf("%+v, error %v\n%s", result, err, p.story())
			}
		})
	}
}

func TestGrace_LengthenedWhileARunWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.process()
	stop := make(chan struct{})
	p.Grace, p.Stop = 6*time.Second, stop
	p.whileItWaits(func() {
		b := f.process()
		b.Finish, b.NoWait, b.Grace = true, true, 3*time.Hour
		b.must("another run", Waiting)
	})
	say, waits := p.Say, 0
	p.Say = func(line string) {
		say(line)
		if strings.HasPrefix(line, "waiting until") {
			if waits++; waits == 2 {
				close(stop)
			}
		}
	}
	if result, _ := p.run(); result.Outcome != Published || !result.MadeKey || !f.accepts(0) {
		t.Errorf("%+v\n%s", result, p.story())
	}
}

// It is for the key that it makes.
func TestGrace_OfForceNewIsNotForTheRotationBefore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.process()
	p.NoWait, p.Grace = true, 3*time.Second
	p.must("earlier", Published)
	time.Sleep(4100 * time.Millisecond) // AWS's times have whole seconds
	q := f.process()
	q.ForceNew, q.NoWait, q.Grace = true, true, 24*time.Hour
	if result, err := q.run(); err != nil || !result.MadeKey {
		t.Errorf("%+v, error %v\n%s", result, err, q.story())
	}
}

// The version of the rotation's own key was encrypted with another passphrase than the newest is.
func TestKey_InSealedVersionStaysForTheGracePeriod(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.lax = true
	p := f.process()
	p.NoWait, p.Grace = true, time.Hour
	p.must("published", Published)
	f.ssm.Put(passParameter, another)
	f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), another))
	q := f.process()
	q.GraceAuto, q.Finish, q.NoWait = true, true, true
	if result, err := q.run(); err != nil || result.Outcome != Waiting || !f.accepts(1) {
		t.Errorf("%+v, error %v\n%s", result, err, q.story())
	}
}

func TestOutcome_SameKeyStoredAgainIsNoRotation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, done := f.process(), false
	p.after = func(c call) {
		if c.what == "PutParameter "+keyParameter+LeaseSuffix && !done {
			done = true
			f.ssm.Put(keyParameter, testkey.Encrypted(testkey.Key(0), passphrase))
		}
	}
	p.must("stored again", Rotated)
}

// Run again with --revoke-old, the rotation that failed would be an earlier one.
func TestErrors_SayToRunAgainWithoutRevokeOld(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.once()
	p.ForceNew, p.NoWait, p.RevokeOld, p.GraceAuto = true, true, true, true
	stored := false
	p.after = func(c call) { stored = stored || c.what == "PutParameter "+keyParameter }
	p.fail = func(c call) (int, string) {
		if stored && c.ssm {
			return http.StatusServiceUnavailable, ""
		}
		return 0, ""
	}
	if _, err := p.run(); err == nil || !strings.Contains(err.Error(), "without --revoke-old") {
		t.Errorf("error %v", err)
	}
}
