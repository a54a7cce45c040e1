package refresh

import (
	"math/rand/v2"
	"time"
)

const (
	// longestInterval bounds what throttling makes of the interval: a task looks at least twice a day.
	longestInterval = 12 * time.Hour
	// rest is how many times as long as throttling lasted, or as the interval has become, it takes to come
	// back from it.
	rest = 20
	// longestRest bounds that.
	longestRest = 28 * 24 * time.Hour
)

// A pace is how often to look: at the interval that was asked for, and less often while SSM throttles.
//
// Each task has only its own calls to learn from. Throttling makes its interval half as long again; from then on
// the interval falls back evenly, over twenty times as long as it has been throttled now and then. So a short fit
// of throttling is soon forgotten, and a fleet that is too large for the account's limit settles below it: the
// longer it is there, the fewer of its calls are throttled.
type pace struct {
	asked time.Duration // the interval that was asked for

	slowest time.Duration // the interval at the time of last
	since   time.Time     // when throttling began
	last    time.Time     // when there was some for the last time
	until   time.Time     // when the interval is again what was asked for
}

// interval is the time between looks.
func (p pace) interval(now time.Time) time.Duration {
	if !p.slow(now) {
		return p.asked
	}
	left := float64(p.until.Sub(now)) / float64(p.until.Sub(p.last))
	return p.asked + time.Duration(min(left, 1)*float64(p.slowest-p.asked))
}

// slow reports whether the interval is longer than was asked for.
func (p pace) slow(now time.Time) bool { return now.Before(p.until) }

// throttled is the pace after a look that SSM throttled. Whoever looks more often than at the interval, because
// that was requested, does not learn more by it.
func (p pace) throttled(now time.Time) pace {
	since := now
	if p.slow(now) {
		since = p.since
	}
	interval := p.interval(now)
	return p.slowed(since, now, interval+min(interval/2, max(0, now.Sub(p.last))))
}

// waited is the pace of a task that was throttled since it started and has its first key now. Tasks that start
// together are served one after the other: each waits, on average, half of the time that the limit takes for all.
// So twice the wait is an interval at which they fit.
func (p pace) waited(since, now time.Time) pace {
	interval := 2 * now.Sub(since)
	if interval <= p.interval(now) {
		return p
	}
	return p.slowed(since, now, interval)
}

func (p pace) slowed(since, now time.Time, interval time.Duration) pace {
	interval = min(interval, max(p.asked, longestInterval))
	until := now.Add(min(rest*max(interval, now.Sub(since)), longestRest))
	if p.until.After(until) {
		until = p.until
	}
	return pace{asked: p.asked, slowest: interval, since: since, last: now, until: until}
}

// jittered is d give or take a tenth, so that tasks started together do not look together.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// anywhere is a random time below d, so that tasks which got their keys together do not look together.
func anywhere(d time.Duration) time.Duration {
	return leastPause + rand.N(d)
}
