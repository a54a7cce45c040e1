package snowkey

import (
	"time"

	"github.com/snowkey/snowkey/shared/keywatch"
)

// WithKeep sets how long sessions that were set aside are kept.
func WithKeep(d time.Duration) Option { return func(o *options) { o.keep = d } }

// Pause is the time before the next try of a candidate.
var Pause = pause

// LongestPause bounds it.
const LongestPause = leastPause + longestPause

// KnowsDriver reports whether the driver has been used so far as this package expects.
func (c *Connector) KnowsDriver() bool { return !c.strangeDriver.Load() }

// WithoutEvents has the key file looked at only at its interval.
func WithoutEvents() Option {
	return func(o *options) { o.watch = append(o.watch, keywatch.WithoutEvents()) }
}

// RaceEnabled reports whether the race detector slows everything down.
const RaceEnabled = raceEnabled
