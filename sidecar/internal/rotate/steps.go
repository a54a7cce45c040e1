package rotate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/keygen"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// settleTries is how often a login with a key that was just assigned is tried.
const settleTries = 5

// A next key and where it goes.
type next struct {
	key    *keyfile.Key
	text   secret.Value // encrypted
	place  place
	assign string // the statement that assigns it
	undo   string // the one that takes it away again; "" where there is no way back
}

// begin makes a new key, assigns it, and publishes it.
func (r *rotation) begin(ctx context.Context, j *journal) error {
	f, err := r.inspect(ctx)
	if err != nil {
		j.retreat(ctx)
		return err
	}
	defer f.clear()
	if f.version.Number != r.started || f.kind != settled && f.kind != leftover {
		j.leave(ctx, f)
		return nil // the next look says what it is now
	}
	n, err := r.prepare(f)
	if err != nil {
		j.leave(ctx, f)
		return err
	}
	defer n.text.Clear()
	if r.stopped() {
		j.leave(ctx, f)
		return ErrStopped
	}
	if err := j.write(ctx, entry{Fingerprint: n.key.Fingerprint()}); err != nil {
		if !errors.Is(err, errInterfered) {
			j.release(ctx, entry{})
		}
		return err
	}
	there, err := r.at(ctx, f, n.place)
	if err == nil && there != n.place.fingerprint {
		err = errMeanwhile
	}
	if err != nil { // the key took its time, and who works by hand could not see this run
		j.retreat(ctx)
		return explainStatement(err, r.Snowflake.User)
	}
	if err := j.assign(ctx, f, n); err != nil {
		return j.abandon(ctx, f, n, err)
	}
	if err := j.publish(ctx, f, n); err != nil {
		return j.abandon(ctx, f, n, err)
	}
	r.acted = Rotated
	err = j.stand(ctx, f, n)
	if err == nil {
		r.result.Version, r.result.Fingerprint, r.result.Place = r.newest, n.key.Fingerprint(), n.place.String()
		r.result.OldFingerprint = f.key.Fingerprint()
	}
	j.drop(ctx)
	return err
}

// prepare makes the key and the statements for it.
func (r *rotation) prepare(f *found) (*next, error) {
	bits := r.Bits
	if bits == 0 {
		bits = min(f.key.RSA().N.BitLen(), 4096)
	}
	key, text, err := r.newPair(bits, withoutLineBreak(f.passphrase))
	if err != nil {
		return nil, refusal{err}
	}
	n := &next{key: key, text: secret.New(text), place: f.next}
	n.assign, n.undo = r.statements(f, keygen.PublicKey(key))
	return n, nil
}

func newPair(bits int, passphrase secret.Value) (*keyfile.Key, []byte, error) {
	key, err := keygen.Generate(bits)
	if err != nil {
		return nil, nil, err
	}
	text, err := keygen.Encrypt(key, passphrase)
	return key, text, err
}

// withoutLineBreak is the passphrase as openssl reads it from a file; the sidecar tries both.
func withoutLineBreak(passphrase secret.Value) secret.Value {
	text := passphrase.Bytes()
	if trimmed, ok := bytes.CutSuffix(text, []byte("\n")); ok {
		text = bytes.TrimSuffix(trimmed, []byte("\r"))
	}
	return secret.New(text)
}

// statements are the one that assigns a public key where the next one goes, and its undoing.
func (r *rotation) statements(f *found, public string) (assign, undo string) {
	user := r.Snowflake.User
	switch {
	case f.next.pair == "":
		return snowflake.SetKey(user, f.next.slot, public), snowflake.UnsetKey(user, f.next.slot)
	case !f.next.exists:
		return snowflake.AddKeyPair(user, f.next.pair, public), snowflake.RemoveKeyPair(user, f.next.pair)
	case f.kind == leftover:
		return snowflake.RotateKeyPair(user, f.next.pair, public, 0), "" // nobody has the key that goes
	case !f.next.expires.IsZero():
		return snowflake.RotateKeyPair(user, f.next.pair, public, -1), ""
	}
	return snowflake.RotateKeyPair(user, f.next.pair, public, expireAfter(r.Grace)), ""
}

// expireAfter is Snowflake's own day, unless the grace period is longer: an interrupted run should have the
// time to be noticed before the key in use expires.
func expireAfter(grace time.Duration) int { return max(24, int(math.Ceil(grace.Hours()))) }

var errMeanwhile = errors.New("somebody else has changed the user's keys at this moment; look at DESC USER, then run it again")

// assign gives Snowflake the public key and makes sure that it is where it was meant to be, and accepted.
func (j *journal) assign(ctx context.Context, f *found, n *next) error {
	if err := j.alter(ctx, f, n.assign, n.place, n.key.Fingerprint()); err != nil {
		if _, answered := errors.AsType[*snowflake.StatementError](err); answered {
			return notAssigned{err}
		}
		return err
	}
	j.say("assigned the new key %s: %s", n.key.Fingerprint(), n.place)
	there, err := j.at(ctx, f, n.place)
	if err != nil {
		return explainStatement(err, j.Snowflake.User)
	}
	if there != n.key.Fingerprint() {
		return errMeanwhile
	}
	for try := 1; ; try++ {
		err := j.Snowflake.Accepts(ctx, n.key)
		if err == nil {
			j.say("Snowflake accepts the new key")
			return nil
		}
		if try == settleTries {
			return fmt.Errorf("the new key was assigned, and cannot log in: %w", err)
		}
		if err := pause(ctx, j.timing.settle); err != nil {
			return err
		}
	}
}

// inTime asks the clock itself before a change: a machine that has slept wakes up with timers yet to fire, and
// may by then have lost the journal.
func inTime(ctx context.Context) error {
	if until, ok := ctx.Deadline(); ok && !time.Now().Before(until) {
		return errTooLate
	}
	return ctx.Err()
}

var errTooLate = failure.New(keyfile.ClassNetwork, errors.New("the next step was not begun"), "see what was slow, then run it again")

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// publish writes the parameter's next version. From its beginning on the new key may be in use.
func (j *journal) publish(ctx context.Context, f *found, n *next) error {
	if err := j.mine(ctx); err != nil {
		return err
	}
	latest, err := j.fetch(ctx)
	if err != nil {
		return err
	}
	defer latest.clear()
	switch {
	case latest.version.Number != f.version.Number:
		return fmt.Errorf("somebody else has written version %d of the parameter meanwhile; the new key was not stored", latest.version.Number)
	case !bytes.Equal(latest.passphrase.Bytes(), f.passphrase.Bytes()):
		return errors.New("somebody else has changed the passphrase meanwhile; the new key was not stored")
	}
	number, err := j.put(ctx, latest.version.Next(n.text))
	if err == nil && number == f.version.Number+1 {
		j.say("version %d of the parameter holds the new key", number)
		return nil
	}
	// What counts is what the newest version holds.
	now, readErr := j.fetch(ctx)
	if readErr != nil {
		return unknownError{errors.Join(err, readErr)}
	}
	defer now.clear()
	if now.key.Fingerprint() == n.key.Fingerprint() {
		j.underWay = false
		j.say("version %d of the parameter holds the new key", now.version.Number)
		return nil
	}
	switch {
	case err == nil:
		return unknownError{fmt.Errorf("somebody else has written version %d of the parameter over the new key's version %d", now.version.Number, number)}
	case failure.Class(err) == keyfile.ClassNetwork:
		return unknownError{err}
	case failure.Class(err) == keyfile.ClassOther:
		return refusal{err} // such as a label on the oldest of 100 versions
	}
	return err
}

// notAssigned is Snowflake's answer that it has not done what it was asked.
type notAssigned struct{ error }

func (e notAssigned) Unwrap() error { return e.error }

// An unknownError leaves open whether the new key is, or will be, in the parameter: it must stay assigned.
type unknownError struct{ error }

func (e unknownError) Unwrap() error { return e.error }

// abandon goes back to the start, as far as that is known to be safe, and otherwise leaves the key assigned
// and its fingerprint in the journal, for the next run to replace it.
func (j *journal) abandon(ctx context.Context, f *found, n *next, why error) error {
	if errors.Is(why, errInterfered) {
		return why // what is assigned is for the other run to judge
	}
	_, nothing := errors.AsType[notAssigned](why)
	_, unknown := errors.AsType[unknownError](why)
	certain := !unknown && !j.underWay && failure.Class(why) != keyfile.ClassNetwork
	if nothing || certain && n.undo != "" && j.withdraw(ctx, f, n) {
		j.leave(ctx, f)
		return why
	}
	j.release(ctx, entry{Fingerprint: n.key.Fingerprint()})
	if n.undo == "" {
		return fmt.Errorf("%w. The key in use expires with the key pair that was rotated, see SHOW USER KEY PAIRS: run this again before", why)
	}
	return why
}

// leave ends the hold of a run after which nothing new is left. What an earlier run left stays known.
func (j *journal) leave(ctx context.Context, f *found) {
	if f.kind == settled || f.kind == unfinished {
		j.drop(ctx)
		return
	}
	j.retreat(ctx)
}

// retreat ends the hold of a run that has changed nothing, and does not know what there is.
func (j *journal) retreat(ctx context.Context) {
	if j.number == 1 {
		j.drop(ctx)
		return
	}
	j.release(ctx, entry{})
}

// withdraw reports whether the new key is known to be gone again.
func (j *journal) withdraw(ctx context.Context, f *found, n *next) bool {
	there, err := j.at(ctx, f, n.place)
	if err != nil {
		return false
	}
	if there != n.key.Fingerprint() {
		return true // it never got there, or somebody else's has
	}
	if n.place.pair == "" {
		if done, err := j.reinstate(ctx, f, n.place.slot); done || err != nil {
			return err == nil
		}
	}
	if err := j.alter(ctx, f, n.undo, n.place, ""); err != nil {
		return false
	}
	j.say("withdrew the new key from %s", n.place)
	return true
}

// at is the fingerprint of what is in a place now.
func (r *rotation) at(ctx context.Context, f *found, p place) (string, error) {
	if p.pair == "" {
		slots, err := r.Snowflake.Slots(ctx, f.key)
		return slots[p.slot.Number-1].Fingerprint, err
	}
	pairs, err := r.Snowflake.KeyPairs(ctx, f.key)
	for _, pair := range pairs {
		if strings.EqualFold(pair.Name, p.pair) {
			return pair.Fingerprint, err
		}
	}
	return "", err
}

// stand makes sure that what was published is accepted, after all that others may have done at the same
// moment, and goes back to the key before it if not.
func (j *journal) stand(ctx context.Context, f *found, n *next) error {
	err := j.Snowflake.Accepts(ctx, n.key)
	gone := failure.Class(err) == keyfile.ClassSnowflake
	if !gone || j.Snowflake.Accepts(ctx, f.key) != nil {
		return nil // whether it is accepted the next look says, too
	}
	now, readErr := j.fetch(ctx)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	defer now.clear()
	if !now.key.Equal(n.key) {
		return nil // whoever took it out has stored another one, about which the next look decides
	}
	if _, putErr := j.put(ctx, now.version.Next(f.text)); putErr != nil {
		return errors.Join(err, putErr)
	}
	j.acted = ""
	return fmt.Errorf("somebody else took the new key out of Snowflake while it was published; the parameter holds the key before it again: %w", err)
}

// end removes the key before the one in use.
func (r *rotation) end(ctx context.Context, j *journal) error {
	f, err := r.inspect(ctx)
	if err != nil {
		j.retreat(ctx)
		return err
	}
	defer f.clear()
	if f.kind != unfinished || f.graceLeft(r.Grace) > 0 {
		j.leave(ctx, f)
		return nil
	}
	if err := f.labelled(r.Parameter); err != nil {
		j.leave(ctx, f)
		return err
	}
	if err := j.alter(ctx, f, r.removal(f.old), f.old, ""); err != nil {
		if !errors.Is(err, errInterfered) {
			j.drop(ctx)
		}
		return err
	}
	r.say("removed the old key %s from %s", f.old.fingerprint, f.old)
	r.result.OldFingerprint = f.old.fingerprint
	if r.acted == "" {
		r.acted = Finished
	}
	done := false
	if f.old.pair == "" {
		done, err = j.reinstate(ctx, f, f.old.slot)
	}
	if err != nil {
		j.release(ctx, entry{Ending: true})
		return err
	}
	j.drop(ctx)
	if done {
		r.acted = ""
		return errMeanwhile
	}
	r.over, r.result.GraceUntil = true, time.Time{}
	return nil
}

// reinstate puts the newest version's key into a slot that this run has just changed, if Snowflake does not
// accept it: somebody may have assigned and stored it after this run had looked, and before its statement.
// Snowflake has no statement on condition.
func (j *journal) reinstate(ctx context.Context, f *found, slot snowflake.Slot) (bool, error) {
	now, err := j.fetch(ctx)
	if err != nil {
		return false, err
	}
	defer now.clear()
	if now.version.Number == f.version.Number || failure.Class(j.Snowflake.Accepts(ctx, now.key)) != keyfile.ClassSnowflake {
		return false, nil
	}
	if err := j.alter(ctx, f, snowflake.SetKey(j.Snowflake.User, slot, keygen.PublicKey(now.key)), inSlot(slot), now.key.Fingerprint()); err != nil {
		return false, fmt.Errorf("version %d of the parameter holds %s, which somebody else has stored at this moment, and which has no slot; assigning it failed: %w",
			now.version.Number, now.key.Fingerprint(), err)
	}
	j.say("assigned %s, which somebody else has stored at this moment, as version %d: %s", now.key.Fingerprint(), now.version.Number, slot.Property())
	return true, nil
}

// tidy returns to the start what was interrupted before it was published.
func (r *rotation) tidy(ctx context.Context, j *journal) error {
	f, err := r.inspect(ctx)
	if err != nil {
		j.retreat(ctx)
		return err
	}
	defer f.clear()
	switch {
	case f.kind == settled:
	case f.takesBack():
		if err := j.alter(ctx, f, r.removal(f.next), f.next, ""); err != nil {
			return j.untidy(ctx, f, err)
		}
		r.say("removed %s, which was never published, from %s", f.next.fingerprint, f.next)
	case f.kind == leftover:
		r.say("there is no way back from a rotated key pair: rotating it again")
		r.started = f.version.Number
		j.release(ctx, entry{Fingerprint: f.next.fingerprint})
		r.Finish = false
		return nil
	default:
		j.leave(ctx, f)
		return nil
	}
	r.acted = Finished
	j.drop(ctx)
	return nil
}

// takesBack reports whether what an interrupted run made can go without a trace: it is in a slot, or in a key pair
// that was added, not rotated.
func (f *found) takesBack() bool {
	return f.kind == leftover && (f.next.pair == "" || f.current.expires.IsZero())
}

// untidy leaves what an interrupted run made for the next run.
func (j *journal) untidy(ctx context.Context, f *found, why error) error {
	if !errors.Is(why, errInterfered) {
		j.release(ctx, entry{Fingerprint: f.next.fingerprint})
	}
	return why
}

// removal is the statement that takes away the key in a place.
func (r *rotation) removal(p place) string {
	if p.pair != "" {
		return snowflake.RemoveKeyPair(r.Snowflake.User, p.pair)
	}
	return snowflake.UnsetKey(r.Snowflake.User, p.slot)
}

// rehearse says what would be done.
func (r *rotation) rehearse(f *found) {
	add := func(statement string) { r.result.Statements = append(r.result.Statements, statement) }
	assign, _ := r.statements(f, "PUBLIC_KEY_OF_THE_NEW_KEY")
	begins := false
	switch {
	case f.kind == unfinished:
		add(r.removal(f.old))
		if err := f.labelled(r.Parameter); err != nil {
			r.say("not before something is done: %v", err)
		}
	case f.done(), r.Finish && f.kind == settled && f.journal != nil:
		r.say("would delete %s, which an interrupted run left", r.journalName())
	case r.Finish && f.takesBack():
		add(r.removal(f.next))
	case r.Finish && f.kind == settled:
	default:
		begins = true
		add(assign)
		if f.current.pair != f.next.pair && f.current.expires.IsZero() || f.next.pair == "" {
			add(r.removal(f.current))
		}
	}
	for i, statement := range r.result.Statements {
		if begins && i == 1 {
			r.say("would wait %v for the readers to follow", r.Grace)
		}
		r.say("would run: %s", statement)
		if begins && i == 0 {
			r.say("would write version %d of %s", f.version.Number+1, r.Parameter)
		}
	}
	r.say("changed nothing, since this is a dry run")
}
