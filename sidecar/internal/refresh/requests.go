package refresh

import (
	"context"
	"time"
)

// requestGap is the least time between two looks that are requested.
const requestGap = 5 * time.Second

// Requests turns what other processes ask for, however often and through however many sockets, into looks
// that neither SSM nor the processor feel. The first request is a look at once. Those within the gap after
// it become one look at its end, and the next gap is twice as long, up to the interval at which there are
// looks anyway; a gap in which nobody asks is the last.
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
	gap := requestGap
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.asked:
		}
		r.look()
		select {
		case <-ctx.Done():
			return
		case <-time.After(gap):
		}
		gap = min(2*gap, r.longest)
		if len(r.asked) == 0 {
			gap = requestGap
		}
	}
}
