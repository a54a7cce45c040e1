package rotate

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// keepBack keeps a request back: its sender gets no answer, and it takes effect when deliver says so.
func (p *process) keepBack(h http.Handler, r *http.Request) {
	kept := r.Clone(context.Background())
	p.fixture.mu.Lock()
	defer p.fixture.mu.Unlock()
	p.underWay = append(p.underWay, func() { h.ServeHTTP(httptest.NewRecorder(), kept) })
}

// deliver lets every request take effect that is still under way.
func (f *fixture) deliver() {
	f.mu.Lock()
	kept := f.underWay
	f.underWay = nil
	f.mu.Unlock()
	for _, request := range kept {
		request()
	}
	f.check("a request that came late")
}

// deliversWhileItWaits lets what is under way take effect as soon as the run waits for another one's lease.
func (p *process) deliversWhileItWaits() {
	p.timing.lease = 10 * time.Second // by AWS's clock, from what was sent: longer than a busy machine takes to get here
	say := p.Say
	p.Say = func(line string) {
		say(line)
		if strings.Contains(line, "waiting until") {
			p.deliver()
		}
	}
}

// What a run has sent may take effect long after it has given up or died, and when the next one is there
// already. That one has to wait until it cannot any more.
func TestLease_OutlastsLateRequests(t *testing.T) {
	t.Parallel()
	for _, c := range calls(t, undisturbed) {
		if !c.changes() {
			continue
		}
		for name, how := range map[string]fate{"given up": late, "killed": killedLate} {
			what := name + " before the effect of " + c.what
			if how == killedLate && !testenv.Has(c.n) {
				continue
			}
			t.Run(fmt.Sprintf("%s, call %d", what, c.n), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				p := f.once()
				p.fate = killAt(c.n, how)
				_, _ = p.run()
				again := f.process()
				again.deliversWhileItWaits()
				again.must(what)
				f.deliver()
				if f.leased() { // it came when the run had taken it away, and the next one does
					f.process().must(what)
				}
				f.settled(what)
			})
		}
	}
}

// The SDK may send a request again while the first one is still under way; the answer to the second says
// nothing about the first.
func TestLease_FirstOfTwoRequestsIsLate(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"throttled": "throttled", "denied": "access denied"} {
		f := newFixture(t)
		p := f.process()
		put := 0
		p.fate = func(c call) fate {
			if c.what == "PutParameter "+keyParameter {
				if put++; put == 1 {
					return late
				}
			}
			return answered
		}
		p.fail = func(c call) (int, string) {
			if c.what == "PutParameter "+keyParameter && put > 1 {
				return ssmErrors[answer].status, ssmErrors[answer].body
			}
			return 0, ""
		}
		_, _ = p.run()
		f.deliver()
		f.process().must(name)
		f.settled(name)
	}
}

// The SDK sends what was not answered again, and the lease may be another run's when the first request takes effect: that
// run's record has to stay. The other run is killed after it has assigned its key, so that only its record names it.
func TestLease_FirstOfTwoRequestsComesToAnotherRun(t *testing.T) {
	t.Parallel()
	for _, c := range calls(t, undisturbed) {
		if !c.changes() || !strings.HasSuffix(c.what, LeaseSuffix) {
			continue
		}
		t.Run(fmt.Sprintf("call %d, %s", c.n, c.what), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			first := f.process()
			first.fate = killAt(c.n, late)
			_, _ = first.run()
			second := f.process()
			second.ForceNew = true
			second.deliversWhileItWaits()
			second.fate = fateOf("ALTER USER SVC SET", killedAfter)
			_, _ = second.run()
			f.deliver()
			f.process().must("after both")
			f.settled("after both")
		})
	}
}

// Parameter Store may give an older version for a while after a newer one was written.
func TestObserve_StaleReadAfterWrite(t *testing.T) {
	t.Parallel()
	for reads := 1; reads <= 12; reads++ {
		t.Run(fmt.Sprint(reads), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.process()
			p.staleReads = reads
			_, _ = p.run()
			f.check("the end")
			f.process().must("with up to date reads")
			f.settled("with up to date reads")
		})
	}
}

// A run that reads an older version after it has read the newer one does not believe it.
func TestObserve_OlderVersionIsNotUsed(t *testing.T) {
	t.Parallel()
	for skip := range 12 {
		for reads := 1; reads <= 6; reads++ {
			if !testenv.Has(skip + reads) {
				continue
			}
			t.Run(fmt.Sprintf("%d right, %d old ones", skip, reads), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				p := f.process()
				p.staleAfter, p.staleReads = skip, reads
				_, _ = p.run()
				f.check("the end")
				f.process().must("with up to date reads")
				f.settled("with up to date reads")
			})
		}
	}
}

// Somebody stores another key, and assigns it over the new one, right after that was published.
func TestByHand_NewerKeyStays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hand := testkey.Key(80)
	p := f.process()
	p.after = func(c call) {
		if c.what == "PutParameter "+keyParameter && f.snowflake.Fingerprints("svc")[1] != hand.Fingerprint() {
			f.snowflake.SetPublicKey("svc", 2, &hand.RSA().PublicKey)
			f.ssm.Put(keyParameter, testkey.Encrypted(hand, passphrase))
		}
	}
	f.lax = true
	_, _ = p.run()
	f.lax = false
	f.check("the end")
	again := f.process()
	again.Finish = true
	again.must("again")
	if _, key := f.inUse(); key != hand.Fingerprint() {
		t.Errorf("the key in use is %s, not the one that somebody stored, %s\n%s", key, hand.Fingerprint(), p.story())
	}
}

// Readers by a label go on reading the version that has it.
func TestLabels_KeyIsNotRemoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ssm.Label(keyParameter, "production", 1)
	p := f.process()
	result, err := p.run()
	if result.Outcome != Refused || err == nil || !strings.Contains(err.Error(), "production") || f.snowflake.Fingerprints("svc")[0] == "" {
		t.Errorf("%s, error %v, slots %v\n%s", result.Outcome, err, f.snowflake.Fingerprints("svc"), p.story())
	}
	f.ssm.Label(keyParameter, "production", 2)
	f.process().must("when the label has moved", Finished)
	f.settled("when the label has moved")
}

func TestKeyPair_TakesKeyFromAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.snowflake.UnsetPublicKey("svc", 1)
	f.snowflake.AddKeyPair("svc", "FIRST", &testkey.Key(0).RSA().PublicKey)
	f.named().must("from one to another", Rotated)
	f.settledInPair("from one to another")
}

// A passphrase that is changed while a run goes on would not open what it stores.
func TestByHand_PassphraseIsChangedMeanwhile(t *testing.T) {
	t.Parallel()
	all := calls(t, undisturbed)
	for _, c := range all {
		if !testenv.Has(c.n) {
			continue
		}
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.process()
			published := false
			p.after = func(now call) {
				published = published || now.what == "PutParameter "+keyParameter
				if now.n == c.n && !published {
					f.ssm.Put(passParameter, "another")
				}
			}
			result, err := p.run()
			if version, _ := f.inUse(); !published && version != 1 || err == nil && !published {
				t.Errorf("changed after call %d, %s: version %d, %s, error %v\n%s", c.n, c.what, version, result.Outcome, err, p.story())
			}
			if published && c.n < 12 {
				t.Errorf("published %v\n%s", c, p.story())
			}
		})
	}
}

// A lease that is old by AWS's clock is of a run that has died, and is not waited for.
func TestLease_OldIsTakenOverAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.process()
	p.fate = fateOf("ALTER", killedAfter)
	_, _ = p.run()
	again := f.process()
	again.timing.lease = time.Second
	time.Sleep(2100 * time.Millisecond) // the Date header has whole seconds
	again.must("an old lease", Rotated)
	if strings.Contains(again.story(), "waiting until") {
		t.Error(again.story())
	}
	f.settled("an old lease")
}

// A machine sleeps in the middle of a change, and wakes up when the time of the run is over: nothing that is asked
// then is to blame.
func TestRun_AfterSleepSaysSo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.process()
	p.timing.section = 2 * time.Second
	p.after = func(c call) {
		if strings.HasPrefix(c.what, "ALTER") {
			time.Sleep(p.timing.section)
		}
	}
	result, err := p.run()
	if err == nil || result.Outcome != Failed || !strings.Contains(err.Error(), "the change took longer than 2s, as when the machine sleeps") {
		t.Errorf("%s, error %v", result.Outcome, err)
	}
	if story := p.story(); !strings.Contains(story, "waits until "+keyParameter+LeaseSuffix) || strings.Contains(story, "check the way") {
		t.Errorf("it says\n%s", story)
	}
	f.process().must("after one that slept", Rotated)
	f.settled("after one that slept")
}
