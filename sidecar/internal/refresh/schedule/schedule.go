// Package schedule decides when keys are refreshed: the interval, which throttling stretches, and the backoff after
// failures. Everything in it is a function of time and state; it reads no clock, and draws random numbers only through
// the [Random] that its caller passes.
//
// Any number of sidecars can share one account: each refreshes less often while SSM throttles it, and those that wait
// for a first key call less often the longer they wait.
package schedule

import (
	"math/rand/v2"
	"time"
)

// A Random gives a random time from 0 up to, but not including, d, which is positive.
type Random func(d time.Duration) time.Duration

// RandomUpTo is the [Random] of a running program.
func RandomUpTo(d time.Duration) time.Duration { return rand.N(d) }

// A Schedule says when the healthy keys of a task are refreshed next. Refreshes on demand leave that time as it is, so
// that a fleet that was triggered at once stays spread out.
type Schedule struct {
	interval interval
	next     time.Time
	spread   bool          // next already differs between tasks that got their first key together
	startup  time.Duration // how long SSM throttled this task before its first key
}

// New is the schedule of a task with this configured interval, at its start.
func New(configured time.Duration) Schedule {
	return Schedule{interval: interval{configured: configured}}
}

// Interval is the time between two scheduled refreshes.
func (s Schedule) Interval(now time.Time) time.Duration { return s.interval.at(now) }

// Next is the time of the next scheduled refresh.
func (s Schedule) Next() time.Time { return s.next }

// Throttled is the schedule after SSM throttled the refresh of a published key.
func (s Schedule) Throttled(now time.Time) Schedule {
	s.interval = s.interval.afterThrottling(now)
	return s
}

// FirstKey is the schedule after a first key for which SSM had been throttling since then.
func (s Schedule) FirstKey(since, now time.Time) Schedule {
	s.interval, s.startup = s.interval.afterStartup(since, now), now.Sub(since)
	return s
}

// Resume is the schedule of a task whose predecessor SSM throttled at these times. Without due the first refresh waits
// for Next: a sidecar that is restarted over and over must not call at each start.
func (s Schedule) Resume(throttled []time.Time, now time.Time, random Random) (resumed Schedule, due bool) {
	for _, at := range throttled {
		s.interval = s.interval.afterThrottling(at)
	}
	if !s.interval.stretched(now) {
		return s, true
	}
	s.next, s.spread = now.Add(leastBackoff+random(s.Interval(now))), true
	return s, false
}

// Refreshed is the schedule after a refresh. healthy says that it succeeded for a key, and scheduled that it was not on
// demand and included all keys.
func (s Schedule) Refreshed(now time.Time, healthy, scheduled bool, random Random) Schedule {
	interval := s.Interval(now)
	switch {
	case healthy && !s.spread:
		// Tasks that started together with this one may still wait: the limit is left to them for as long again.
		s.next, s.spread = now.Add(min(2*s.startup, interval)+leastBackoff+random(interval)), true
	case scheduled || !s.next.After(now):
		s.next = now.Add(jittered(interval, random))
	}
	return s
}

// jittered is d give or take a tenth, so that tasks that started together do not refresh together.
func jittered(d time.Duration, random Random) time.Duration {
	return d - d/10 + random(d/5+1)
}
