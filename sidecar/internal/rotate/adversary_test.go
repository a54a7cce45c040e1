package rotate

import (
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// Two or three runs at once, with every mode. Each call may be lost, come late, fail, or be the last of its process. A
// process may stand still for longer than a lease, and its reads may be of older versions. The key in use stays accepted at
// every moment, also when what was late has come. At the end one run puts everything right.
func TestRun_AnythingHappensToSeveralAtOnce(t *testing.T) {
	t.Parallel()
	for seed := range testenv.Times(20, 300) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewSource(int64(seed)))
			f, start := newFixture(t), (*fixture).process
			inPair := random.Intn(3) == 0
			if inPair {
				f, start = newNamedFixture(t), (*fixture).named
			}
			var all []*process
			for range 2 + random.Intn(2) {
				p := start(f)
				// Shorter than any request is late, which is how it is outside tests.
				p.timing.section, p.timing.lease = 300*time.Millisecond, 1500*time.Millisecond
				p.Finish, p.NoWait = random.Intn(4) == 0, random.Intn(4) == 0
				p.ForceNew = !p.Finish && random.Intn(6) == 0
				p.RevokeOld = random.Intn(6) == 0
				if random.Intn(3) == 0 {
					p.RetryFor = time.Duration(random.Intn(500)) * time.Millisecond
				}
				p.staleAfter, p.staleReads = random.Intn(6), random.Intn(3)
				p.misfortune(rand.New(rand.NewSource(random.Int63())))
				all = append(all, p)
			}
			t.Cleanup(func() {
				for i, p := range all {
					if t.Failed() {
						t.Logf("%d: %v\n%s", i, p.calls, p.story())
					}
				}
			})
			var group sync.WaitGroup
			for _, p := range all {
				delay := time.Duration(random.Intn(400)) * time.Millisecond
				group.Go(func() {
					time.Sleep(delay)
					_, _ = p.run()
				})
			}
			group.Wait()
			time.Sleep(time.Second) // everything late has come
			f.check("the end")
			again := start(f)
			again.must("again")
			if inPair {
				f.settledInPair("again")
			} else {
				f.settled("again")
			}
		})
	}
}

// misfortune decides what becomes of each call.
func (p *process) misfortune(random *rand.Rand) {
	var mu sync.Mutex
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.Intn(n)
	}
	say := p.Say
	p.Say = func(line string) {
		say(line)
		if draw(8) == 0 { // it is stopped, and goes on when it is long thought dead
			time.Sleep(5 * p.timing.lease / 4)
		}
	}
	p.fate = func(c call) fate {
		changes := c.changes()
		if !changes && draw(25) > 0 || changes && draw(4) > 0 {
			return answered
		}
		how := []fate{lost, lostAfter, late, killed, killedAfter, killedLate}[draw(6)]
		if changes && (how == late || how == killedLate) {
			after := time.Duration(draw(700)) * time.Millisecond
			time.AfterFunc(after, p.deliver)
		}
		return how
	}
	p.fail = func(c call) (int, string) {
		if draw(25) > 0 {
			return 0, ""
		}
		errors := []badAnswer{sqlErrors["500"], sqlErrors["no privilege"], sqlErrors["policy"], sqlErrors["not JSON"]}
		if c.ssm {
			errors = []badAnswer{ssmErrors["throttled"], ssmErrors["access denied"], ssmErrors["500"], ssmErrors["updates"]}
		}
		bad := errors[draw(len(errors))]
		return bad.status, bad.body
	}
}
