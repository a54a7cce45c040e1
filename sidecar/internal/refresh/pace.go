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
	// crowdRest is the same for a task that was throttled from its start on.
	crowdRest = 200
	// crowdTime is for how many intervals such a task slows down faster.
	crowdTime = 4
	// longestRest bounds both rests.
	longestRest = 28 * 24 * time.Hour
)

// A pace is how often to look: at the interval that was asked for, and less often while SSM throttles.
//
// Each task has only its own calls to learn from. Throttling makes its interval half as long again; from then on
// the interval falls back evenly, over twenty times as long as it has been throttled now and then. So a short fit
// of throttling is soon forgotten, and a fleet that is too large for the account's limit settles below it: the
// longer it is there, the fewer of its calls are throttled. Who was throttled while it waited for its first key has
// most likely come with such a fleet: it slows down faster at first, and comes back more slowly.
type pace struct {
	asked time.Duration // the interval that was asked for

	slowest time.Duration // the interval at the time of last
	since   time.Time     // when throttling began
	last    time.Time     // when there was some for the last time
	until   time.Time     // when the interval is again what was asked for, and all is forgotten
	crowd   bool          // it began with the start
}

// interval is the time between looks.
func (p pace) interval(now time.Time) time.Duration {
	if !p.remembers(now) {
		return p.asked
	}
	left := float64(p.until.Sub(now)) / float64(p.until.Sub(p.last))
	return p.asked + time.Duration(min(left, 1)*float64(p.slowest-p.asked))
}

// remembers reports whether there was throttling that is not forgotten.
func (p pace) remembers(now time.Time) bool { return now.Before(p.until) }

// throttled is the pace after a look that SSM throttled. Whoever looks more often than at the interval, because
// that was requested, does not learn more by it.
func (p pace) throttled(now time.Time) pace {
	if !p.remembers(now) {
		p = pace{asked: p.asked, since: now}
	}
	interval := p.interval(now)
	growth := interval / 2
	if p.crowd && now.Sub(p.since) < crowdTime*interval {
		growth = interval
	}
	return p.slowed(now, interval+min(growth, max(0, now.Sub(p.last))))
}

// waited is the pace of a task that was throttled since it started and has its first key now. Tasks that start
// together are served one after the other: each waits, on average, half of the time that the limit takes for all.
// So twice the wait is an interval at which they fit.
func (p pace) waited(since, now time.Time) pace {
	if p.remembers(now) && p.since.Before(since) {
		since = p.since
	}
	interval := max(p.interval(now), 2*now.Sub(since))
	p.since, p.crowd = since, true
	return p.slowed(now, interval)
}

func (p pace) slowed(now time.Time, interval time.Duration) pace {
	p.slowest, p.last = min(interval, max(p.asked, longestInterval)), now
	times := time.Duration(rest)
	if p.crowd {
		times = crowdRest
	}
	until := now.Add(times * min(max(p.slowest, now.Sub(p.since)), longestRest/times))
	if until.After(p.until) {
		p.until = until
	}
	return p
}

// jittered is d give or take a tenth, so that tasks started together do not look together.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// anywhere is a random time below d, so that tasks which got their keys together do not look together.
func anywhere(d time.Duration) time.Duration {
	return leastPause + rand.N(d)
}
