// Package refresh keeps published keys fresh: it looks at their source at once and then at every
// interval, publishes what changed, and after a failure tries again with growing, jittered pauses.
//
// Any number of sidecars can do so with one account: each looks less often while SSM throttles it (pace), and
// those that wait for a first key ask less often the longer they wait (queued).
//
// It never gives up, never takes a good key away because a newer one is bad or the source is out of
// reach, never has one key wait for another that fails, and never looks more often than it is asked to.
package refresh

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// A Source gives the material of wanted keys, or says that they are unchanged.
type Source interface {
	Fetch(ctx context.Context, wanted []ssm.Wanted) []ssm.Fetched
}

// Verify asks Snowflake whether it accepts a key, for the login that was stored with it, if one was.
type Verify func(context.Context, *keyfile.Key, decrypt.Login) error

// Options are what a Refresher works with.
type Options struct {
	Source   Source
	Keys     []Key
	Interval time.Duration
	GiveUp   func(error) bool // nil: never
	AtOnce   bool             // look at once, also after a predecessor that was throttled
	Observe  func(Outcome)    // nil: nobody counts; calls do not overlap
	Log      *slog.Logger
}

// A Key is one of the keys to keep fresh.
type Key struct {
	Name            string   // "" for one without others
	Handle          *ssm.Key // by which Source knows it
	Source          string   // for status.json
	Dir             Directory
	Claim           func(context.Context) error // nil: nobody else publishes there
	Verify          Verify                      // nil: publish without asking Snowflake
	PublishUnproven bool                        // publish a first key while Snowflake cannot be reached
}

// A Directory is where a key is published: a publish.Dir.
type Directory interface {
	fmt.Stringer // its path
	Create() error
	Left(source string) (*keyfile.Key, keyfile.Status)
	Key(*keyfile.Key) (changed bool, err error)
	Status(keyfile.Status) error
	Check() error
	Filesystem() string
}

// An Outcome is what one look at one key came to.
type Outcome struct {
	Key       string // its name
	Published bool   // a file had to be changed
	Unproven  bool   // the newest key is on disk, and Snowflake was not reached about it: Err
	Err       error
	Status    keyfile.Status
	Interval  time.Duration // between looks from now on: the one that was asked for, or a longer one while SSM throttles
}

// patience is how long a look waits for its keys. One that takes longer, since Snowflake does not answer, goes
// on beside the looks at the others.
const patience = time.Second

// A Refresher keeps keys fresh. What follows keys is for the one goroutine that looks.
type Refresher struct {
	Options
	now       chan struct{}
	requested chan struct{}
	keys      []*key

	busy map[*key]bool // those that are being looked at; true if a look was asked for since
	done chan ended
	pace pace
	// next is when keys that are as they should be are looked at. Looks that are asked for in between leave it as it
	// is: who asks many tasks at once shall not have them look together from then on.
	next   time.Time
	timed  bool          // the look that is under way was not asked for
	spread bool          // next is not the same for tasks that got their first key together
	queued time.Duration // how long this one was throttled before it got it
}

// An ended is the end of a look at one key.
type ended struct {
	key     *key
	outcome Outcome
	again   bool // another was asked for meanwhile
}

// New makes a Refresher that takes over what a predecessor left on disk.
func New(o Options) *Refresher {
	r := &Refresher{Options: o, now: make(chan struct{}, 1), requested: make(chan struct{}, 1), busy: map[*key]bool{}, done: make(chan ended)}
	r.pace = pace{asked: o.Interval}
	for _, k := range o.Keys {
		r.keys = append(r.keys, newKey(k, o.Log))
	}
	return r
}

// begin gives the keys to look at first. Those that are on disk and whose last look was throttled have time: a
// sidecar that is started over and over must not ask each time.
func (r *Refresher) begin() []*key {
	if r.AtOnce {
		return r.keys
	}
	now := time.Now()
	var due, patient []*key
	for _, k := range r.keys {
		last := k.status.LastError
		if k.good == nil || last == nil || last.Class != keyfile.ClassThrottled || last.At.After(now) {
			due = append(due, k)
			continue
		}
		patient = append(patient, k)
		k.throttled, k.since = true, last.At                  // so that requests leave it out
		r.pace = r.pace.throttled(now.Add(-now.Sub(last.At))) // the same time, but not by a clock that may yet be set
	}
	if !r.pace.remembers(now) {
		return r.keys
	}
	r.next, r.spread = now.Add(anywhere(r.pace.interval(now))), true
	for _, k := range patient {
		k.next = r.next
		r.Log.Info("SSM throttled the look before the start: the next one has time", "source", k.Source, "in", r.next.Sub(now).Round(time.Second).String())
	}
	return due
}

// Now asks for a look at every key as soon as possible. It does not wait, and many calls are one look.
func (r *Refresher) Now() { tell(r.now) }

// Request is Now for who does not see what SSM says: of a key for which SSM was asked too often the next
// look is when it is.
func (r *Refresher) Request() { tell(r.requested) }

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run looks until ctx ends, or returns the error after which there is no use in looking again.
func (r *Refresher) Run(ctx context.Context) error {
	defer r.rest()
	due, goesOn := r.begin(), true
	r.timed = true
	var late []ended
	for goesOn {
		all := slices.Concat(late, r.look(ctx, due, time.After(patience)))
		secret.Collect()
		for _, e := range all {
			if err := e.outcome.Err; err != nil && r.GiveUp != nil && r.GiveUp(err) {
				return err
			}
		}
		r.schedule(all)
		due, late, goesOn = r.wait(ctx)
	}
	return nil
}

// rest waits for the looks that are under way.
func (r *Refresher) rest() {
	for len(r.busy) > 0 {
		delete(r.busy, (<-r.done).key)
	}
}

// schedule says when each of the keys that were looked at is next. Those in the same situation stay
// together, so that they share calls.
func (r *Refresher) schedule(looked []ended) {
	now := time.Now()
	interval := r.pace.interval(now)
	published := slices.ContainsFunc(looked, func(e ended) bool { return e.key.failures == 0 })
	switch {
	case published && !r.spread:
		// Those that started with this task may wait longer still: the limit is theirs until then.
		r.next, r.spread = now.Add(min(2*r.queued, interval)+anywhere(interval)), true
	case r.timed && len(looked) == len(r.keys) || !r.next.After(now):
		r.next = now.Add(jittered(interval))
	}
	pauses := map[situation]time.Duration{}
	for _, e := range looked {
		k := e.key
		if e.again {
			k.next = now
			continue
		}
		if k.failures == 0 || k.throttled && !k.waiting {
			k.next = r.next
			continue
		}
		s := k.situation
		if _, ok := pauses[s]; !ok {
			pauses[s] = s.pause(now, interval)
		}
		k.next = now.Add(pauses[s])
	}
}

// wait gives the keys to look at next, or a look that has ended late, and reports whether ctx goes on.
func (r *Refresher) wait(ctx context.Context) (due []*key, late []ended, goesOn bool) {
	idle := slices.DeleteFunc(slices.Clone(r.keys), r.isBusy)
	var timer <-chan time.Time
	var first time.Time
	if len(idle) > 0 {
		first = slices.MinFunc(idle, func(a, b *key) int { return a.next.Compare(b.next) }).next
		timer = time.After(time.Until(first))
	}
	r.timed = false
	select {
	case <-ctx.Done():
		return nil, nil, false
	case e := <-r.done:
		late = []ended{r.note(ctx, e)}
	case <-r.now:
		due = idle
		r.againWhenDone()
	case <-r.requested:
		due = slices.DeleteFunc(idle, func(k *key) bool { return k.throttled })
		r.againWhenDone()
	case <-timer:
		r.timed = true
		due = slices.DeleteFunc(idle, func(k *key) bool { return k.next.After(first) })
	}
	return due, late, ctx.Err() == nil
}

// againWhenDone is for keys that are being looked at: what is asked for now they may not have seen.
func (r *Refresher) againWhenDone() {
	for k := range r.busy {
		r.busy[k] = true
	}
}

func (r *Refresher) isBusy(k *key) bool {
	_, busy := r.busy[k]
	return busy
}

// Look fetches what changed of every key and publishes it. An outcome's error is why the newest key is
// not on disk. It is for a process that ends then, and its memory with it: unlike Run it does not wait for
// what it leaves there to be overwritten.
func (r *Refresher) Look(ctx context.Context) []Outcome {
	var outcomes []Outcome
	for _, e := range r.look(ctx, r.keys, nil) {
		outcomes = append(outcomes, e.outcome)
	}
	return outcomes
}

// look has every key published as soon as it is ready: one may wait for Snowflake meanwhile. It gives the
// looks that have ended, these and earlier ones, when these all have or the time is up.
func (r *Refresher) look(ctx context.Context, due []*key, up <-chan time.Time) []ended {
	var all []ended
	var claimed []*key
	var wanted []ssm.Wanted
	for _, k := range due {
		if err := k.claim(ctx); err != nil {
			all = append(all, r.note(ctx, ended{key: k, outcome: k.refuse(ctx, err)}))
			continue
		}
		claimed = append(claimed, k)
		wanted = append(wanted, ssm.Wanted{Key: k.Handle, Known: k.newest.revision})
	}
	if len(claimed) == 0 {
		return all
	}
	fetched := r.Source.Fetch(ctx, wanted)
	r.adapt(time.Now(), claimed, fetched)
	for i, f := range fetched {
		k := claimed[i]
		r.busy[k] = false
		go func() { r.done <- ended{key: k, outcome: k.take(ctx, f)} }()
	}
	for left := len(claimed); left > 0; {
		select {
		case e := <-r.done:
			all = append(all, r.note(ctx, e))
			if slices.Contains(claimed, e.key) {
				left--
			}
		case <-up:
			return all
		}
	}
	return all
}

// adapt has the pace follow what SSM said to these keys.
func (r *Refresher) adapt(now time.Time, keys []*key, fetched []ssm.Fetched) {
	for i, k := range keys {
		f := fetched[i]
		k.behind = f.Err != nil && f.Changed
		throttled := f.Err != nil && failure.Class(f.Err) == keyfile.ClassThrottled
		switch {
		case throttled && k.good != nil && !k.behind:
			r.pace = r.pace.throttled(now)
		case f.Err == nil && k.throttled && k.good == nil:
			r.pace, r.queued = r.pace.waited(k.since, now), now.Sub(k.since)
		}
		k.looked = now
	}
	for _, k := range keys {
		k.interval = r.pace.interval(now)
	}
}

// note has an outcome counted at once, whatever else the look still waits for.
func (r *Refresher) note(ctx context.Context, e ended) ended {
	e.again = r.busy[e.key]
	delete(r.busy, e.key)
	e.outcome.Interval = r.pace.interval(time.Now())
	if r.Observe != nil && ctx.Err() == nil {
		r.Observe(e.outcome)
	}
	return e
}

// now is the time as status.json has it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
