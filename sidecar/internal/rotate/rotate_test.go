package rotate

import (
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

func TestRun_AlternatesSlots(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := 1; n <= 3; n++ {
		p := f.process()
		result := p.must("rotation", Rotated)
		if result.Fingerprint != testkey.Key(n).Fingerprint() || result.OldFingerprint != testkey.Key(n-1).Fingerprint() || result.Version != int64(n+1) {
			t.Errorf("result %+v", result)
		}
		slots := [2]string{testkey.Key(n).Fingerprint(), ""}
		if n%2 == 1 {
			slots = [2]string{"", testkey.Key(n).Fingerprint()}
		}
		if got := f.snowflake.Fingerprints("svc"); got != slots {
			t.Errorf("slots %v, want %v", got, slots)
		}
		f.settled("rotation")
		if testing.Verbose() {
			t.Logf("%v\n%s", p.calls, p.story())
		}
	}
}

// killAt has a process die at its nth call.
func killAt(n int, how fate) func(call) fate {
	return func(c call) fate {
		if c.n == n {
			return how
		}
		return answered
	}
}

// fateOf gives calls with this beginning a fate.
func fateOf(beginning string, how fate) func(call) fate {
	return func(c call) fate {
		if strings.HasPrefix(c.what, beginning) {
			return how
		}
		return answered
	}
}

// The state machine, killed at every single call and run again.
func TestRun_KilledAnywhereAndRunAgain(t *testing.T) {
	t.Parallel()
	all := calls(t, undisturbed)
	if len(all) < 15 || !strings.HasPrefix(all[len(all)-1].what, "DeleteParameter") {
		t.Fatalf("a rotation is %v", all)
	}
	killedAnywhere(t, all, func(t *testing.T, f *fixture, what string, last bool) {
		again := f.process()
		dry := f.dryRun(what, again)
		again.must(what, Rotated, Finished)
		dry.matches(again)
		f.settled(what)
		// Nothing is left to do after the end, which is the lease's: then it was another rotation.
		if version, _ := f.inUse(); version != 2 && !last {
			t.Errorf("%s and run again: the parameter has version %d", what, version)
		}
	})
}

// killedAnywhere kills a rotation before and after each of its calls, and hands over what it left; last is
// after the last one.
func killedAnywhere(t *testing.T, all []call, then func(t *testing.T, f *fixture, what string, last bool)) {
	t.Helper()
	for name, how := range map[string]fate{"before": killed, "after": killedAfter} {
		for _, c := range all {
			if !testenv.Has(c.n+len(name)) && (how == killed || !c.changes()) {
				continue
			}
			what := fmt.Sprintf("killed %s %v", name, c)
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				p := f.process()
				p.fate = killAt(c.n, how)
				if _, err := p.run(); err == nil && c.n < len(all)-1 { // the lease, which it reads and deletes last, can stay
					t.Fatal("it was not")
				}
				then(t, f, what, how == killedAfter && c.n == len(all))
			})
		}
	}
}

// A second run that only finishes returns to the start, or completes.
func TestRun_KilledAnywhereAndFinished(t *testing.T) {
	t.Parallel()
	killedAnywhere(t, calls(t, undisturbed), func(_ *testing.T, f *fixture, what string, _ bool) {
		again := f.process()
		again.Finish = true
		dry := f.dryRun(what, again)
		again.must(what, Finished, Withdrawn, Nothing)
		dry.matches(again)
		f.settled(what)
	})
}

func TestRun_KilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	for seed := range testenv.Times(6, 60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewSource(int64(seed)))
			f := newFixture(t)
			what := ""
			for range 2 + random.Intn(4) {
				p := f.process()
				p.Finish = random.Intn(5) == 0
				p.fate = killAt(1+random.Intn(32), []fate{killed, killedAfter}[random.Intn(2)])
				if _, err := p.run(); err != nil {
					what += fmt.Sprintf(" %v", p.calls[len(p.calls)-1])
				}
			}
			f.process().must(what)
			f.settled(what)
		})
	}
}

// Five runs at once, of which some die. Whatever happens, the key in use is accepted, and one run puts it right.
func TestRun_SeveralAtOnce(t *testing.T) {
	t.Parallel()
	for _, several := range []int{2, 5} {
		for seed := range testenv.Times(3, 10) {
			t.Run(fmt.Sprintf("%d at once, seed %d", several, seed), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewSource(int64(seed)))
				f := newFixture(t)
				var group sync.WaitGroup
				var rotated atomic.Int32
				deaths := 0
				for i := range several {
					p := f.process()
					// No owner that lives may lose the lease, however slow the machine.
					p.timing.section, p.timing.lease = 8*time.Second, 9*time.Second
					if seed%5 == 1 && i > 0 && random.Intn(2) == 0 {
						deaths++
						p.fate = killAt(1+random.Intn(40), []fate{killed, killedAfter}[random.Intn(2)])
					}
					delay := time.Duration(random.Intn(60)) * time.Millisecond
					group.Go(func() {
						time.Sleep(delay)
						result, err := p.run()
						if err != nil && !p.dead.Load() {
							t.Logf("seed %d: %v\n%s", seed, err, p.story())
						}
						if result.Outcome == Rotated {
							rotated.Add(1)
						}
					})
				}
				group.Wait()
				what := fmt.Sprintf("%d at once, seed %d", several, seed)
				if deaths == 0 {
					f.settled(what)
					if rotated.Load() == 0 {
						t.Errorf("%s: none has rotated", what)
					}
				}
				p := f.process()
				p.Finish = true
				p.must(what)
				f.settled(what)
			})
		}
	}
}
