package schedule

import "time"

const (
	// firstBackoff is the backoff after a first failure, give or take a half.
	firstBackoff = time.Second
	// waitingBackoff is the longest backoff, give or take a half, while the task waits for its first key, or for another
	// sidecar to end.
	waitingBackoff = 15 * time.Second
	// startupSpread is the time over which tasks that started together repeat a first call that SSM throttled.
	startupSpread = 4 * time.Second
	// longestStartup is the wait from which on the startup backoff no longer grows: 100,000 tasks that each call once an
	// hour are within the limit.
	longestStartup = 2 * time.Hour
)

// A RetryState is what the backoff of a key depends on. The zero RetryState is that of a healthy key.
type RetryState struct {
	Failures  int // in a row
	Throttled bool
	Since     time.Time // the first failure in a row that was throttled, or was not, as the last one
	Waiting   bool      // for a first key, for a newer one that is known to exist, or for another sidecar to end
}

// Failed is the state after another failure at a time.
func (s RetryState) Failed(at time.Time, throttled, waiting bool) RetryState {
	next := RetryState{Failures: s.Failures + 1, Throttled: throttled, Since: s.Since, Waiting: waiting}
	if s.Since.IsZero() || s.Throttled != throttled {
		next.Since = at
	}
	return next
}

// FollowsInterval reports whether the key is refreshed at the interval: because it is healthy, or because it is
// published and SSM throttles, which stretches the interval instead.
func (s RetryState) FollowsInterval() bool {
	return s.Failures == 0 || s.Throttled && !s.Waiting
}

// Backoff is the time until the next attempt of a key that does not follow the interval: about as long as it has been
// failing, and no longer than the interval.
func (s RetryState) Backoff(now time.Time, interval time.Duration, random Random) time.Duration {
	failing := max(now.Sub(s.Since), firstBackoff)
	switch {
	case s.Throttled && s.Waiting:
		return startupBackoff(failing, random)
	case s.Waiting:
		failing = min(failing, waitingBackoff)
	default:
		failing = min(failing, 2*interval) // keeps the sum below from overflowing
	}
	return min(failing/2+random(failing), jittered(interval, random))
}

// startupBackoff is the backoff of a task that SSM has been throttling for so long while it waits for a key. Tasks that
// start together do not know of each other, so each backs off in proportion to its wait: by a quarter to half of it.
// Whatever their number, together they call about twice as often as SSM answers, and leave little of its limit unused.
func startupBackoff(waited time.Duration, random Random) time.Duration {
	waited = min(waited, longestStartup)
	return random(startupSpread) + waited/4 + random(waited/4)
}
