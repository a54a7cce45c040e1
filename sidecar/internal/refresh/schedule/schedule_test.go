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

// The recovery grows with the time of throttling, up to twenty days, and the interval never exceeds its limit.
func TestInterval_RecoversInTwentyTimesTheTimeOfThrottling(t *testing.T) {
	for lasted, back := range map[time.Duration]time.Duration{
		2 * time.Hour:        40 * time.Hour,
		20 * time.Hour:       400 * time.Hour,
		365 * 24 * time.Hour: 20 * 24 * time.Hour,
	} {
		p, now := interval{configured: configured}, began
		for now.Sub(began) < lasted {
			p = p.afterThrottling(now)
			now = now.Add(p.at(now))
		}
		if p.at(now) > longestInterval {
			t.Errorf("after %v the interval is %v", lasted, p.at(now))
		}
		if took := p.until().Sub(p.last); took < back*6/10 || took > back {
			t.Errorf("after %v of throttling it takes %v, want about %v", lasted, took, back)
		}
	}
	long := interval{configured: 24 * time.Hour}.afterThrottling(began)
	if got := long.at(began); got != 24*time.Hour {
		t.Errorf("an interval longer than the longest became %v", got)
	}
}

func TestInterval_AfterStartup(t *testing.T) {
	for waited, want := range map[time.Duration]struct{ interval, back time.Duration }{
		time.Minute:      {configured, 0},
		3 * time.Minute:  {6 * time.Minute, recovery * recovery * time.Minute},
		20 * time.Minute: {40 * time.Minute, recovery * recovery * 35 * time.Minute},
		24 * time.Hour:   {longestInterval, recovery * 2 * longestInterval},
	} {
		now := began.Add(waited)
		p := interval{configured: configured}.afterStartup(began, now)
		if got := p.at(now); got != want.interval {
			t.Errorf("after %v the interval is %v, want %v", waited, got, want.interval)
		}
		if got := max(0, p.until().Sub(now)); got != want.back {
			t.Errorf("after %v it takes %v to come back, want %v", waited, got, want.back)
		}
	}
	now := began.Add(20 * time.Minute)
	p := interval{configured: configured}.afterStartup(began, now)
	if again := p.afterStartup(began.Add(19*time.Minute), now); again != p {
		t.Errorf("another key that waited less made %+v of %+v", again, p)
	}
	old := interval{configured: configured, since: began.Add(-1000 * time.Hour), longest: time.Hour, last: began}
	if got := old.afterStartup(began, now); got.since != old.since {
		t.Errorf("a task that was throttled for 1,000 hours before another key came forgot it: since %v", got.since)
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
	if got := p.until().Sub(now); got != recovery*2*longestInterval {
		t.Errorf("it comes back within %v", got)
	}
}

// A task that has waited long calls rarely, and never stops.
func TestBackoff_GrowsWithTheWaitForAFirstKey(t *testing.T) {
	for waited, want := range map[time.Duration][2]time.Duration{
		0:           {firstBackoff / 4, firstBackoff/2 + startupSpread},
		time.Minute: {15 * time.Second, 30*time.Second + startupSpread},
		time.Hour:   {15 * time.Minute, 30*time.Minute + startupSpread},
		// A task that was held back for days must not wait for days more.
		240 * time.Hour: {longestStartup / 4, longestStartup/2 + startupSpread},
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

// failing is the state of a key that has been failing since began, and is on disk unless the task waits for it.
func failing(waiting bool) RetryState { return RetryState{}.Failed(began, false, waiting) }

func TestBackoff_IsAboutTheTimeOfFailing(t *testing.T) {
	for name, tc := range map[string]struct {
		state              RetryState
		after, least, most time.Duration
	}{
		"at first":                         {failing(false), 0, firstBackoff / 2, firstBackoff * 3 / 2},
		"after a minute":                   {failing(false), time.Minute, 30 * time.Second, 90 * time.Second},
		"at the interval":                  {failing(false), 2 * configured, configured * 9 / 10, configured * 11 / 10},
		"after years":                      {failing(false), 200 * 365 * 24 * time.Hour, configured * 9 / 10, configured * 11 / 10},
		"waiting, at first":                {failing(true), 0, firstBackoff / 2, firstBackoff * 3 / 2},
		"waiting, after an hour":           {failing(true), time.Hour, waitingBackoff / 2, waitingBackoff * 3 / 2},
		"waiting, since no one knows when": {RetryState{Failures: 1, Waiting: true}, 0, waitingBackoff / 2, waitingBackoff * 3 / 2},
	} {
		earliest := tc.state.Backoff(began.Add(tc.after), configured, none)
		latest := tc.state.Backoff(began.Add(tc.after), configured, all)
		if (earliest-tc.least).Abs() > time.Millisecond || (latest-tc.most).Abs() > time.Millisecond {
			t.Errorf("%s: from %v to %v, want from %v to %v", name, earliest, latest, tc.least, tc.most)
		}
	}
	if got := failing(true).Backoff(began.Add(time.Hour), 5*time.Second, all); got > 5500*time.Millisecond {
		t.Errorf("a task that waits, and has an interval of 5 s, tries again in %v", got)
	}
}

// In an outage of some hours a fleet with long intervals refreshes not much more often than before.
func TestBackoff_FollowsIntervalInAnOutage(t *testing.T) {
	for _, long := range []time.Duration{time.Hour, 12 * time.Hour} {
		for range 20 {
			var sum time.Duration
			refreshes := 0
			for ; sum < 4*long; refreshes++ {
				sum += failing(false).Backoff(began.Add(sum), long, RandomUpTo)
			}
			if refreshes < 10 || refreshes > 40 {
				t.Errorf("%d refreshes in an outage of four intervals of %v", refreshes, long)
			}
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
	}{"earliest": {none, 0}, "latest": {all, configured - 1}} {
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
	if got, want := s.Next().Sub(now), 100*time.Minute; got != want {
		t.Errorf("after a wait of 20 minutes the next refresh is in %v, want %v", got, want)
	}
	s = New(configured).FirstKey(began.Add(-1000*time.Hour), began).Refreshed(began, true, true, none)
	if got := s.Next().Sub(began); got != longestInterval {
		t.Errorf("after a wait of 1,000 hours the next refresh is in %v, want %v", got, longestInterval)
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
		s, due := New(configured).Resume(tc.throttled, began, all)
		if due != tc.due || !due && !s.Next().Equal(began.Add(s.Interval(began)-1)) {
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
	if want := (RetryState{Failures: 3, Since: later, Waiting: true}); s != want {
		t.Errorf("then another failure: %+v, want %+v", s, want)
	}
	s = s.Failed(later.Add(time.Hour), false, true)
	if want := (RetryState{Failures: 4, Since: later, Waiting: true}); s != want {
		t.Errorf("then one more: %+v, want %+v", s, want)
	}
}
