package schedule

import "time"

const (
	// longestInterval bounds how far throttling stretches the interval: a task refreshes at least twice a day.
	longestInterval = 12 * time.Hour
	// recovery is how many times as long as throttling lasted, or as the interval has become, the interval takes to
	// shrink back.
	recovery = 20
)

// An interval is the time between two refreshes: the configured one, and a longer one while SSM throttles.
//
// Each task learns from its own calls alone. Throttling makes its interval half as long again; after that the
// interval shrinks evenly, over twenty times as long as SSM has been throttling on and off. A short spell of
// throttling is soon forgotten, and a fleet that is too large for the account's limit settles below it: the longer
// it runs, the fewer of its calls are throttled.
type interval struct {
	configured time.Duration

	longest time.Duration // the interval at the time of last
	since   time.Time     // when throttling began
	last    time.Time     // when SSM throttled last
}

// at is the interval at a time.
func (i interval) at(now time.Time) time.Duration {
	if !i.stretched(now) {
		return i.configured
	}
	until := i.until()
	left := float64(until.Sub(now)) / float64(until.Sub(i.last))
	return i.configured + time.Duration(min(left, 1)*float64(i.longest-i.configured))
}

// stretched reports whether the interval is still longer than the configured one.
func (i interval) stretched(now time.Time) bool { return now.Before(i.until()) }

// until is when the configured interval is back. Throttling counts as no longer than two of the longest intervals, so
// that a fleet that was too large for a year recovers within weeks.
func (i interval) until() time.Time {
	lasted := max(i.longest, i.last.Sub(i.since))
	return i.last.Add(recovery * min(lasted, 2*longestInterval))
}

// afterThrottling is the interval after a refresh that SSM throttled. It grows by the time since the last throttled
// refresh at most, so that refreshes on demand do not stretch it further.
func (i interval) afterThrottling(now time.Time) interval {
	if !i.stretched(now) {
		i = interval{configured: i.configured, since: now}
	}
	current := i.at(now)
	return i.stretch(now, current+min(current/2, max(0, now.Sub(i.last))))
}

// afterStartup is the interval of a task that SSM throttled from since on, and that has its first key now. Tasks that
// start together are served one after the other: each waits, on average, half of the time that all of them take. At an
// interval of twice the wait they all fit. A task that has to stretch its interval for that probably started with a
// fleet that is too large, and recovers as if throttling had gone on for longer: by how much, the stretch says.
func (i interval) afterStartup(since, now time.Time) interval {
	longest := max(i.at(now), min(2*now.Sub(since), longestInterval))
	if longest <= i.configured {
		return i
	}
	since = now.Add(-recovery * (longest - i.configured))
	if i.stretched(now) && i.since.Before(since) {
		since = i.since
	}
	i.since = since
	return i.stretch(now, longest)
}

func (i interval) stretch(now time.Time, longest time.Duration) interval {
	i.longest, i.last = min(longest, max(i.configured, longestInterval)), now
	return i
}
