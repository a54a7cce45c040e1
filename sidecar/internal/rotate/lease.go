package rotate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// LeaseSuffix follows the name of the key's parameter in the lease's name.
const LeaseSuffix = ".rotation"

// A lease is the right of one run to change the key. It is a parameter beside the key's. It also records the rotation,
// from the making of its key to the removal of the old one.
//
// AWS has no conditional write except the creation of a parameter. So the parameter's versions are a log from which
// every run derives the same owner: the first run that wrote while the lease was free. Times are AWS's. A run that
// loses a race has added a version that means nothing. A request that takes effect after a later one of its run means
// nothing either: the SDK repeats unanswered requests. A deletion leaves no version to judge it by, so it is sent once.
type lease struct {
	store  *ssm.Store
	name   string
	id     string // of the last attempt to acquire it: a run that acquires the lease again is another owner
	timing timing
	say    func(format string, args ...any)

	writes  int    // of this owner; the acquisition is the first
	number  int64  // of the version that this owner wrote last
	record  record // as this owner found it, and has written it since
	created bool   // by this owner: nothing was recorded before
	keep    string // why the lease has to expire by itself; "" if it can be released
}

// A record is what the lease says about the rotation.
type record struct {
	Rotation
	over bool // the rotation is complete
}

// A Rotation is the lease's record of a rotation. Only the keys that it names may be removed.
type Rotation struct {
	New          string   `json:"new"`              // fingerprint of the key that it makes
	Old          string   `json:"old"`              // of the key that it replaces
	GraceSeconds int64    `json:"grace_seconds"`    // how long Old stays accepted after New was stored
	Unused       []string `json:"unused,omitempty"` // keys that interrupted runs have made and may have assigned
	Version      int64    `json:"version"`          // of the parameter, which holds Old: New is only in a later one
	Lost         bool     `json:"lost,omitempty"`   // somebody else has replaced Old at the same moment
}

func (r Rotation) grace() time.Duration { return time.Duration(r.GraceSeconds) * time.Second }

// names reports whether a rotation made or replaces the key.
func (r Rotation) names(fingerprint string) bool { return r.made(fingerprint) || fingerprint == r.Old }

// made reports whether a rotation made the key.
func (r Rotation) made(fingerprint string) bool {
	return fingerprint == r.New || slices.Contains(r.Unused, fingerprint)
}

// maxUnused is more keys than a user can have at once.
const maxUnused = 20

// next is the record of a rotation that follows one that was interrupted.
func (r Rotation) next(made, replaced string, version int64, grace time.Duration) Rotation {
	unused := r.Unused
	if r.New != "" && r.New != replaced {
		unused = append([]string{r.New}, unused...)
	}
	return Rotation{New: made, Old: replaced, Version: version, GraceSeconds: int64(grace.Seconds()), Unused: unused[:min(len(unused), maxUnused)]}
}

// A leaseVersion is one version of the parameter.
type leaseVersion struct {
	Owner    string    `json:"run"`
	Write    int       `json:"write"`              // its number among the owner's writes; 1 is the acquisition
	Released string    `json:"released,omitempty"` // why its owner gave it up; "" while it is held
	Rotation *Rotation `json:"rotation,omitempty"` // nil to leave the record as it is
	Over     bool      `json:"over,omitempty"`     // the recorded rotation is complete
}

// A leaseState is the sum of all versions.
type leaseState struct {
	exists   bool
	number   int64  // of the newest version
	creator  string // wrote version 1
	owner    string
	write    int // of the owner, the last one
	released bool
	record
	since time.Time // the owner's last write
	now   time.Time
}

func (s leaseState) age() time.Duration { return s.now.Sub(s.since) }

func (s leaseState) free(expiry time.Duration) bool {
	return !s.exists || s.released || s.age() >= expiry
}

// leaseOf derives the state from the versions. An acquisition by another run counts if the lease was free when AWS
// stored it. No acquisition changes the record: its run may have read an older one.
func leaseOf(versions []ssm.Version, expiry time.Duration) leaseState {
	var s leaseState
	former := map[string]bool{} // owners
	for _, v := range versions {
		var written leaseVersion
		_ = json.Unmarshal(v.Value.Bytes(), &written) // no run wrote a value that is not JSON
		before := s
		before.now = v.Modified
		s.number, s.now = v.Number, v.Read
		switch {
		case v.Number == 1 && written.Write > 1: // it came when the lease was deleted
			s.exists, s.released = true, true
			continue
		case !s.exists:
		case written.Owner == s.owner:
			if written.Write <= s.write {
				continue
			}
		case written.Write > 1, former[written.Owner], !before.free(expiry):
			continue
		}
		if v.Number == 1 {
			s.creator = written.Owner
		}
		former[s.owner] = true
		s.exists, s.owner, s.write, s.released, s.since = true, written.Owner, written.Write, written.Released != "", v.Modified
		if written.Rotation != nil {
			s.record = record{Rotation: *written.Rotation}
		}
		s.over = s.over || written.Over
	}
	return s
}

func readLease(ctx context.Context, store *ssm.Store, name string, expiry time.Duration) (leaseState, error) {
	all, err := store.History(ctx, name, true)
	if errors.Is(err, ssm.ErrNotFound) {
		return leaseState{}, nil
	}
	return leaseOf(all, expiry), err
}

func (l *lease) read(ctx context.Context) (leaseState, error) {
	return readLease(ctx, l.store, l.name, l.timing.lease)
}

// errLeaseLost ends a change of a run that is no longer the owner.
var errLeaseLost = errors.New("another run has taken over the lease, so this one stopped; run it again")

func (l *lease) put(ctx context.Context, v leaseVersion, overwrite bool) (int64, error) {
	v.Owner, v.Write = l.id, l.writes
	text, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	return l.store.Put(ctx, ssm.Write{
		Name: l.name, Value: secret.New(text), Type: types.ParameterTypeString, Overwrite: overwrite,
		Description: "of a rotation that is not over; holds no secret",
	})
}

// acquire waits until the lease is free, or its owner counts as dead. It begins with the state that was read before,
// and ends with an error of wait.
func (l *lease) acquire(ctx context.Context, now leaseState, wait func(context.Context, time.Duration) error) error {
	seen, unchanged := leaseState{number: -1}, time.Time{}
	for {
		if now.number != seen.number || now.owner != seen.owner {
			seen, unchanged = now, time.Now()
			if !now.free(l.timing.lease) {
				l.say("another run holds %s, or has died and left it; waiting until it is released, or has not changed for %v", l.name, l.timing.lease)
			}
		}
		if now.free(l.timing.lease) || time.Since(unchanged) >= l.timing.lease {
			owner, err := l.attempt(ctx, now)
			if owner || err != nil {
				return err
			}
		}
		// A random time, so that two runs that wait for the lease do not stay in step.
		if err := wait(ctx, l.timing.poll/2+rand.N(l.timing.poll)); err != nil {
			return err
		}
		var err error
		if now, err = l.read(ctx); err != nil {
			return err
		}
	}
}

// attempt writes a version, and reports whether that made this run the owner.
func (l *lease) attempt(ctx context.Context, from leaseState) (bool, error) {
	l.id, l.writes = newOwner(), 1
	number, err := l.put(ctx, leaseVersion{}, from.exists)
	if err != nil && !errors.Is(err, ssm.ErrExists) && failure.Class(err) != keyfile.ClassNetwork {
		return false, err
	}
	// Without an answer, or if the version exists already, it may be this write's.
	now, readErr := l.readSince(ctx, number)
	if readErr != nil {
		return false, errors.Join(err, readErr)
	}
	if now.owner != l.id || now.released || l.late(now) {
		if failure.Class(err) == keyfile.ClassNetwork {
			return false, err
		}
		return false, nil
	}
	l.number, l.created = now.number, now.creator == l.id // what was read before may have been deleted meanwhile
	l.record = now.record
	if from.exists && !from.released {
		l.say("took over %s from a run that has died", l.name)
	}
	return true, nil
}

// readSince reads until AWS returns version number, which it is known to have, or a newer one.
func (l *lease) readSince(ctx context.Context, number int64) (leaseState, error) {
	for try := 1; ; try++ {
		now, err := l.read(ctx)
		if err != nil || now.number >= number || try == fetchTries {
			return now, err
		}
		if err := sleep(ctx, l.timing.settle); err != nil {
			return now, err
		}
	}
}

// stillOwner is nil if this run may go on with its change.
func (l *lease) stillOwner(ctx context.Context) error {
	now, err := l.readSince(ctx, l.number)
	switch {
	case err != nil:
		return err
	case now.number < l.number, now.owner != l.id, now.released:
		return errLeaseLost
	case l.late(now):
		return errTooLate
	}
	return nil
}

// late reports, by AWS's clock, whether the owner has had the lease for longer than a change may take. This machine's clock
// may have stood still.
func (l *lease) late(now leaseState) bool {
	return now.age() > l.timing.section+time.Second // the Date header has whole seconds
}

// begin records a rotation.
func (l *lease) begin(ctx context.Context, r Rotation) error {
	return l.write(ctx, leaseVersion{Rotation: &r})
}

// write adds a version. Each has the record: AWS keeps the last 100 versions only.
func (l *lease) write(ctx context.Context, v leaseVersion) error {
	if v.Rotation != nil {
		l.record = record{*v.Rotation, v.Over}
	} else if l.record.Old != "" {
		l.record.over = l.record.over || v.Over
		v.Rotation, v.Over = &l.record.Rotation, l.record.over
	}
	l.writes++
	number, err := l.put(ctx, v, true)
	if err != nil {
		return err
	}
	alone := number == l.number+1
	l.number = number
	if alone || v.Released != "" {
		return nil
	}
	return l.stillOwner(ctx)
}

// An ending says how the lease is given up after a change.
type ending struct {
	reason   string    // why it is released
	record   *Rotation // what the rotation is now; nil to leave the record as it is
	over     bool      // the rotation is complete, and its record stays
	asBefore bool      // a lease that this owner created is deleted
	deletes  bool      // nothing is left of the rotation
}

var deleted = ending{deletes: true}

func released(reason string, record *Rotation) ending { return ending{reason: reason, record: record} }

// unchanged is for a run that has changed nothing.
func unchanged(reason string) ending { return ending{reason: reason, asBefore: true} }

// end gives the lease up. An error does no harm: the next run waits until the lease expires.
func (l *lease) end(ctx context.Context, e ending) {
	if l.expires(ctx) {
		return
	}
	v := leaseVersion{Released: e.reason, Rotation: e.record, Over: e.over}
	if e.deletes || e.asBefore && l.created {
		err := l.delete(ctx)
		if err == nil || l.expires(ctx) {
			return
		}
		l.say("%s could not be deleted, and stays as the record of a rotation that is complete: %v", l.name, err)
		v = leaseVersion{Released: "it could not be deleted", Over: true}
	}
	if err := l.write(ctx, v); err != nil {
		l.say("%s could not be released: %v", l.name, err)
	}
}

// delete deletes the lease, unless another run has it by now. If that is not known, or the deletion may still take effect,
// the lease has to expire by itself.
func (l *lease) delete(ctx context.Context) error {
	switch err := l.stillOwner(ctx); {
	case errors.Is(err, errLeaseLost):
		return nil
	case err != nil:
		l.keep = "whether this run still has the lease is not known"
		return err
	}
	err := l.store.Delete(ctx, l.name)
	if failure.Class(err) == keyfile.ClassNetwork {
		if now, readErr := l.read(ctx); readErr != nil || now.exists {
			l.keep = unanswered
			return err
		}
		err = nil
	}
	if err != nil && !errors.Is(err, ssm.ErrNotFound) {
		return err
	}
	l.number = 0
	return nil
}

// expires reports whether the lease has to expire by itself: the next run must not build on what may still change, and
// a run whose time is over may no longer be the owner.
func (l *lease) expires(ctx context.Context) bool {
	why := l.keep
	if why == "" && inTime(ctx) != nil {
		why = "the time of this run is over"
	}
	if why == "" {
		return false
	}
	l.say("%s: the next run waits until %s has not changed for %v", why, l.name, l.timing.lease)
	return true
}

// within runs a change for as long as the lease allows, and ends the lease.
func (l *lease) within(ctx context.Context, change func(context.Context) (ending, error)) error {
	ctx, cancel := context.WithTimeout(ctx, l.timing.section)
	defer cancel()
	ending, err := change(ctx)
	if !errors.Is(err, errLeaseLost) { // it is another run's
		l.end(ctx, ending)
	}
	if err != nil && !errors.Is(err, errLeaseLost) && (errors.Is(err, errTooLate) || inTime(ctx) != nil) {
		return fmt.Errorf("the change took longer than %v, as when the machine sleeps: %w", l.timing.section, err)
	}
	return err
}

// inTime compares the clock itself with the deadline: a machine that has slept wakes up with timers that have not fired. Its
// monotonic clock stood still meanwhile, so the time of day counts, too.
func inTime(ctx context.Context) error {
	now := time.Now()
	if until, ok := ctx.Deadline(); ok && (!now.Before(until) || !now.Round(0).Before(until.Round(0))) {
		return errTooLate
	}
	return ctx.Err()
}

var errTooLate = failure.New(keyfile.ClassNetwork, errors.New("the next step was not begun"), "see what was slow, then run it again")

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
