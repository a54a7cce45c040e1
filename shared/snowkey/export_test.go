package snowkey

import (
	"time"

	"github.com/snowkey/snowkey/shared/keywatch"
)

// WithSpareTTL sets how long spare sessions are kept.
func WithSpareTTL(d time.Duration) Option { return func(o *options) { o.spareTTL = d } }

// Backoff is the time before the next try of a candidate.
var Backoff = backoff

// LongestBackoff bounds it.
const LongestBackoff = leastBackoff + longestBackoff

// WithoutEvents has the key file read at its interval alone.
func WithoutEvents() Option {
	return func(o *options) { o.watch = append(o.watch, keywatch.WithoutEvents()) }
}

// MaxAsync bounds the asynchronous statements.
const MaxAsync = maxAsync
