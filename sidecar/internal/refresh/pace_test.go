package refresh

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

const asked = 5 * time.Minute

var (
	began     = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	throttled = failure.New(keyfile.ClassThrottled, errors.New("rate exceeded"), "")
)

func TestThePaceAfterThrottling(t *testing.T) {
	at := began.Add
	fresh := pace{asked: asked}
	once := fresh.throttled(began)
	for name, tc := range map[string]struct {
		p    pace
		at   time.Duration
		want time.Duration
	}{
		"without any":                  {fresh, 0, asked},
		"once: half as long again":     {once, 0, asked * 3 / 2},
		"half of the way back":         {once, rest / 2 * asked * 3 / 2, asked * 5 / 4},
		"back":                         {once, rest * asked * 3 / 2, asked},
		"long after":                   {once, 1000 * time.Hour, asked},
		"by the clock of another host": {once, -time.Hour, asked * 3 / 2},
		"at the same moment":           {once.throttled(began), 0, asked * 3 / 2},
		"a second later, as requested": {once.throttled(at(time.Second)), time.Second, asked*3/2 + time.Second},
		"twice, long apart":            {once.throttled(at(1000 * time.Hour)), 1000 * time.Hour, asked * 3 / 2},
	} {
		if got := tc.p.interval(at(tc.at)); (got - tc.want).Abs() > time.Second {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// The longer it lasts the longer it takes to come back, up to four weeks; and however long, there are looks.
func TestThePaceComesBackInTwentyTimesTheTimeOfThrottling(t *testing.T) {
	for lasted, back := range map[time.Duration]time.Duration{
		2 * time.Hour:        40 * time.Hour,
		24 * time.Hour:       480 * time.Hour,
		365 * 24 * time.Hour: 28 * 24 * time.Hour,
	} {
		p, now := pace{asked: asked}, began
		for now.Sub(began) < lasted {
			p = p.throttled(now)
			now = now.Add(p.interval(now))
		}
		if p.interval(now) > longestInterval {
			t.Errorf("after %v the interval is %v", lasted, p.interval(now))
		}
		if took := p.until.Sub(p.last); took < back*6/10 || took > back {
			t.Errorf("after %v of throttling it takes %v, want about %v", lasted, took, back)
		}
	}
	long := pace{asked: 24 * time.Hour}.throttled(began)
	if got := long.interval(began); got != 24*time.Hour {
		t.Errorf("an interval longer than the longest became %v", got)
	}
}

func TestThePaceOfATaskThatWaited(t *testing.T) {
	for waited, want := range map[time.Duration]struct{ interval, throttled, back time.Duration }{
		time.Minute:      {asked, 2 * asked, crowdRest * 2 * asked},
		20 * time.Minute: {40 * time.Minute, 80 * time.Minute, crowdRest * 80 * time.Minute},
	} {
		now := began.Add(waited)
		p := pace{asked: asked}.waited(began, now)
		if got := p.interval(now); got != want.interval {
			t.Errorf("after %v the interval is %v", waited, got)
		}
		next := now.Add(p.interval(now))
		p = p.throttled(next)
		if got := p.interval(next); (got - want.throttled).Abs() > want.throttled/50 {
			t.Errorf("after %v and another look that is throttled it is %v, want %v", waited, got, want.throttled)
		}
		if got := p.until.Sub(next); (got - want.back).Abs() > want.back/50 {
			t.Errorf("after %v it takes %v to come back, want %v", waited, got, want.back)
		}
	}
	now := began.Add(20 * time.Minute)
	p := pace{asked: asked}.waited(began, now)
	if again := p.waited(began.Add(19*time.Minute), now); again != p {
		t.Errorf("another key that waited less made %+v of %+v", again, p)
	}
}

// No time is too long to count with: what comes back must come back.
func TestThePaceOfWhoWasThrottledForYears(t *testing.T) {
	const years = 2 * 365 * 24 * time.Hour
	now := began.Add(years)
	p := pace{asked: asked}.waited(began, now).throttled(now)
	if got := p.interval(now); got != longestInterval {
		t.Errorf("the interval is %v, want the longest, %v", got, longestInterval)
	}
	if got := p.until.Sub(now); got != longestRest {
		t.Errorf("it comes back within %v, want %v", got, longestRest)
	}
}

// Others are served in the meantime: who has waited long asks rarely, and never stops.
func TestWhoWaitsLongerAsksLessOften(t *testing.T) {
	for waited, want := range map[time.Duration][2]time.Duration{
		0:           {leastPause, leastPause + queuePause},
		time.Minute: {15 * time.Second, 31*time.Second + queuePause},
		time.Hour:   {15 * time.Minute, 30*time.Minute + leastPause + queuePause},
		// A task that was held back for days must not wait for days more.
		240 * time.Hour: {longestQueue / 4, longestQueue/2 + leastPause + queuePause},
	} {
		s := situation{failures: 3, throttled: true, waiting: true, since: began}
		var pauses []time.Duration
		for range 100 {
			got := s.pause(began.Add(waited), asked)
			if got < want[0] || got > want[1] {
				t.Errorf("after %v the pause is %v, want %v", waited, got, want)
			}
			pauses = append(pauses, got)
		}
		if apart := slices.Max(pauses) - slices.Min(pauses); apart < (want[1]-want[0])/2 {
			t.Errorf("after %v all pauses are within %v: who started together asks together", waited, apart)
		}
	}
}

func TestThrottlingIsAnsweredWithFewerLooksAndIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		runFor(t, f, time.Hour)
		f.source.looks, f.source.err = nil, throttled
		runFor(t, f, 10*time.Hour)
		if n := len(f.source.looks); n < 6 || n > 12 {
			t.Errorf("%d looks in ten hours of throttling", n)
		}
		if text := f.log.String(); !strings.Contains(text, "interval=7m30s") {
			t.Errorf("the log does not say how often there are looks:\n%s", text)
		}
		f.source.err = nil
		runFor(t, f, 200*time.Hour)
		f.source.looks = nil
		runFor(t, f, 10*time.Hour)
		if n := len(f.source.looks); n < 108 || n > 134 {
			t.Errorf("%d looks in ten hours long after, want 120", n)
		}
	})
}

// An outage of some hours has a fleet with long intervals look about as often as before.
func TestPausesInAnOutageFollowTheInterval(t *testing.T) {
	for _, long := range []time.Duration{time.Hour, 12 * time.Hour} {
		var sum time.Duration
		looks := 0
		for ; sum < 4*long; looks++ {
			sum += situation{failures: looks + 1}.pause(began, long)
		}
		if looks < 6 || looks > 16 {
			t.Errorf("%d looks in an outage of four intervals of %v", looks, long)
		}
		for range 100 {
			if p := (situation{failures: 20}).pause(began, long); p < long*9/10 {
				t.Errorf("pause %v where the interval is %v, and the pauses have grown to it", p, long)
			}
		}
	}
	for range 100 {
		if p := (situation{failures: 10000}).pause(began, 1000*time.Hour); p < leastPause {
			t.Errorf("pause %v after many failures", p)
		}
	}
}

func TestTheOutcomeSaysHowOftenThereAreLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var intervals []time.Duration
		f := start(t, func(o *Options, _ *Key) {
			o.Observe = func(o Outcome) { intervals = append(intervals, o.Interval) }
		})
		f.source.set(testkey.Key(0))
		_ = f.Look(t.Context())
		f.source.err = throttled
		_ = f.Look(t.Context())
		if want := []time.Duration{asked, asked * 3 / 2}; !slices.Equal(intervals, want) {
			t.Errorf("intervals %v, want %v", intervals, want)
		}
	})
}

// Tasks that got their first keys together look anywhere in the interval from then on.
func TestTheSecondLookIsAnywhereInTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		early, late := 0, 0
		for range 60 {
			f := start(t)
			f.source.set(testkey.Key(0))
			runFor(t, f, 10*time.Minute)
			switch second := f.source.looks[1].Sub(f.source.looks[0]); {
			case second < asked/4:
				early++
			case second > asked*3/4:
				late++
			}
		}
		if early < 4 || late < 4 {
			t.Errorf("of 60 tasks %d looked in the first quarter and %d in the last", early, late)
		}
	})
}

// Whoever asks all tasks to look does not have them look together ever after.
func TestARequestedLookDoesNotMoveTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		stop := runs(t, f.Refresher)
		next := f.next
		if n := f.looksAfter(f.Now); n != 2 || !f.next.Equal(next) {
			t.Errorf("%d looks, and the next moved by %v", n, f.next.Sub(next))
		}
		stop()
	})
}

// A container that is started over and over.
func TestASuccessorOfAThrottledSidecarHasTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := start(t)
		first.source.set(testkey.Key(0))
		_ = first.Look(t.Context())
		first.source.err = throttled
		_ = first.Look(t.Context())
		looks := 0
		for range 100 {
			time.Sleep(30 * time.Second)
			next := start(t, func(_ *Options, k *Key) { k.Dir = first.Dir })
			next.source.err = throttled
			runFor(t, next, 30*time.Second)
			looks += len(next.source.looks)
		}
		if looks == 0 || looks > 20 {
			t.Errorf("100 successors of 30 s each looked %d times", looks)
		}

		exec := start(t, func(o *Options, k *Key) { k.Dir, o.AtOnce = first.Dir, true })
		exec.source.err = throttled
		runFor(t, exec, time.Second)
		if len(exec.source.looks) != 1 {
			t.Errorf("a command waits for it, and it looked %d times", len(exec.source.looks))
		}
		time.Sleep(24 * time.Hour)
		later := start(t, func(_ *Options, k *Key) { k.Dir = first.Dir })
		later.source.set(testkey.Key(1))
		runFor(t, later, time.Second)
		if len(later.source.looks) != 1 {
			t.Errorf("a day later it looked %d times at its start", len(later.source.looks))
		}
	})
}

// What a predecessor left is not what holds a task up: not by a clock that has been corrected since.
func TestAStatusFromTheFutureHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := start(t)
		first.source.set(testkey.Key(0))
		_ = first.Look(t.Context())
		_, status := first.Dir.Left("/app/key")
		for _, at := range []time.Time{time.Now().Add(time.Hour), time.Now().Add(100 * 365 * 24 * time.Hour)} {
			status.LastError = &keyfile.Failure{Class: keyfile.ClassThrottled, At: at}
			if err := first.Dir.Status(status); err != nil {
				t.Fatal(err)
			}
			next := start(t, func(_ *Options, k *Key) { k.Dir = first.Dir })
			next.source.set(testkey.Key(1))
			runFor(t, next, time.Second)
			if len(next.source.looks) != 1 {
				t.Errorf("throttled at %v: %d looks at the start", at, len(next.source.looks))
			}
		}
	})
}

// The clock that a predecessor's time is by may be set; from the start on, time is what passes.
func TestThePaceThatIsTakenOverDoesNotDependOnTheClock(t *testing.T) {
	first := start(t)
	first.source.set(testkey.Key(0))
	_ = first.Look(t.Context())
	first.source.err = throttled
	_ = first.Look(t.Context())
	next := start(t, func(_ *Options, k *Key) { k.Dir = first.Dir })
	time.Sleep(5 * time.Millisecond)
	next.begin()
	for name, at := range map[string]time.Time{"last": next.pace.last, "since": next.pace.since, "until": next.pace.until} {
		if !strings.Contains(at.String(), " m=") { // its monotonic time
			t.Errorf("%s is by the clock: %v", name, at)
		}
	}
}

// A task that knows of a newer key asks for it as one that waits for its first, and looks as often as before
// when it has it.
func TestWhoKnowsOfANewerKeyAsksForItSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var interval time.Duration
		f := start(t, func(o *Options, _ *Key) { o.Observe = func(o Outcome) { interval = o.Interval } })
		f.source.set(testkey.Key(0))
		stop := runs(t, f.Refresher)
		time.Sleep(time.Hour)
		synctest.Wait()
		f.source.change(func() { f.source.looks, f.source.err, f.source.newer = nil, throttled, true })
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if n := len(f.source.looks); n < 4 || interval != asked {
			t.Errorf("%d looks within six minutes, interval %v", n, interval)
		}
		f.source.change(func() { f.source.newer = false }) // somebody took it back
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		f.source.change(func() { f.source.looks = nil })
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(f.source.looks); n > 7 || interval <= asked {
			t.Errorf("%d looks in an hour for a key that is no longer there, interval %v", n, interval)
		}
		stop()
	})
}

// Who waits for a first key learns from the wait alone, and then leaves the limit to the others that wait.
func TestWhoGotItsFirstKeyLeavesTheLimitToOthers(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{time.Minute: asked, 30 * time.Minute: time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var interval, longest time.Duration
			f := start(t, func(o *Options, _ *Key) { o.Observe = func(o Outcome) { interval = o.Interval } })
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
			if left := min(2*waited, interval); f.next.Before(f.source.looks[len(f.source.looks)-1].Add(left)) {
				t.Errorf("after a wait of %v the next look is before %v", waited, left)
			}
			stop()
		})
	}
}

// A key that waits for its first material is not held back by the pace of those that are there.
func TestAWaitingKeyIsTriedMoreOftenThanThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{fails: map[int]error{1: outage}}
		r, _ := several(t, s, 2)
		stop := runs(t, r)
		time.Sleep(time.Hour)
		s.change(func() { s.fails = map[int]error{0: throttled, 1: throttled} })
		time.Sleep(time.Hour)
		s.change(func() { s.fails = nil })
		time.Sleep(31 * time.Minute)
		if err := r.keys[1].Dir.Check(); err != nil {
			t.Errorf("half as long again as it was throttled it has no key: %v", err)
		}
		stop()
	})
}
