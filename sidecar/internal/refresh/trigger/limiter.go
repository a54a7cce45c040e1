// Package trigger turns connections to refresh.sock and SIGHUP into refreshes. It bounds them: a flood of either costs
// neither calls to SSM nor processor time.
//
// It never reads what a connection sends, and never answers.
package trigger

import (
	"context"
	"time"
)

// LeastGap is the shortest time between two refreshes that one [Limiter] causes.
const LeastGap = 5 * time.Second

// A Limiter bounds the refreshes that requests cause. The first request is a refresh at once, and a gap follows each
// refresh: requests within it become one refresh at its end. Each gap is twice as long as the one before, up to the
// interval. The gap resets only after a quiet period as long as the interval; if it reset sooner, a request right after
// each gap could keep it short.
//
// refresh.sock and SIGHUP each have a Limiter, so that a program that may only connect cannot delay a signal.
type Limiter struct {
	least     time.Duration
	longest   time.Duration
	requested chan struct{}
}

// NewLimiter makes a Limiter. gap is the first gap, usually [LeastGap]. Run it.
func NewLimiter(gap, interval time.Duration) *Limiter {
	return &Limiter{least: gap, longest: max(interval, gap), requested: make(chan struct{}, 1)}
}

// Request triggers a refresh. It does not wait.
func (l *Limiter) Request() {
	select {
	case l.requested <- struct{}{}:
	default:
	}
}

// Run passes requests on as refreshes until ctx ends. refresh must not block.
func (l *Limiter) Run(ctx context.Context, refresh func()) {
	gap, over := l.least, time.Now() // when the last gap was over
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.requested:
		}
		if time.Since(over) >= l.longest {
			gap = l.least
		}
		refresh()
		select {
		case <-ctx.Done():
			return
		case <-time.After(gap):
		}
		gap, over = min(2*gap, l.longest), time.Now()
	}
}
