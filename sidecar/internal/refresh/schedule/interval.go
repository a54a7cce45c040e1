package schedule

import "time"

const (
	// longestInterval bounds how far throttling stretches the interval: a task refreshes at least twice a day.
	longestInterval = 12 * time.Hour
	// recovery is how many times as long as throttling lasted, or as the interval has become, the interval takes to
	// shrink back.
	recovery = 20
	// startupRecovery is the same for a task that SSM throttled from its start on.
	startupRecovery = 200
	// startupGrowth is for how many intervals such a task slows down faster.
	startupGrowth = 4
	// longestRecovery bounds both recoveries.
	longestRecovery = 28 * 24 * time.Hour
)

// An interval is the time between two refreshes: the configured one, and a longer one while SSM throttles.
//
// Each task learns from its own calls alone. Throttling makes its interval half as long again; after that the
// interval shrinks evenly, over twenty times as long as SSM has been throttling on and off. A short spell of
// throttling is soon forgotten, and a fleet that is too large for the account's limit settles below it: the longer
// it runs, the fewer of its calls are throttled. A task that was throttled while it waited for its first key probably
// started together with such a fleet: it slows down faster at first, and recovers more slowly.
type interval struct {
	configured time.Duration

	longest time.Duration // the interval at the time of last
	since   time.Time     // when throttling began
	last    time.Time     // when SSM throttled last
	until   time.Time     // when the configured interval is back
	startup bool          // throttling began at the start
}

// at is the interval at a time.
func (i interval) at(now time.Time) time.Duration {
	if !i.stretched(now) {
		return i.configured
	}
	left := float64(i.until.Sub(now)) / float64(i.until.Sub(i.last))
	return i.configured + time.Duration(min(left, 1)*float64(i.longest-i.configured))
}

// stretched reports whether the interval is still longer than the configured one.
func (i interval) stretched(now time.Time) bool { return now.Before(i.until) }

// afterThrottling is the interval after a refresh that SSM throttled. It grows by the time since the last throttled
// refresh at most, so that refreshes on demand do not stretch it further.
func (i interval) afterThrottling(now time.Time) interval {
	if !i.stretched(now) {
		i = interval{configured: i.configured, since: now}
	}
	current := i.at(now)
	growth := current / 2
	if i.startup && now.Sub(i.since) < startupGrowth*current {
		growth = current
	}
	return i.stretch(now, current+min(growth, max(0, now.Sub(i.last))))
}

// afterStartup is the interval of a task that SSM throttled from since on, and that has its first key now. Tasks that
// start together are served one after the other: each waits, on average, half of the time that all of them take. At an
// interval of twice the wait they all fit.
func (i interval) afterStartup(since, now time.Time) interval {
	if i.stretched(now) && i.since.Before(since) {
		since = i.since
	}
	longest := max(i.at(now), 2*now.Sub(since))
	i.since, i.startup = since, true
	return i.stretch(now, longest)
}

func (i interval) stretch(now time.Time, longest time.Duration) interval {
	i.longest, i.last = min(longest, max(i.configured, longestInterval)), now
	times := time.Duration(recovery)
	if i.startup {
		times = startupRecovery
	}
	until := now.Add(times * min(max(i.longest, now.Sub(i.since)), longestRecovery/times))
	if until.After(i.until) {
		i.until = until
	}
	return i
}
