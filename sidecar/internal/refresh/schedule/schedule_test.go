package schedule

import (
	"slices"
	"testing"
	"time"
)

const configured = 5 * time.Minute

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestInterval_AfterThrottling(t *testing.T) {
	at := began.Add
	fresh := interval{configured: configured}
	once := fresh.afterThrottling(began)
	for name, tc := range map[string]struct {
		p    interval
		at   time.Duration
		want time.Duration
	}{
		"without any":                {fresh, 0, configured},
		"once: half as long again":   {once, 0, configured * 3 / 2},
		"half of the way back":       {once, recovery / 2 * configured * 3 / 2, configured * 5 / 4},
		"back":                       {once, recovery * configured * 3 / 2, configured},
		"long after":                 {once, 1000 * time.Hour, configured},
		"before the last throttling": {once, -time.Hour, configured * 3 / 2},
		"at the same moment":         {once.afterThrottling(began), 0, configured * 3 / 2},
		"a second later, on demand":  {once.afterThrottling(at(time.Second)), time.Second, configured*3/2 + time.Second},
		"twice, long apart":          {once.afterThrottling(at(1000 * time.Hour)), 1000 * time.Hour, configured * 3 / 2},
	} {
		if got := tc.p.at(at(tc.at)); (got - tc.want).Abs() > time.Second {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// The recovery grows with the time of throttling, up to four weeks, and the interval never exceeds its limit.
func TestInterval_RecoversInTwentyTimesTheTimeOfThrottling(t *testing.T) {
	for lasted, back := range map[time.Duration]time.Duration{
		2 * time.Hour:        40 * time.Hour,
		24 * time.Hour:       480 * time.Hour,
		365 * 24 * time.Hour: 28 * 24 * time.Hour,
	} {
		p, now := interval{configured: configured}, began
		for now.Sub(began) < lasted {
			p = p.afterThrottling(now)
			now = now.Add(p.at(now))
		}
		if p.at(now) > longestInterval {
			t.Errorf("after %v the interval is %v", lasted, p.at(now))
		}
		if took := p.until.Sub(p.last); took < back*6/10 || took > back {
			t.Errorf("after %v of throttling it takes %v, want about %v", lasted, took, back)
		}
	}
	long := interval{configured: 24 * time.Hour}.afterThrottling(began)
	if got := long.at(began); got != 24*time.Hour {
		t.Errorf("an interval longer than the longest became %v", got)
	}
}

func TestInterval_AfterStartup(t *testing.T) {
	for waited, want := range map[time.Duration]struct{ interval, throttled, back time.Duration }{
		time.Minute:      {configured, 2 * configured, startupRecovery * 2 * configured},
		20 * time.Minute: {40 * time.Minute, 80 * time.Minute, startupRecovery * 80 * time.Minute},
	} {
		now := began.Add(waited)
		p := interval{configured: configured}.afterStartup(began, now)
		if got := p.at(now); got != want.interval {
			t.Errorf("after %v the interval is %v", waited, got)
		}
		next := now.Add(p.at(now))
		p = p.afterThrottling(next)
		if got := p.at(next); (got - want.throttled).Abs() > want.throttled/50 {
			t.Errorf("after %v and another throttled refresh it is %v, want %v", waited, got, want.throttled)
		}
		if got := p.until.Sub(next); (got - want.back).Abs() > want.back/50 {
			t.Errorf("after %v it takes %v to come back, want %v", waited, got, want.back)
		}
	}
	now := began.Add(20 * time.Minute)
	p := interval{configured: configured}.afterStartup(began, now)
	if again := p.afterStartup(began.Add(19*time.Minute), now); again != p {
		t.Errorf("another key that waited less made %+v of %+v", again, p)
	}
}

// No time of throttling overflows.
func TestInterval_RecoversAfterYears(t *testing.T) {
	const years = 2 * 365 * 24 * time.Hour
	now := began.Add(years)
	p := interval{configured: configured}.afterStartup(began, now).afterThrottling(now)
	if got := p.at(now); got != longestInterval {
		t.Errorf("the interval is %v, want the longest, %v", got, longestInterval)
	}
	if got := p.until.Sub(now); got != longestRecovery {
		t.Errorf("it comes back within %v, want %v", got, longestRecovery)
	}
}

// A task that has waited long calls rarely, and never stops.
func TestBackoff_GrowsWithTheWaitForAFirstKey(t *testing.T) {
	for waited, want := range map[time.Duration][2]time.Duration{
		0:           {leastBackoff, leastBackoff + startupCeiling},
		time.Minute: {15 * time.Second, 31*time.Second + startupCeiling},
		time.Hour:   {15 * time.Minute, 30*time.Minute + leastBackoff + startupCeiling},
		// A task that was held back for days must not wait for days more.
		240 * time.Hour: {longestStartup / 4, longestStartup/2 + leastBackoff + startupCeiling},
	} {
		s := RetryState{Failures: 3, Throttled: true, Waiting: true, Since: began}
		var backoffs []time.Duration
		for range 100 {
			got := s.Backoff(began.Add(waited), configured, RandomUpTo)
			if got < want[0] || got > want[1] {
				t.Errorf("after %v the backoff is %v, want %v", waited, got, want)
			}
			backoffs = append(backoffs, got)
		}
		if apart := slices.Max(backoffs) - slices.Min(backoffs); apart < (want[1]-want[0])/2 {
			t.Errorf("after %v all backoffs are within %v, so that tasks that started together call together", waited, apart)
		}
	}
}

// In an outage of some hours a fleet with long intervals refreshes about as often as before.
func TestBackoff_FollowsIntervalInAnOutage(t *testing.T) {
	for _, long := range []time.Duration{time.Hour, 12 * time.Hour} {
		var sum time.Duration
		refreshes := 0
		for ; sum < 4*long; refreshes++ {
			sum += RetryState{Failures: refreshes + 1}.Backoff(began, long, RandomUpTo)
		}
		if refreshes < 6 || refreshes > 16 {
			t.Errorf("%d refreshes in an outage of four intervals of %v", refreshes, long)
		}
		for range 100 {
			if p := (RetryState{Failures: 20}).Backoff(began, long, RandomUpTo); p < long*9/10 {
				t.Errorf("backoff %v after many failures, where the interval is %v", p, long)
			}
		}
	}
	for range 100 {
		if p := (RetryState{Failures: 10000}).Backoff(began, 1000*time.Hour, RandomUpTo); p < leastBackoff {
			t.Errorf("backoff %v after many failures", p)
		}
	}
}

// none and all are the ends of what a Random may give.
func none(time.Duration) time.Duration  { return 0 }
func all(d time.Duration) time.Duration { return d - 1 }

func TestSchedule_SpreadsTasksAfterTheirFirstKey(t *testing.T) {
	for name, tc := range map[string]struct {
		random Random
		want   time.Duration
	}{"earliest": {none, leastBackoff}, "latest": {all, configured + leastBackoff - 1}} {
		s := New(configured).Refreshed(began, true, true, tc.random)
		if got := s.Next().Sub(began); got != tc.want {
			t.Errorf("%s: the second refresh is %v after the first, want %v", name, got, tc.want)
		}
		s = s.Refreshed(s.Next(), true, true, none)
		if got := s.Next().Sub(began) - tc.want; got != configured*9/10 {
			t.Errorf("%s: the third refresh is %v after the second", name, got)
		}
	}
}

func TestSchedule_RefreshOnDemandKeepsNext(t *testing.T) {
	s := New(configured).Refreshed(began, true, true, all)
	if on := s.Refreshed(began.Add(time.Second), true, false, none); on != s {
		t.Errorf("%+v became %+v", s, on)
	}
	if late := s.Refreshed(s.Next().Add(time.Hour), true, false, none); !late.Next().After(s.Next().Add(time.Hour)) {
		t.Error("the next refresh is in the past")
	}
}

func TestSchedule_LeavesTheLimitToTasksThatWait(t *testing.T) {
	now := began.Add(20 * time.Minute)
	s := New(configured).FirstKey(began, now).Refreshed(now, true, true, none)
	if got, want := s.Next().Sub(now), 40*time.Minute+leastBackoff; got != want {
		t.Errorf("after a wait of 20 minutes the next refresh is in %v, want %v", got, want)
	}
}

func TestSchedule_Resume(t *testing.T) {
	for name, tc := range map[string]struct {
		throttled []time.Time
		due       bool
	}{
		"never throttled":          {nil, true},
		"throttled a minute ago":   {[]time.Time{began.Add(-time.Minute)}, false},
		"throttled long ago":       {[]time.Time{began.Add(-100 * time.Hour)}, true},
		"one of two keys, lately":  {[]time.Time{began.Add(-100 * time.Hour), began.Add(-time.Second)}, false},
		"throttled at this moment": {[]time.Time{began}, false},
	} {
		s, due := New(configured).Resume(tc.throttled, began, none)
		if due != tc.due || !due && !s.Next().After(began) {
			t.Errorf("%s: due %v, next in %v", name, due, s.Next().Sub(began))
		}
	}
}

func TestRetryState_Failed(t *testing.T) {
	later := began.Add(time.Hour)
	s := RetryState{}.Failed(began, true, true).Failed(later, true, false)
	if want := (RetryState{Failures: 2, Throttled: true, Since: began}); s != want {
		t.Errorf("throttled twice: %+v, want %+v", s, want)
	}
	s = s.Failed(later, false, true)
	if want := (RetryState{Failures: 3, Waiting: true}); s != want {
		t.Errorf("then another failure: %+v, want %+v", s, want)
	}
}
