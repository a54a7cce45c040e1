package schedule

import "time"

const (
	// firstCeiling bounds the backoff after a first failure; the bound doubles with each further failure.
	firstCeiling = time.Second
	// firstFraction of the interval is the least first ceiling of a task that has its key: in an outage a fleet with a
	// long interval must not refresh much more often than before.
	firstFraction = 512
	// leastBackoff keeps a random backoff from being none at all.
	leastBackoff = 250 * time.Millisecond
	// waitingCeiling is the highest ceiling while the task waits for its first key, or for another sidecar to end.
	waitingCeiling = 30 * time.Second
	// startupCeiling bounds the backoff after SSM first throttled a task that waits for its first key.
	startupCeiling = 4 * time.Second
	// longestStartup is the wait from which on the startup backoff no longer grows: 100,000 tasks that each call once an
	// hour are within the limit.
	longestStartup = 2 * time.Hour
)

// A RetryState is what the backoff of a key depends on. The zero RetryState is that of a healthy key.
type RetryState struct {
	Failures  int // in a row
	Throttled bool
	Since     time.Time // the first throttled refresh in a row
	Waiting   bool      // for a first key, for a newer one that is known to exist, or for another sidecar to end
}

// Failed is the state after another failure at a time.
func (s RetryState) Failed(at time.Time, throttled, waiting bool) RetryState {
	next := RetryState{Failures: s.Failures + 1, Throttled: throttled, Waiting: waiting}
	switch {
	case throttled && s.Throttled:
		next.Since = s.Since
	case throttled:
		next.Since = at
	}
	return next
}

// FollowsInterval reports whether the key is refreshed at the interval: because it is healthy, or because it is
// published and SSM throttles, which stretches the interval instead.
func (s RetryState) FollowsInterval() bool {
	return s.Failures == 0 || s.Throttled && !s.Waiting
}

// Backoff is the time until the next attempt of a key that does not follow the interval.
func (s RetryState) Backoff(now time.Time, interval time.Duration, random Random) time.Duration {
	switch {
	case s.Throttled && s.Waiting:
		return startupBackoff(now.Sub(s.Since), random)
	case s.Waiting:
		return leastBackoff + random(min(ceilingAfter(s.Failures, firstCeiling), interval, waitingCeiling))
	}
	if ceiling := ceilingAfter(s.Failures, max(firstCeiling, interval/firstFraction)); ceiling < interval {
		return leastBackoff + random(ceiling)
	}
	return jittered(interval, random) // a random time below the interval would be half of it on average
}

// startupBackoff is the backoff of a task that SSM has been throttling for so long while it waits for a key. Tasks that
// start together do not know of each other, so each backs off in proportion to its wait: by a quarter to half of it.
// Whatever their number, together they call about twice as often as SSM answers, and leave little of its limit unused.
func startupBackoff(waited time.Duration, random Random) time.Duration {
	waited = min(waited, longestStartup)
	return leastBackoff + random(startupCeiling) + waited/4 + random(waited/4+1)
}

// ceilingAfter doubles with each failure, up to more than any interval.
func ceilingAfter(failures int, first time.Duration) time.Duration {
	return first << min(failures-1, 12)
}
