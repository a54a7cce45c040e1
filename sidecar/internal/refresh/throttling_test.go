package refresh

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

const configured = 5 * time.Minute

var throttled = failure.New(keyfile.ClassThrottled, errors.New("rate exceeded"), "")

func TestRun_ThrottlingStretchesIntervalForAWhile(t *testing.T) {
	testenv.Slow(t)
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		runFor(t, f, time.Hour)
		f.source.fetches, f.source.err = nil, throttled
		runFor(t, f, 10*time.Hour)
		if n := len(f.source.fetches); n < 6 || n > 12 {
			t.Errorf("%d refreshes in ten hours of throttling", n)
		}
		if text := f.log.String(); !strings.Contains(text, "interval=7m30s") {
			t.Errorf("the log does not say how often there are refreshes:\n%s", text)
		}
		f.source.err = nil
		runFor(t, f, 200*time.Hour)
		f.source.fetches = nil
		runFor(t, f, 10*time.Hour)
		if n := len(f.source.fetches); n < 108 || n > 134 {
			t.Errorf("%d refreshes in ten hours long after, want 120", n)
		}
	})
}

func TestOutcome_HasInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var intervals []time.Duration
		f := start(t, func(o *Options, _ *Key) {
			o.Subscribers = subscribed(func(o Outcome) { intervals = append(intervals, o.Interval) })
		})
		f.source.set(testkey.Key(0))
		_ = f.Refresh(t.Context())
		f.source.err = throttled
		_ = f.Refresh(t.Context())
		if want := []time.Duration{configured, configured * 3 / 2}; !slices.Equal(intervals, want) {
			t.Errorf("intervals %v, want %v", intervals, want)
		}
	})
}

// Tasks that got their first keys together are spread over the interval from then on.
func TestRun_SecondRefreshIsRandomInInterval(t *testing.T) {
	testenv.Slow(t)
	synctest.Test(t, func(t *testing.T) {
		early, late := 0, 0
		for range 60 {
			f := start(t)
			f.source.set(testkey.Key(0))
			runFor(t, f, 10*time.Minute)
			switch second := f.source.fetches[1].Sub(f.source.fetches[0]); {
			case second < configured/4:
				early++
			case second > configured*3/4:
				late++
			}
		}
		if early < 4 || late < 4 {
			t.Errorf("of 60 tasks %d refreshed in the first quarter and %d in the last", early, late)
		}
	})
}

// A fleet that was triggered at once stays spread out.
func TestRefreshNow_KeepsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		stop := runs(t, f.Refresher)
		next := f.schedule.Next()
		if n := f.fetchesAfter(f.RefreshNow); n != 2 || !f.schedule.Next().Equal(next) {
			t.Errorf("%d refreshes, and the next moved by %v", n, f.schedule.Next().Sub(next))
		}
		stop()
	})
}

// A container that is started over and over.
func TestRun_DelaysFirstRefreshAfterThrottledPredecessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := start(t)
		first.source.set(testkey.Key(0))
		_ = first.Refresh(t.Context())
		first.source.err = throttled
		_ = first.Refresh(t.Context())
		refreshes := 0
		for range 100 {
			time.Sleep(30 * time.Second)
			next := first.successor(t)
			next.source.err = throttled
			runFor(t, next, 30*time.Second)
			refreshes += len(next.source.fetches)
		}
		if refreshes == 0 || refreshes > 20 {
			t.Errorf("100 successors of 30 s each refreshed %d times", refreshes)
		}

		exec := first.successor(t, func(o *Options, _ *Key) { o.Immediate = true })
		exec.source.err = throttled
		runFor(t, exec, time.Second/5)
		if len(exec.source.fetches) != 1 {
			t.Errorf("a command waits for it, and it refreshed %d times", len(exec.source.fetches))
		}
		time.Sleep(24 * time.Hour)
		later := first.successor(t)
		later.source.set(testkey.Key(1))
		runFor(t, later, time.Second/5)
		if len(later.source.fetches) != 1 {
			t.Errorf("a day later it refreshed %d times at its start", len(later.source.fetches))
		}
	})
}

// A clock that has been corrected since the predecessor must not delay a task.
func TestRun_StatusFromTheFutureDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := start(t)
		first.source.set(testkey.Key(0))
		_ = first.Refresh(t.Context())
		status, err := keyfile.ReadStatus(first.Dir.Path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []time.Time{time.Now().Add(time.Hour), time.Now().Add(100 * 365 * 24 * time.Hour)} {
			status.LastError = &keyfile.LastError{Class: keyfile.ClassThrottled, At: at}
			if err := first.Key.Dir.Status(status); err != nil {
				t.Fatal(err)
			}
			next := first.successor(t)
			next.source.set(testkey.Key(1))
			runFor(t, next, time.Second/5)
			if len(next.source.fetches) != 1 {
				t.Errorf("throttled at %v: %d refreshes at the start", at, len(next.source.fetches))
			}
		}
	})
}

// A task that knows of a newer key retries as one that waits for its first key does, and is back at its interval once it has it.
func TestRun_ThrottledNewerKeyIsRetriedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var interval time.Duration
		f := start(t, func(o *Options, _ *Key) { o.Subscribers = subscribed(func(o Outcome) { interval = o.Interval }) })
		f.source.set(testkey.Key(0))
		stop := runs(t, f.Refresher)
		time.Sleep(time.Hour)
		synctest.Wait()
		f.source.change(func() { f.source.fetches, f.source.err, f.source.newer = nil, throttled, true })
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if n := len(f.source.fetches); n < 4 || interval != configured {
			t.Errorf("%d refreshes within six minutes, interval %v", n, interval)
		}
		f.source.change(func() { f.source.newer = false }) // the change was reverted
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		f.source.change(func() { f.source.fetches = nil })
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(f.source.fetches); n > 7 || interval <= configured {
			t.Errorf("%d refreshes in an hour for a key that is no longer there, interval %v", n, interval)
		}
		stop()
	})
}

// The wait for a first key sets the interval, and the next refresh leaves the limit to tasks that still wait.
func TestRun_IntervalFollowsWaitForFirstKey(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{time.Minute: configured, 30 * time.Minute: time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var interval, longest time.Duration
			f := start(t, func(o *Options, _ *Key) { o.Subscribers = subscribed(func(o Outcome) { interval = o.Interval }) })
			f.source.err = throttled
			stop := runs(t, f.Refresher)
			time.Sleep(waited)
			synctest.Wait()
			f.source.change(func() { f.source.set(testkey.Key(0)) })
			longest = waited * 3 / 2 // its last pause is at most half of the wait
			time.Sleep(longest - waited + 5*time.Second)
			synctest.Wait()
			if interval < want || interval > 3*want/2+30*time.Second {
				t.Errorf("after a wait of %v the interval is %v", waited, interval)
			}
			if left := min(2*waited, interval); f.schedule.Next().Before(f.source.fetches[len(f.source.fetches)-1].Add(left)) {
				t.Errorf("after a wait of %v the next refresh is before %v", waited, left)
			}
			stop()
		})
	}
}

// A key that waits for its first material is not held back by the interval of published keys.
func TestRun_WaitingKeyIgnoresStretchedInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{fails: map[int]error{1: outage}}
		r, _ := several(t, s, 2)
		stop := runs(t, r)
		time.Sleep(time.Hour)
		s.change(func() { s.fails = map[int]error{0: throttled, 1: throttled} })
		time.Sleep(time.Hour)
		s.change(func() { s.fails = nil })
		time.Sleep(31 * time.Minute)
		if err := r.keys[1].Dir.Health(); err != nil {
			t.Errorf("half as long again as it was throttled it has no key: %v", err)
		}
		stop()
	})
}

// fetchesAfter is how many fetches there were, once a request had its effect.
func (f fixture) fetchesAfter(ask func()) int {
	ask()
	synctest.Wait()
	return len(f.source.fetches)
}

// A process that connects cannot see that SSM throttles, and must not make it worse; an operator who sends a signal can.
func TestTrigger_SkipsThrottledKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		stop := runs(t, f.Refresher)

		f.fetchesAfter(f.Trigger)
		f.source.err = failure.New(keyfile.ClassThrottled, errors.New("too often"), "wait")
		if n := f.fetchesAfter(f.Trigger); n != 3 {
			t.Errorf("%d refreshes, want the first and two that were requested", n)
		}
		if n := f.fetchesAfter(f.Trigger); n != 3 {
			t.Errorf("%d refreshes after SSM throttled", n)
		}
		if n := f.fetchesAfter(f.RefreshNow); n != 4 {
			t.Errorf("%d refreshes after SIGHUP, want 4", n)
		}
		stop()
	})
}

// The same holds for a key whose first refresh is delayed because SSM throttled the predecessor.
func TestTrigger_SkipsKeyThatWasThrottledBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := start(t)
		first.source.set(testkey.Key(0))
		_ = first.Refresh(t.Context())
		first.source.err = throttled
		_ = first.Refresh(t.Context())

		f := first.successor(t)
		f.source.set(testkey.Key(0))
		stop := runs(t, f.Refresher)
		if n := f.fetchesAfter(f.Trigger); n != 0 {
			t.Errorf("%d refreshes after a request", n)
		}
		if n := f.fetchesAfter(f.RefreshNow); n != 1 {
			t.Errorf("%d refreshes after SIGHUP, want 1", n)
		}
		stop()
	})
}
