// Package rotate gives a Snowflake user a new key without downtime: the new public key goes beside the one in use, the
// parameter's next version holds the new private key, and when the tasks have had the time to take it, the old public key
// goes.
//
// A run observes everything there is (state.go), makes a plan of it (plan.go), and does the plan's first action (apply.go)
// while it has the lease (lease.go); then it observes again. It remembers nothing that the next run would miss, so that a
// run that was interrupted anywhere is completed by the next one. The newest version of the parameter is the key in use.
//
// It never overwrites or removes a public key that no rotation has recorded, never stores a key that Snowflake does not
// accept, never removes the key in use, never shortens a grace period unless told to, never compares this machine's clock
// with another's, and never prints or logs key material.
package rotate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/platform"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// Options say what to rotate, and how.
type Options struct {
	Parameter string                                       // of the key
	Fetch     func(context.Context) (*ssm.Material, error) // that key and its passphrase, as its readers do
	Store     *ssm.Store
	Snowflake *snowflake.Client

	Goal
	Bits   int  // of the new key; 0 for as many as the old one has
	DryRun bool // change nothing, say what would be done

	Say       func(line string)    // prints what happens, a line for each step
	Countdown func(remains string) // prints a line in place of the last one, "" to erase it; nil without a terminal
	Stop      <-chan struct{}      // closed to end the run within seconds, at a point where that does no harm

	Lease    time.Duration // see timing.lease; 0 for the default
	RetryFor time.Duration // how long transient errors are retried; less than 0 for not at all, 0 for the default

	timing  timing
	newPair func(bits int, passphrase secret.Value) (key *keyfile.Key, encrypted []byte, err error)
}

// A timing is how long things take.
type timing struct {
	section time.Duration // what a run may take while it has the lease
	lease   time.Duration // after which a lease that has not changed belongs to a dead run; longer than section
	poll    time.Duration // between reads of another run's lease
	settle  time.Duration // between tries to log in with a key that was just assigned
	retry   time.Duration // before the first retry; twice as long before each following one
}

// defaultLease is how long a lease has to stay unchanged before its owner counts as dead, and its requests as done or
// lost. It covers a minute and a half, after which an owner stops by itself; a minute until its last write is answered;
// five minutes for which AWS takes a signed request; and two minutes by which clocks may differ. Snowflake takes a
// token for one minute.
const defaultLease = 10 * time.Minute

// Transient errors are retried for longer where nobody would start the run again.
const (
	retryAttended   = time.Minute
	retryUnattended = 15 * time.Minute
	longestRetry    = time.Minute
)

func (o *Options) setDefaults() {
	if o.timing == (timing{}) {
		o.timing = timing{section: 90 * time.Second, lease: defaultLease, poll: 2 * time.Second, settle: time.Second, retry: 5 * time.Second}
	}
	if o.Lease > 0 {
		o.timing.lease = o.Lease
	}
	switch {
	case o.RetryFor == 0 && o.Attended:
		o.RetryFor = retryAttended
	case o.RetryFor == 0:
		o.RetryFor = retryUnattended
	}
	if o.newPair == nil {
		o.newPair = newPair
	}
	if short := o.Grace % time.Second; short > 0 { // the record has whole seconds
		o.Grace += time.Second - short
	}
}

// An Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Rotated   Outcome = "rotated"   // this run made a key, and the old one is gone, or Snowflake will expire it
	Published Outcome = "published" // this run made a key, and the old one is still accepted
	Finished  Outcome = "finished"  // an earlier run's rotation was completed
	Waiting   Outcome = "waiting"   // an earlier run's old key is still accepted
	Withdrawn Outcome = "withdrawn" // what an interrupted run had made, and not stored, was taken back
	Overtaken Outcome = "overtaken" // another run made a key at the same time
	Young     Outcome = "young"     // the key in use is younger than MaxAge
	Nothing   Outcome = "nothing"   // there was nothing to finish
	DryRun    Outcome = "dry-run"
	Refused   Outcome = "refused" // somebody has to change something first
	Failed    Outcome = "failed"  // running it again is safe
)

// A Result is the summary of a run. It holds no secret. docs/rotation.md describes each field.
type Result struct {
	Outcome        Outcome   `json:"result"`
	MadeKey        bool      `json:"made_key"` // this run made a key, and it is in use
	Parameter      string    `json:"parameter"`
	Version        int64     `json:"version,omitempty"`         // of the parameter, now
	Fingerprint    string    `json:"fingerprint,omitempty"`     // of its key, which is the one in use
	OldFingerprint string    `json:"old_fingerprint,omitempty"` // of the key that was replaced or removed
	Place          string    `json:"place,omitempty"`           // the slot or key pair that holds the key in use
	GraceUntil     time.Time `json:"grace_until,omitzero"`      // when the old key may go, by AWS's clock
	Statements     []string  `json:"statements,omitempty"`      // of the plan, with DryRun
	Plan           []string  `json:"plan,omitempty"`            // with DryRun
	Error          string    `json:"error,omitempty"`
}

// ErrStopped reports that Stop ended a run which had something left to do.
var ErrStopped = errors.New("stopped before the end")

// A refusal is an error that stays until somebody changes something.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Permanent reports whether running again cannot help until somebody changes something.
func Permanent(err error) bool {
	_, ok := errors.AsType[refusal](err)
	return ok || failure.Permanent(err)
}

// transient reports whether a retry within minutes may succeed.
func transient(err error) bool {
	class := failure.Class(err)
	return !Permanent(err) && (class == keyfile.ClassNetwork || class == keyfile.ClassThrottled)
}

// A rotation is one run.
type rotation struct {
	*observer
	goal   Goal
	made   []string // fingerprints of keys that this run made
	acted  Outcome  // what this run has done so far; "" for nothing
	over   bool     // the run ends with acted
	reread bool     // the state was read again before a refusal because nothing is recorded
	notes  []string // of plans, that were printed
	result Result

	failingSince time.Time // the first error after the last success; zero if there is none
	failures     int
}

// Run rotates the key. If it finds a rotation unfinished, it completes that one, and makes a key only with ForceNew. The
// Result is valid also beside an error. Ending ctx ends a run at once, wherever it is; Stop lets it complete a change.
func Run(ctx context.Context, o Options) (Result, error) {
	o.setDefaults()
	r := &rotation{observer: &observer{Options: &o, opened: map[int64]string{}}, goal: o.Goal}
	r.result.Parameter = o.Parameter
	outcome, err := r.run(ctx)
	if errors.Is(err, ErrStopped) {
		outcome, err = r.stoppedEarly()
	}
	if err != nil {
		r.result.Error = err.Error()
		if outcome == "" {
			outcome = Failed
		}
		if Permanent(err) {
			outcome = Refused
		}
	}
	r.result.Outcome = outcome
	return r.result, err
}

// stoppedEarly is the outcome of a run that Stop ended, and what is left to do.
func (r *rotation) stoppedEarly() (Outcome, error) {
	still := "the old one may still be accepted; " + r.goal.finish() + " completes it"
	switch {
	case r.goal.made:
		return Published, fmt.Errorf("%w: the new key is in use, and %s", ErrStopped, still)
	case r.acted == Finished && !r.goal.ForceNew:
		return Finished, nil
	case r.acted == Finished:
		return Failed, fmt.Errorf("%w: an earlier rotation was completed, and no new key was made; run it again", ErrStopped)
	case r.result.OldFingerprint != "":
		return Waiting, fmt.Errorf("%w: this run made no key. The key of an earlier run is in use, and %s", ErrStopped, still)
	}
	return Failed, fmt.Errorf("%w, and nothing was changed; run it again", ErrStopped)
}

// maxSteps bounds a run that others keep disturbing.
const maxSteps = 20

// run observes, plans, and does the first action, until the plan is to stop.
func (r *rotation) run(ctx context.Context) (Outcome, error) {
	for range maxSteps {
		outcome, err := r.step(ctx)
		for err != nil && transient(err) && r.waitToRetry(ctx, err) {
			outcome, err = r.step(ctx)
		}
		if outcome != "" {
			return outcome, err
		}
		if err != nil {
			return "", r.explain(err)
		}
		r.failingSince, r.failures = time.Time{}, 0
	}
	return "", errors.New("others keep changing the parameter, the lease or the user; find out who does, then run it again")
}

func (r *rotation) step(ctx context.Context) (Outcome, error) {
	o, err := r.observeUnlessStopped(ctx)
	if err != nil {
		return "", err
	}
	defer o.clear()
	r.learn(o)
	p := plan(o.State, r.goal)
	for _, note := range p.Notes {
		if !slices.Contains(r.notes, note) {
			r.notes = append(r.notes, note)
			r.say("%s", note)
		}
	}
	if r.DryRun {
		return r.printPlan(o, p)
	}
	if refused, ok := p.Actions[0].(Refuse); ok && refused.unrecorded && !r.reread {
		r.reread = true // AWS may have given an older lease, without the record
		return "", sleep(ctx, r.timing.settle)
	}
	return r.apply(ctx, o, p.Actions[0])
}

// learn copies what was observed into the summary and the goal.
func (r *rotation) learn(o *observation) {
	if r.goal.startKey == "" {
		r.goal.startKey = o.InUse()
		r.say("found: %s", describe(o.State, r.goal))
	}
	r.result.MadeKey = slices.Contains(r.made, o.InUse())
	if r.result.MadeKey && !r.goal.made { // stored after all, by a request that was not answered
		r.acted, r.goal.made = Rotated, true
	}
	r.result.Version, r.result.Fingerprint = o.Newest().Number, o.InUse()
	p := newPlanner(o.State, r.goal)
	r.result.Place, r.result.GraceUntil = p.place.String(), time.Time{}
	if old := p.old(); len(old) > 0 && o.Refused == nil {
		r.result.GraceUntil, r.result.OldFingerprint = o.Newest().Modified.Add(p.promised()), old[0].Key
		r.goal.completing = r.goal.completing || !r.goal.ForceNew
	}
}

// observeUnlessStopped observes, and gives up at once when Stop comes: observing changes nothing.
func (r *rotation) observeUnlessStopped(ctx context.Context) (*observation, error) {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group.Go(func() {
		select {
		case <-r.Stop:
			cancel()
		case <-ctx.Done():
		}
	})
	o, err := r.observe(ctx)
	if err != nil && r.stopped() {
		return nil, ErrStopped
	}
	return o, err
}

// waitToRetry waits before another try, and reports whether there is one.
func (r *rotation) waitToRetry(ctx context.Context, err error) bool {
	if failure.Class(err) == keyfile.ClassThrottled {
		r.throttled = true
	}
	if r.failingSince.IsZero() {
		r.failingSince = time.Now()
	}
	wait := min(r.timing.retry<<min(r.failures, 10), longestRetry)
	wait = wait/2 + rand.N(wait/2+1)
	r.failures++
	if time.Since(r.failingSince)+wait > r.RetryFor {
		return false
	}
	r.say("%v; trying again in %v", err, wait.Round(time.Second))
	return r.wait(ctx, wait) == nil
}

// printPlan prints the plan of a dry run.
func (r *rotation) printPlan(o *observation, p Plan) (Outcome, error) {
	if !o.lease.free(r.timing.lease) {
		r.say("another run holds %s, or has died and left it: this is the plan if that run changes nothing more", o.Lease)
	}
	if refused, ok := p.Actions[0].(Refuse); ok {
		return Refused, refusal{refused.Why}
	}
	for i, a := range p.Actions {
		r.say("step %d: %s", i+1, a)
		r.result.Plan = append(r.result.Plan, a.String())
	}
	r.result.Statements = p.statements()
	r.say("changed nothing, since this is a dry run")
	return DryRun, nil
}

// waitForTasks waits for the end of the grace period.
func (r *rotation) waitForTasks(ctx context.Context, o *observation, a Wait) error {
	left := a.Until.Sub(o.Now)
	if left < time.Second {
		return r.wait(ctx, left)
	}
	line := fmt.Sprintf("waiting until %s (%v) for the %s to take the new key; the old key %s stays in %s meanwhile",
		a.Until.Local().Format("2006-01-02 15:04:05 MST"), left.Round(time.Second), platform.Here().Tasks(), a.Old.Key, a.Old)
	if r.Attended {
		line += "; Ctrl-C is safe: both keys are accepted, and " + r.goal.finish() + " completes it"
	}
	r.say("%s", line)
	err := r.countDown(ctx, left)
	if err == nil {
		r.say("the grace period is over")
	}
	return err
}

// countDown waits, and shows how long it still takes.
func (r *rotation) countDown(ctx context.Context, left time.Duration) error {
	if r.Countdown == nil {
		return r.wait(ctx, left)
	}
	defer r.Countdown("")
	for end := time.Now().Add(left); ; {
		remains := time.Until(end)
		if remains <= 0 {
			return nil
		}
		r.Countdown(fmt.Sprintf("%v left", remains.Round(time.Second)))
		if err := r.wait(ctx, min(remains, time.Second)); err != nil {
			return err
		}
	}
}

func (r *observer) say(format string, args ...any) { r.Say(fmt.Sprintf(format, args...)) }

func (r *rotation) stopped() bool {
	select {
	case <-r.Stop:
		return true
	default:
		return false
	}
}

// wait is ErrStopped when Stop comes first.
func (r *rotation) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.Stop:
		return ErrStopped
	case <-timer.C:
		return nil
	}
}

// explain adds to an error that no key in use was removed, and what to do.
func (r *rotation) explain(err error) error {
	switch {
	case errors.Is(err, ErrStopped):
		return err
	case Permanent(err):
		return refusal{err}
	}
	if r.goal.RevokeOld && len(r.made) > 0 {
		return fmt.Errorf("%w. No key in use was removed; run it again, without --revoke-old, which would now remove the key that %s still have",
			err, platform.Here().Tasks())
	}
	return fmt.Errorf("%w. No key in use was removed; run it again", err)
}
