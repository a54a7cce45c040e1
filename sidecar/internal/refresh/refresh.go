// Package refresh keeps published keys fresh: it fetches them at once and then at every interval, publishes what
// changed, and retries failures with growing, random delays.
//
// It never gives up, never takes a published key away because a newer one is invalid or its source is unreachable,
// never counts a key of another source as its own, never makes one key wait for another that fails, and never refreshes
// more often than the schedule and its triggers say.
package refresh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh/schedule"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// A Source gives the material of wanted keys, or says that they are unchanged.
type Source interface {
	Fetch(ctx context.Context, wanted []ssm.Wanted) []ssm.Fetched
}

// Verify returns why Snowflake does not accept a key. The Login is the one that was stored with the key, if any.
type Verify func(context.Context, *keyfile.Key, decrypt.Login) error

// Options are the settings of a Refresher.
type Options struct {
	Source      Source
	Keys        []Key
	Interval    time.Duration
	GiveUp      func(error) bool // nil: never
	Immediate   bool             // refresh at once even if SSM throttled a predecessor
	Subscribers []Subscriber     // in the order in which they are notified
	Log         *slog.Logger
}

// A Key is one of the keys to keep fresh.
type Key struct {
	Name              string   // "" for the only key
	Parameter         string   // as the settings name it; for people
	Handle            *ssm.Key // by which Source knows it; nil for the key in SECRET_KEY
	Dir               Directory
	Verify            Verify // nil: publish without a login to Snowflake
	PublishUnverified bool   // publish a first key while Snowflake cannot be reached

	// Connect writes the connection of the published key, with the login that was stored with it; nil while that is not
	// known. Connect itself is nil if there are no connections.
	Connect func(*decrypt.Login) error
}

// A Directory is where a key is published.
type Directory interface {
	fmt.Stringer // its path
	// Create makes it, if it is one of several. Its error is of class locked while a sidecar of one key publishes above it.
	Create() error
	// Disown removes the status if it tells of another source's key that no sidecar publishes.
	Disown()
	// Lock keeps sidecars with other sources out. The source is "" while it is not known: that takes no lock, and is
	// refused where another sidecar holds one.
	Lock(ctx context.Context, source string) error
	// Previous is the key that a predecessor published, and its status, if same says that it had the same source.
	// Otherwise there is no key, and the status says nothing about one.
	Previous(same func(source string) bool) (*keyfile.Key, keyfile.Status)
	// Newer is the key, with its status, that another sidecar of the source has published in the place of this one; nil
	// without one.
	Newer(*keyfile.Key) (*keyfile.Key, keyfile.Status)
	Key(*keyfile.Key) (changed bool, err error)
	Status(keyfile.Status) error
	// Health reports why the directory does not have what its status says.
	Health() error
	Unlock()
	// Unlocked says why Lock succeeded without a lock, "" if the directory is locked.
	Unlocked() string
	Filesystem() string
}

// An Outcome is the result of one refresh of one key. Its status has a fingerprint if a key of its own source is on
// disk. While another sidecar publishes in the directory (class locked), it says nothing about what is there.
type Outcome struct {
	Key        string // its name
	Published  bool   // a file had to be changed
	Unverified bool   // the fetched key is on disk, and Snowflake was not reached about it: Err
	Remark     string // how the fetched key's passphrase had to be read, "" as it is
	Err        error
	Status     keyfile.Status
	Interval   time.Duration // between refreshes from now on: the configured one, or a longer one while SSM throttles
}

// joinTimeout is how long a refresh waits for its keys. A key that takes longer, since Snowflake or its volume does not
// answer, goes on beside the refreshes of the others.
const joinTimeout = time.Second

// A Refresher keeps keys fresh. The fields below the channels belong to the goroutine of Run.
type Refresher struct {
	Options
	keys []*key

	refreshNow chan struct{}
	triggered  chan struct{}
	done       chan result

	busy      map[*key]bool // the keys that are being refreshed; true if another refresh was requested since
	schedule  schedule.Schedule
	random    schedule.Random
	scheduled bool // the refresh that is under way was not on demand
}

// A result is the end of a refresh of one key.
type result struct {
	key     *key
	outcome Outcome
	again   bool // another refresh was requested meanwhile
}

// New makes a Refresher. It takes over the keys that a predecessor of the same source left on disk.
func New(o Options) *Refresher {
	r := &Refresher{
		Options:    o,
		refreshNow: make(chan struct{}, 1),
		triggered:  make(chan struct{}, 1),
		done:       make(chan result),
		busy:       map[*key]bool{},
		schedule:   schedule.New(o.Interval),
		random:     schedule.RandomUpTo,
	}
	for _, k := range o.Keys {
		r.keys = append(r.keys, newKey(k, o.Log))
	}
	return r
}

// Ready reports why a key is not ready for its readers: each needs a valid key of its own source on disk. It may be
// called at any time.
func (r *Refresher) Ready() error {
	// The next refresh, which would overwrite what reading the files leaves in memory, may be hours away.
	defer secret.Collect()
	var all []error
	for _, k := range r.keys {
		all = append(all, k.ready())
	}
	return errors.Join(all...)
}

// RefreshNow requests a refresh of every key as soon as possible. It does not wait, and many calls are one refresh.
func (r *Refresher) RefreshNow() { notify(r.refreshNow) }

// Trigger is like RefreshNow but skips keys that SSM is throttling.
func (r *Refresher) Trigger() { notify(r.triggered) }

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run refreshes until ctx ends, or returns an error for which GiveUp is true.
func (r *Refresher) Run(ctx context.Context) error {
	defer r.unlock()
	defer r.waitForBusy()
	r.disown()
	due, running := r.firstDue(), true
	r.scheduled = true
	var late []result
	for running {
		results := slices.Concat(late, r.refresh(ctx, due, time.After(joinTimeout)))
		secret.Collect()
		for _, done := range results {
			if err := done.outcome.Err; err != nil && r.GiveUp != nil && r.GiveUp(err) {
				return err
			}
		}
		r.scheduleNext(results)
		due, late, running = r.wait(ctx)
	}
	return nil
}

// RefreshOnce fetches what changed of every key and publishes it. An outcome's error is why the key
// on disk may be stale. It is for a process that ends afterwards, and its memory with it: unlike Run it does not wait
// until the garbage is overwritten.
func (r *Refresher) RefreshOnce(ctx context.Context) []Outcome {
	var outcomes []Outcome
	for _, done := range r.refresh(ctx, r.keys, nil) {
		outcomes = append(outcomes, done.outcome)
	}
	return outcomes
}

// disown keeps directories from showing the key of another source during the first refresh.
func (r *Refresher) disown() {
	for _, k := range r.keys {
		if k.published.Load() == nil {
			k.Dir.Disown()
		}
	}
}

// unlock releases the directories for other sidecars.
func (r *Refresher) unlock() {
	for _, k := range r.keys {
		k.Dir.Unlock()
	}
}

// waitForBusy waits for the refreshes that are under way.
func (r *Refresher) waitForBusy() {
	for len(r.busy) > 0 {
		delete(r.busy, (<-r.done).key)
	}
}

// firstDue gives the keys to refresh at the start: all but those that a throttled predecessor has published, if the
// identity of their source was known without a call.
func (r *Refresher) firstDue() []*key {
	if r.Immediate {
		return r.keys
	}
	now := time.Now()
	var due, delayed []*key
	var throttled []time.Time
	for _, k := range r.keys {
		last := k.status.LastError
		if k.source == (ssm.Source{}) || k.published.Load() == nil || last == nil ||
			last.Class != keyfile.ClassThrottled || last.At.After(now) {
			due = append(due, k)
			continue
		}
		delayed = append(delayed, k)
		throttled = append(throttled, now.Add(-now.Sub(last.At))) // that time on the monotonic clock, so that setting the clock changes nothing
	}
	resumed, all := r.schedule.Resume(throttled, now, r.random)
	r.schedule = resumed
	for i, k := range delayed {
		k.retry.Throttled, k.retry.Since = true, throttled[i] // so that Trigger skips it
		k.next = r.schedule.Next()
		if !all {
			k.log.Info("SSM throttled the last refresh before the start; the first one is delayed",
				"source", k.status.Source, "in", k.next.Sub(now).Round(time.Second).String())
		}
	}
	if all {
		return r.keys
	}
	return due
}

// scheduleNext sets when each of the keys that were refreshed is due again. Keys in the same state stay together, so
// that they share calls.
func (r *Refresher) scheduleNext(results []result) {
	now := time.Now()
	healthy := slices.ContainsFunc(results, func(done result) bool { return done.key.retry.Failures == 0 })
	r.schedule = r.schedule.Refreshed(now, healthy, r.scheduled && len(results) == len(r.keys), r.random)
	interval := r.schedule.Interval(now)
	backoffs := map[schedule.RetryState]time.Duration{}
	for _, done := range results {
		k := done.key
		if done.again {
			k.next = now
			continue
		}
		if k.retry.FollowsInterval() {
			k.next = r.schedule.Next()
			continue
		}
		if _, ok := backoffs[k.retry]; !ok {
			backoffs[k.retry] = k.retry.Backoff(now, interval, r.random)
		}
		k.next = now.Add(backoffs[k.retry])
	}
}

// wait gives the keys to refresh next, or a refresh that has ended late, and reports whether ctx goes on.
func (r *Refresher) wait(ctx context.Context) (due []*key, late []result, running bool) {
	idle := slices.DeleteFunc(slices.Clone(r.keys), r.isBusy)
	var timer <-chan time.Time
	var first time.Time
	if len(idle) > 0 {
		first = slices.MinFunc(idle, func(a, b *key) int { return a.next.Compare(b.next) }).next
		timer = time.After(time.Until(first))
	}
	r.scheduled = false
	select {
	case <-ctx.Done():
		return nil, nil, false
	case done := <-r.done:
		late = []result{r.report(ctx, done)}
	case <-r.refreshNow:
		due = idle
		r.repeatBusy()
	case <-r.triggered:
		due = slices.DeleteFunc(idle, func(k *key) bool { return k.retry.Throttled })
		r.repeatBusy()
	case <-timer:
		r.scheduled = true
		due = slices.DeleteFunc(idle, func(k *key) bool { return k.next.After(first) })
	}
	return due, late, ctx.Err() == nil
}

// repeatBusy requests another refresh of the keys that are being refreshed: they may miss a change since they were fetched.
func (r *Refresher) repeatBusy() {
	for k := range r.busy {
		r.busy[k] = true
	}
}

func (r *Refresher) isBusy(k *key) bool {
	_, busy := r.busy[k]
	return busy
}

// refresh fetches the keys together and applies each in its own goroutine: one may wait for Snowflake meanwhile. It
// gives the refreshes that have ended, these and earlier ones, when these all have or when timeout fires.
func (r *Refresher) refresh(ctx context.Context, due []*key, timeout <-chan time.Time) []result {
	results, unlocked := r.retryLocks(ctx, due)
	if len(unlocked) == 0 {
		return results
	}
	wanted := make([]ssm.Wanted, len(unlocked))
	for i, k := range unlocked {
		wanted[i] = ssm.Wanted{Key: k.Handle, Known: k.fetched.revision}
	}
	fetched := byHandle(r.Source.Fetch(ctx, wanted))
	r.adapt(time.Now(), unlocked, fetched)
	for _, k := range unlocked {
		r.busy[k] = false
		go func() { r.done <- result{key: k, outcome: k.apply(ctx, fetched(k))} }()
	}
	for left := len(unlocked); left > 0; {
		select {
		case done := <-r.done:
			results = append(results, r.report(ctx, done))
			if slices.Contains(unlocked, done.key) {
				left--
			}
		case <-timeout:
			return results
		}
	}
	return results
}

// retryLocks leaves out the keys whose directory still belongs to another sidecar. Only a key that was refused before,
// and whose source is known, is tried here: fetching it would be useless.
func (r *Refresher) retryLocks(ctx context.Context, due []*key) (refused []result, unlocked []*key) {
	for _, k := range due {
		if k.locked.Load() && k.source != (ssm.Source{}) {
			if err := k.lock(ctx); err != nil {
				refused = append(refused, r.report(ctx, result{key: k, outcome: k.refuse(ctx, err)}))
				continue
			}
		}
		unlocked = append(unlocked, k)
	}
	return refused, unlocked
}

// byHandle gives what was fetched for a key, or an error if there is nothing.
func byHandle(all []ssm.Fetched) func(*key) ssm.Fetched {
	return func(k *key) ssm.Fetched {
		i := slices.IndexFunc(all, func(f ssm.Fetched) bool { return f.Key == k.Handle })
		if i < 0 {
			return ssm.Fetched{Key: k.Handle, Err: failure.New(keyfile.ClassOther,
				fmt.Errorf("there was no answer for %s", k.Parameter), "report this as a bug of the sidecar")}
		}
		return all[i]
	}
}

// adapt updates the interval from SSM's answers.
func (r *Refresher) adapt(now time.Time, keys []*key, fetched func(*key) ssm.Fetched) {
	for _, k := range keys {
		f := fetched(k)
		k.stale = f.Err != nil && f.Changed
		throttled := f.Err != nil && failure.Class(f.Err) == keyfile.ClassThrottled
		published := k.published.Load() != nil
		switch {
		case throttled && published && !k.stale:
			r.schedule = r.schedule.Throttled(now)
		case f.Err == nil && k.retry.Throttled && !published:
			r.schedule = r.schedule.FirstKey(k.retry.Since, now)
		}
		k.answered = now
	}
	for _, k := range keys {
		k.interval = r.schedule.Interval(now)
	}
}

// report notifies the subscribers of an outcome at once, whatever else the refresh still waits for.
func (r *Refresher) report(ctx context.Context, done result) result {
	done.again = r.busy[done.key]
	delete(r.busy, done.key)
	done.outcome.Interval = r.schedule.Interval(time.Now())
	if ctx.Err() == nil {
		for _, s := range r.Subscribers {
			s.notify(done.outcome, r.Log)
		}
	}
	return done
}

// now is the time as status.json has it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
