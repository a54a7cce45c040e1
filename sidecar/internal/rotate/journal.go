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

// The journal is a parameter beside the key's: who has it may change the key, and it says which key was made
// and not yet published. It exists while a run changes something, for some seconds.
//
// AWS has no write on condition but the creation, which one run alone gets. Otherwise a run takes over what
// has stayed the same for so long that its owner must be dead, and stops when a number of a version shows
// that another run has written, too.

// JournalSuffix is what the journal's name has after that of the key's ssm.
const JournalSuffix = ".rotation"

// An entry is one version of the journal.
type entry struct {
	Run         string `json:"run"`
	Fingerprint string `json:"fingerprint,omitempty"` // of the new key, once there is one
	Ending      bool   `json:"ending,omitempty"`      // the run only removes the old key
	Released    bool   `json:"released,omitempty"`    // the run has ended and left the journal for what it says

	number  int64
	earlier []string      // fingerprints of all versions
	age     time.Duration // of this one, by AWS's clock
}

// made reports whether a run that was interrupted has made the key.
func (e *entry) made(fingerprint string) bool {
	if e == nil {
		return false
	}
	for _, made := range e.earlier {
		if made != "" && made == fingerprint {
			return true
		}
	}
	return false
}

func (r *rotation) journalName() string { return r.Parameter + JournalSuffix }

// readJournal gives nil if there is none.
func (r *rotation) readJournal(ctx context.Context) (*entry, error) {
	all, err := r.Store.History(ctx, r.journalName(), true)
	if errors.Is(err, ssm.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var last entry
	for _, v := range all {
		e := entry{number: v.Number, age: v.Read.Sub(v.Modified), earlier: last.earlier}
		// What is not JSON is nobody's who lives.
		_ = json.Unmarshal(v.Value.Bytes(), &e)
		e.earlier = append(e.earlier, e.Fingerprint)
		last = e
	}
	return &last, nil
}

// A journal that is held.
type journal struct {
	*rotation
	number   int64 // of the version that this run wrote last
	underWay bool  // something was sent and not answered, and may take effect when this run is gone
}

// errInterfered ends a run that is no longer alone.
var errInterfered = errors.New("another run has taken over the journal of this one, which therefore stops; run it again")

func (r *rotation) putJournal(ctx context.Context, e entry, overwrite bool) (int64, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	return r.Store.Put(ctx, ssm.Write{
		Name: r.journalName(), Value: secret.New(text), Type: types.ParameterTypeString, Overwrite: overwrite,
		Description: "of a rotation that is under way; holds no secret",
	})
}

// locked does something while this run alone holds the journal. What do leaves unsaid, the next look says.
func (r *rotation) locked(ctx context.Context, as entry, do func(context.Context, *journal) error) error {
	as.Run = r.id
	j, err := r.hold(ctx, as)
	if err != nil || j == nil {
		return r.unless(err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.timing.section)
	defer cancel()
	err = do(ctx, j)
	if err != nil && errors.Is(inTime(ctx), errTooLate) && !errors.Is(err, errInterfered) {
		err = fmt.Errorf("the change took longer than %v, as when the machine sleeps: %w", r.timing.section, err)
	}
	return r.unless(err)
}

func (r *rotation) unless(err error) error {
	if err == nil || errors.Is(err, ErrStopped) {
		return err
	}
	return r.state(err)
}

// hold gets the journal, waiting for another run if need be.
func (r *rotation) hold(ctx context.Context, as entry) (*journal, error) {
	var seen entry
	var since time.Time
	for {
		number, err := r.putJournal(ctx, as, false)
		if err == nil {
			return &journal{rotation: r, number: number}, nil
		}
		if !errors.Is(err, ssm.ErrExists) && failure.Class(err) != keyfile.ClassNetwork {
			return nil, err
		}
		unanswered := err
		now, err := r.readJournal(ctx)
		switch {
		case err != nil:
			return nil, err
		case now == nil && !errors.Is(unanswered, ssm.ErrExists):
			return nil, unanswered
		case now == nil:
			continue // it has just gone
		case now.Run == r.id && !now.Released:
			return &journal{rotation: r, number: now.number}, nil // its creation was not answered
		}
		free := now.Released || now.age >= r.timing.lease
		if now.number != seen.number || now.Run != seen.Run {
			seen, since = *now, time.Now()
			if !free {
				r.say("another run holds %s, or has died and left it; waiting until it is gone, or has not changed for %v", r.journalName(), r.timing.lease)
			}
		}
		if free || time.Since(since) >= r.timing.lease {
			if j, err := r.takeOver(ctx, as, now); j != nil || err != nil {
				return j, err
			}
			since = time.Now()
		}
		// Not in step with another one that waits for the same.
		if err := r.wait(ctx, r.timing.poll/2+rand.N(r.timing.poll)); err != nil {
			return nil, err
		}
	}
}

// takeOver gives nil when another run does the same at this moment.
func (r *rotation) takeOver(ctx context.Context, as entry, from *entry) (*journal, error) {
	number, err := r.putJournal(ctx, as, true)
	if err != nil {
		return nil, err
	}
	if number != from.number+1 {
		return nil, nil
	}
	r.say("took over %s, which a run that is gone had left", r.journalName())
	return &journal{rotation: r, number: number}, nil
}

// write notes the key that was made.
func (j *journal) write(ctx context.Context, e entry) error {
	e.Run = j.id
	number, err := j.putJournal(ctx, e, true)
	if err != nil {
		return err
	}
	if number != j.number+1 {
		if err := j.mine(ctx); err != nil {
			return err
		}
	}
	j.number = number
	return nil
}

// mine is nil if every version since the one that this run wrote last is its own: a write whose answer was lost
// is sent again by the SDK, and is two versions.
func (j *journal) mine(ctx context.Context) error {
	for try := 1; ; try++ {
		all, err := j.Store.History(ctx, j.journalName(), true)
		if errors.Is(err, ssm.ErrNotFound) {
			return errInterfered
		}
		if err != nil {
			return err
		}
		if all[len(all)-1].Number >= j.number {
			if slices.ContainsFunc(all, j.anothers) {
				return errInterfered
			}
			return nil
		}
		if try == fetchTries { // it was not only late, it is another one
			return errInterfered
		}
		if err := pause(ctx, j.timing.settle); err != nil {
			return err
		}
	}
}

func (j *journal) anothers(v ssm.Version) bool {
	var e entry
	return v.Number >= j.number && (json.Unmarshal(v.Value.Bytes(), &e) != nil || e.Run != j.id)
}

// alter runs a statement after which a place has a key, or none, unless this run is no longer alone.
func (j *journal) alter(ctx context.Context, f *found, statement string, p place, fingerprint string) error {
	if err := j.mine(ctx); err != nil {
		return err
	}
	if err := inTime(ctx); err != nil {
		return err
	}
	err := j.Snowflake.Change(ctx, f.key, statement)
	if failure.Class(err) != keyfile.ClassNetwork {
		return explainStatement(err, j.Snowflake.User)
	}
	if there, lookErr := j.at(ctx, f, p); lookErr == nil && there == fingerprint {
		return nil // it is not the statement that was lost, but its answer
	}
	j.underWay = true
	return err
}

// put writes the parameter's next version, likewise.
func (j *journal) put(ctx context.Context, w ssm.Write) (int64, error) {
	if err := inTime(ctx); err != nil {
		return 0, err
	}
	w.Once = true
	number, err := j.Store.Put(ctx, w)
	if failure.Class(err) == keyfile.ClassNetwork {
		j.underWay = true
	}
	j.newest = max(j.newest, number)
	return number, err
}

// kept leaves the journal as it is for its lease if something is under way, so that the next run does not build
// on what may still change, and if this run's time is over, in which it may be another's by now.
func (j *journal) kept(ctx context.Context) bool {
	var why string
	switch {
	case j.underWay:
		why = "what was sent and not answered may still take effect"
	case inTime(ctx) != nil:
		why = "the time of this run is over"
	default:
		return false
	}
	j.say("%s: the next run waits until %s has not changed for %v", why, j.journalName(), j.timing.lease)
	return true
}

// drop ends the hold. An error here does no harm: the next run finds the journal, and waits, or knows it as
// released.
func (j *journal) drop(ctx context.Context) {
	if j.kept(ctx) {
		return
	}
	if err := j.Store.Delete(ctx, j.journalName()); err != nil && !errors.Is(err, ssm.ErrNotFound) {
		j.say("%s could not be deleted, the next run will: %v", j.journalName(), err)
	}
}

// release ends the hold and leaves the journal for the next run, which knows by it what this one has done.
func (j *journal) release(ctx context.Context, e entry) {
	if j.kept(ctx) {
		return
	}
	e.Released = true
	if err := j.write(ctx, e); err != nil {
		j.say("%s could not be released: %v", j.journalName(), err)
	}
}
