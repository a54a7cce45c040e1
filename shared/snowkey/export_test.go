package snowkey

import (
	"time"

	"github.com/snowkey/snowkey/shared/keywatch"
)

// WithSpareTTL sets how long spare sessions are kept.
func WithSpareTTL(d time.Duration) Option { return func(o *options) { o.spareTTL = d } }

// Backoff returns the time before the next login with a candidate.
var Backoff = backoff

// LongestBackoff is the longest result of [Backoff].
const LongestBackoff = leastBackoff + longestBackoff

// WithoutEvents makes the pool only poll the key file.
func WithoutEvents() Option {
	return func(o *options) { o.watch = append(o.watch, keywatch.WithoutEvents()) }
}

// MaxAsync bounds the asynchronous statements.
const MaxAsync = maxAsync
