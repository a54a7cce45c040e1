// Package refresh keeps published keys fresh: it looks at their source at once and then at every
// interval, publishes what changed, and after a failure tries again with growing, jittered pauses.
//
// It never gives up, never takes a good key away because a newer one is bad or the source is out of
// reach, never has one key wait for another that fails, and never looks more often than it is asked to.
package refresh

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
	"github.com/snowkey/snowkey/sidecar/internal/source"
)

// A Source gives the material of wanted keys, or says that they are unchanged.
type Source interface {
	Fetch(ctx context.Context, wanted []source.Wanted) []source.Fetched
}

// Verify asks Snowflake whether it accepts a key, for the login that was stored with it, if one was.
type Verify func(context.Context, *keyfile.Key, decrypt.Login) error

// Options are what a Refresher works with.
type Options struct {
	Source   Source
	Keys     []Key // in the source's order
	Interval time.Duration
	GiveUp   func(error) bool // nil: never
	Observe  func(Outcome)    // nil: nobody counts; calls do not overlap
	Log      *slog.Logger
}

// A Key is one of the keys to keep fresh.
type Key struct {
	Name            string // "" for one without others
	Source          string // for status.json
	Dir             publish.Dir
	Claim           func(context.Context) error // nil: nobody else publishes there
	Verify          Verify                      // nil: publish without asking Snowflake
	PublishUnproven bool                        // publish a first key while Snowflake cannot be reached
}

// An Outcome is what one look at one key came to.
type Outcome struct {
	Key       string // its name
	Published bool   // a file had to be changed
	Unproven  bool   // the newest key is on disk, and Err is why Snowflake has not accepted it yet
	Err       error
	Status    keyfile.Status
}

// A Refresher keeps keys fresh.
type Refresher struct {
	Options
	now  chan struct{}
	keys []*key
	next time.Time // when keys that are as they should be are looked at; for the one goroutine that looks
}

// New makes a Refresher that takes over what a predecessor left on disk.
func New(o Options) *Refresher {
	r := &Refresher{Options: o, now: make(chan struct{}, 1)}
	for i, k := range o.Keys {
		r.keys = append(r.keys, newKey(i, k, o.Log))
	}
	return r
}

// Now asks for a look at every key as soon as possible. It does not wait, and many requests are one.
func (r *Refresher) Now() {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

// Run looks until ctx ends, or returns the error after which there is no use in looking again.
func (r *Refresher) Run(ctx context.Context) error {
	due := r.keys
	for {
		for _, o := range r.look(ctx, due) {
			if o.Err != nil && r.GiveUp != nil && r.GiveUp(o.Err) {
				return o.Err
			}
		}
		r.schedule(due)
		var goesOn bool
		if due, goesOn = r.wait(ctx); !goesOn {
			return nil
		}
	}
}

// schedule says when each of the keys that were looked at is next. Those in the same situation stay
// together, so that they share calls.
func (r *Refresher) schedule(looked []*key) {
	now := time.Now()
	if len(looked) == len(r.keys) || !r.next.After(now) {
		r.next = now.Add(jittered(r.Interval))
	}
	pauses := map[situation]time.Duration{}
	for _, k := range looked {
		if k.failures == 0 {
			k.next = r.next
			continue
		}
		s := k.situation
		if _, ok := pauses[s]; !ok {
			pauses[s] = s.pause(r.Interval)
		}
		k.next = now.Add(pauses[s])
	}
}

// wait gives the keys to look at next, and reports whether ctx goes on.
func (r *Refresher) wait(ctx context.Context) (due []*key, goesOn bool) {
	first := slices.MinFunc(r.keys, func(a, b *key) int { return a.next.Compare(b.next) })
	timer := time.NewTimer(time.Until(first.next))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, false
	case <-r.now:
		due = r.keys
	case <-timer.C:
		due = slices.DeleteFunc(slices.Clone(r.keys), func(k *key) bool { return k.next.After(first.next) })
	}
	return due, ctx.Err() == nil
}

// Look fetches what changed of every key and publishes it. An outcome's error is why the newest key is
// not on disk.
func (r *Refresher) Look(ctx context.Context) []Outcome { return r.look(ctx, r.keys) }

// look has every key published as soon as it is ready: one may wait for Snowflake meanwhile.
func (r *Refresher) look(ctx context.Context, due []*key) []Outcome {
	var outcomes []Outcome
	note := func(o Outcome) {
		outcomes = append(outcomes, o)
		if r.Observe != nil && ctx.Err() == nil {
			r.Observe(o)
		}
	}
	var claimed []*key
	var wanted []source.Wanted
	for _, k := range due {
		if err := k.claim(ctx); err != nil {
			note(k.refuse(ctx, err))
			continue
		}
		claimed = append(claimed, k)
		wanted = append(wanted, source.Wanted{Key: k.place, Known: k.newest.revision})
	}
	if len(claimed) == 0 {
		return outcomes
	}
	done := make(chan Outcome)
	for i, f := range r.Source.Fetch(ctx, wanted) {
		go func() { done <- claimed[i].take(ctx, f) }()
	}
	for range claimed {
		note(<-done)
	}
	return outcomes
}

// now is the time as status.json has it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
