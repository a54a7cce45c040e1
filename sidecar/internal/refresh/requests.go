package refresh

import (
	"context"
	"time"
)

// requestGap is the least time between two looks that are requested.
const requestGap = 5 * time.Second

// Requests turns what other processes ask for, however often and through however many sockets, into looks
// that neither SSM nor the processor feel. The first request is a look at once, and each look is followed by
// a gap: requests within it become one look at its end. Every gap is twice as long as the one before, up to
// the interval at which there are looks anyway, until nobody has asked for as long as that. A gap that were
// short again sooner would be for whoever asks a moment after each.
type Requests struct {
	look    func()
	longest time.Duration
	asked   chan struct{}
}

// NewRequests makes Requests for a Refresher with this interval. Run them.
func NewRequests(look func(), interval time.Duration) *Requests {
	return &Requests{look: look, longest: max(interval, requestGap), asked: make(chan struct{}, 1)}
}

// Ask asks for a look. It does not wait.
func (r *Requests) Ask() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// Run causes the looks until ctx ends.
func (r *Requests) Run(ctx context.Context) {
	gap, over := requestGap, time.Now() // when the last gap was over
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.asked:
		}
		if time.Since(over) >= r.longest {
			gap = requestGap
		}
		r.look()
		select {
		case <-ctx.Done():
			return
		case <-time.After(gap):
		}
		gap, over = min(2*gap, r.longest), time.Now()
	}
}
