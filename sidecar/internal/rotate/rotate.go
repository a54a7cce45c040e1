// Package rotate gives a Snowflake user a new key without downtime: the new public key goes beside the one in
// use, the parameter's next version holds the new private key, and when every reader has had the time to
// follow, the old public key goes.
//
// The newest version of the parameter is the key in use, whatever anybody remembers: everything is read from
// AWS and Snowflake, each time anew, so that a run that was interrupted anywhere is completed by the next one.
//
// It never overwrites a public key that is not known to be the user's own or an unfinished rotation's, never
// lets the parameter hold a key that Snowflake does not accept, never removes the key in use, never compares
// this machine's clock with another's, and never prints or logs key material.
package rotate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// Options are what to rotate, and how.
type Options struct {
	Parameter string                                       // of the key
	Fetch     func(context.Context) (*ssm.Material, error) // that key and its passphrase, as its readers do
	Store     *ssm.Store
	Snowflake *snowflake.Client

	Grace   time.Duration // from the parameter's change to the end of the old key
	KeyPair string        // the named key pair that holds the key; "" for the two slots
	Bits    int           // of the new key; 0 for as many as the old one has
	Finish  bool          // only complete what is unfinished
	NoWait  bool          // end rather than wait for the grace period
	DryRun  bool          // change nothing, say what would be done

	Say  func(line string) // what happens, a line for each step
	Stop <-chan struct{}   // a wish to end: heeded wherever it does no harm, within seconds

	timing  timing
	newPair func(bits int, passphrase secret.Value) (key *keyfile.Key, encrypted []byte, err error)
}

// timing is for tests to shorten.
type timing struct {
	section time.Duration // what a run may take while it holds the journal
	lease   time.Duration // from which on one that stays the same has lost its owner; longer than section
	poll    time.Duration // between looks at somebody else's journal
	settle  time.Duration // between tries to log in with a key that was just assigned
}

// Lease is how long a journal has to stay the same before its owner counts as dead, and what it has sent as
// done or lost: the minute and a half after which it stops by itself, the minute that its hold of the journal
// may take to be answered, the five for which AWS takes a request that was signed, and two by which clocks may
// differ. Snowflake takes a token for one. It is a variable for tests only.
var Lease = 10 * time.Minute

func defaultTiming() timing {
	return timing{section: 90 * time.Second, lease: Lease, poll: 2 * time.Second, settle: time.Second}
}

// An Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Rotated  Outcome = "rotated"  // the new key is in use, the old one is gone, or Snowflake will expire it
	Finished Outcome = "finished" // an earlier run's rotation was completed
	Waiting  Outcome = "waiting"  // the new key is in use, the old one still accepted
	Nothing  Outcome = "nothing"  // there was nothing to do
	DryRun   Outcome = "dry-run"
	Refused  Outcome = "refused" // somebody has to change something first
	Failed   Outcome = "failed"  // running it again is safe
)

// A Result is the summary of a run. It holds no secret.
type Result struct {
	Outcome        Outcome   `json:"result"`
	Parameter      string    `json:"parameter"`
	Version        int64     `json:"version,omitempty"`         // of the parameter, now
	Fingerprint    string    `json:"fingerprint,omitempty"`     // of its key, which is the one in use
	OldFingerprint string    `json:"old_fingerprint,omitempty"` // of the key that this run replaced or removed
	Place          string    `json:"place,omitempty"`           // the slot or key pair that holds the key in use
	GraceUntil     time.Time `json:"grace_until,omitzero"`      // when the old key may go, by AWS's clock
	Statements     []string  `json:"statements,omitempty"`      // with DryRun: what would be run
	Error          string    `json:"error,omitempty"`
}

// ErrStopped is the end of a run by Stop, before there was nothing left to do.
var ErrStopped = errors.New("stopped before the end")

// A refusal is an error about which somebody has to do something before another run can help.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Permanent reports whether running again cannot help until somebody changes something.
func Permanent(err error) bool {
	_, ok := errors.AsType[refusal](err)
	return ok || failure.Permanent(err)
}

// A rotation is one run.
type rotation struct {
	Options
	id      string // of this run, in its journal
	started int64  // the parameter's version when the run began
	newest  int64  // version of the parameter that this run has read or written
	history map[int64]string
	acted   Outcome // what this run has done so far: Rotated, Finished, or ""
	over    bool    // and there is nothing left to look at
	result  Result
}

// Run rotates the key, or completes a rotation that it finds unfinished, and then begins no other. The result
// is complete also beside an error. Ending ctx ends a run at once, wherever it is; Stop is the gentle way.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.timing == (timing{}) {
		o.timing = defaultTiming()
	}
	if o.newPair == nil {
		o.newPair = newPair
	}
	r := &rotation{Options: o, id: rand.Text(), history: map[int64]string{}}
	r.result.Parameter = o.Parameter
	outcome, err := r.run(ctx)
	if errors.Is(err, ErrStopped) {
		outcome, err = r.unended()
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

// unended says what a run that was stopped has left.
func (r *rotation) unended() (Outcome, error) {
	switch {
	case r.acted == Finished:
		return Finished, nil
	case r.acted == Rotated, r.result.OldFingerprint != "":
		return Waiting, fmt.Errorf("%w: the new key is in use, and the old one may still be accepted; `sidecar rotate --finish` completes it", ErrStopped)
	}
	return Failed, fmt.Errorf("%w, and nothing was changed; run it again", ErrStopped)
}

// maxSteps bounds a run that others keep disturbing.
const maxSteps = 20

// run looks at what there is and takes one step, until there is none left.
func (r *rotation) run(ctx context.Context) (Outcome, error) {
	for range maxSteps {
		f, err := r.look(ctx)
		if err != nil {
			return "", err
		}
		if r.started == 0 {
			r.started = f.version.Number
			r.say("found: %s", f)
		}
		r.note(f)
		if err := f.obstacle(r); err != nil {
			return Refused, err
		}
		if r.DryRun {
			r.rehearse(f)
			return DryRun, nil
		}
		outcome, err := r.step(ctx, f)
		f.clear()
		if outcome == "" && err == nil && r.over {
			return r.acted, nil
		}
		if outcome != "" || err != nil {
			return outcome, err
		}
	}
	return "", errors.New("others keep changing the parameter, the journal or the user; look who does, then run it again")
}

// look inspects as long as nobody wishes it to end: it changes nothing.
func (r *rotation) look(ctx context.Context) (*found, error) {
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
	f, err := r.inspect(ctx)
	switch {
	case err == nil:
		return f, nil
	case r.stopped():
		return nil, ErrStopped
	}
	return nil, r.state(err)
}

// step does what the state asks for; an outcome ends the run.
func (r *rotation) step(ctx context.Context, f *found) (Outcome, error) {
	switch {
	case f.kind == unfinished:
		return r.complete(ctx, f)
	case r.acted != "":
		return r.acted, nil
	case f.version.Number != r.started:
		r.say("another run has rotated the key meanwhile")
		return Nothing, nil
	case r.Finish && f.kind == settled && f.journal == nil:
		r.say("nothing to finish")
		return Nothing, nil
	case r.Finish, f.done():
		return "", r.locked(ctx, entry{Ending: true}, r.tidy)
	}
	if r.stopped() {
		return "", ErrStopped
	}
	return "", r.locked(ctx, entry{}, r.begin)
}

// largeFleet is the grace period from which on nobody has to be told of those that SSM throttles.
const largeFleet = time.Hour

// complete waits for the end of the grace period and then removes the old key.
func (r *rotation) complete(ctx context.Context, f *found) (Outcome, error) {
	left := f.graceLeft(r.Grace)
	labelled := f.labelled(r.Parameter)
	if left <= 0 && labelled != nil {
		return "", labelled
	}
	if left <= 0 {
		return "", r.locked(ctx, entry{Ending: true}, r.end)
	}
	if r.NoWait {
		r.say("the old key %s stays in %s for %v more; `sidecar rotate --finish` removes it then", f.old.fingerprint, f.old, left.Round(time.Second))
		return Waiting, nil
	}
	r.say("waiting %v for the readers to follow; the old key %s stays in %s meanwhile", left.Round(time.Second), f.old.fingerprint, f.old)
	if r.Grace < largeFleet {
		r.say("tasks that SSM throttles look less often than each --interval, and lose their login if they have not followed by then: " +
			"with thousands of tasks, or a snowkey_interval_seconds that is longer than --interval, stop this run, and run it with --finish --grace 1h or more")
	}
	if labelled != nil {
		r.say("the old key cannot be removed then unless something is done: %v", labelled)
	}
	return "", r.wait(ctx, left)
}

// note puts what was found into the summary.
func (r *rotation) note(f *found) {
	r.result.Version, r.result.Fingerprint = f.version.Number, f.key.Fingerprint()
	r.result.Place = f.current.String()
	r.result.GraceUntil = time.Time{}
	if f.kind == unfinished {
		r.result.GraceUntil = f.version.Modified.Add(r.Grace)
		r.result.OldFingerprint = f.old.fingerprint
	}
}

func (r *rotation) say(format string, args ...any) { r.Say(fmt.Sprintf(format, args...)) }

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

// state adds to an error what it means for the key in use: nothing.
func (r *rotation) state(err error) error {
	if Permanent(err) {
		return refusal{err}
	}
	return fmt.Errorf("%w. What was in use was not taken away; running this again is safe", err)
}
