package rotate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/keygen"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// settleTries is how often a login with a key that was just assigned is tried.
const settleTries = 5

// apply does one action. An outcome ends the run. Without one the state is observed again.
func (r *rotation) apply(ctx context.Context, o *observation, a Action) (Outcome, error) {
	switch a := a.(type) {
	case Refuse:
		return Refused, refusal{a.Why}
	case Stop:
		return r.stop(a)
	case Wait:
		return "", r.waitForTasks(ctx, o, a)
	case AssignKey:
		if r.stopped() {
			return "", ErrStopped
		}
	}
	return r.change(ctx, o, a)
}

func (r *rotation) stop(a Stop) (Outcome, error) {
	switch {
	case a.Failed:
		return a.Outcome, errors.New(a.Why)
	case r.acted == "" || a.Outcome == Waiting || a.Outcome == Published:
		r.say("%s", a.Why)
		return a.Outcome, nil
	}
	return r.done()
}

// A change is the part of a run in which it has the lease.
type change struct {
	*rotation
	lease  *lease
	o      *observation
	theirs bool // somebody else's key was found where this run had assigned its own
}

// newOwner is a name that no other run has.
func newOwner() string { return rand.Text() }

// newLease is a lease that this run does not hold yet.
func (r *observer) newLease() *lease {
	return &lease{store: r.Store, name: r.Parameter + LeaseSuffix, timing: r.timing, say: r.say}
}

// change acquires the lease, makes a new plan, and does the action if that is still the first one.
func (r *rotation) change(ctx context.Context, before *observation, a Action) (Outcome, error) {
	l := r.newLease()
	if err := l.acquire(ctx, before.lease, r.wait); err != nil {
		return "", err
	}
	r.leaseNumber = l.number
	err := l.within(ctx, func(ctx context.Context) (ending, error) {
		o, err := r.observe(ctx)
		if err != nil {
			return unchanged("nothing was changed"), err
		}
		defer o.clear()
		r.learn(o)
		if !same(a, plan(o.State, r.goal).Actions[0]) {
			return unchanged("there was something else to do"), nil
		}
		c := &change{rotation: r, lease: l, o: o}
		return c.do(ctx, a)
	})
	r.leaseNumber = l.number
	if err == nil && r.over {
		return r.done()
	}
	return "", err
}

// done ends a run that has nothing left to do.
func (r *rotation) done() (Outcome, error) {
	if r.acted == Rotated && !r.result.MadeKey {
		return Failed, errors.New("the key that this run made is not in use any more: somebody has stored another one in the parameter since; " +
			"see who did in its history, then run it again")
	}
	return r.acted, nil
}

func (c *change) do(ctx context.Context, a Action) (ending, error) {
	switch a := a.(type) {
	case AssignKey:
		return c.installNewKey(ctx, a)
	case RemoveKey:
		return c.removeKey(ctx, a)
	case RecordGrace:
		longer := c.o.Rotation
		longer.GraceSeconds = int64(a.Grace.Seconds())
		c.say("the old key stays accepted for %v", a.Grace)
		return released("the grace period is longer", &longer), nil
	case EndRotation:
		return c.completed(Finished), nil
	}
	return unchanged("there was nothing to do"), fmt.Errorf("there is no way to %s", a)
}

// completed ends a rotation of which nothing is left.
func (c *change) completed(outcome Outcome) ending {
	if c.acted == "" {
		c.acted = outcome
	}
	c.over = c.goal.made || !c.goal.ForceNew
	return deleted
}

// A newKey is a key on its way from installNewKey into use.
type newKey struct {
	*keyfile.Key
	text  secret.Value // encrypted
	place Place
	undo  string // the statement that takes it away again; "" where there is no way back
}

// installNewKey makes a key, assigns it and stores it.
func (c *change) installNewKey(ctx context.Context, a AssignKey) (ending, error) {
	n, err := c.makeKey(a)
	if err != nil {
		return unchanged("no key was made"), err
	}
	defer n.text.Clear()
	if c.stopped() {
		return unchanged("stopped"), ErrStopped
	}
	record := c.o.Rotation.next(n.Fingerprint(), c.o.InUse(), c.o.Newest().Number, a.Grace)
	if err := c.lease.begin(ctx, record); err != nil {
		return released("the rotation could not be recorded", nil), err
	}
	there, err := c.at(ctx, n.place)
	if err == nil && there != n.place.Key {
		err = errConflict
	}
	if err != nil { // making the key took time, and the lease does not stop anybody who works by hand
		return c.withdrawn(record, err), explainStatement(err, c.o.User)
	}
	if err := c.assign(ctx, n, a); err != nil {
		return c.undo(ctx, n, record, err)
	}
	if err := c.store(ctx, n); err != nil {
		return c.undo(ctx, n, record, err)
	}
	c.acted, c.goal.made, c.result.MadeKey = Rotated, true, true
	if err := c.confirmAccepted(ctx, n); err != nil {
		return released("the new key was not accepted", &record), err
	}
	c.result.Version, c.result.Fingerprint, c.result.Place = c.newest, n.Fingerprint(), n.place.String()
	c.result.OldFingerprint = c.o.InUse()
	if a.OldEnds {
		return ending{reason: "Snowflake lets the old key expire", record: &record, over: true}, nil
	}
	return released("the old key stays for the grace period", &record), nil
}

func (c *change) makeKey(a AssignKey) (*newKey, error) {
	bits := c.Bits
	if bits == 0 {
		bits = min(c.o.key.RSA().N.BitLen(), 4096)
	}
	key, text, err := c.newPair(bits, c.o.phrase)
	if err != nil {
		return nil, refusal{err}
	}
	c.made = append(c.made, key.Fingerprint())
	n := &newKey{Key: key, text: secret.New(text), place: a.Place}
	if !a.rotates() {
		n.undo = removal(a.user, a.Place)
	}
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

// A conflictError reports that somebody rotates by hand at the same moment.
type conflictError struct{ error }

var errConflict = conflictError{errors.New("somebody else has changed the user's keys at this moment; see DESC USER, then run it again")}

// withdrawn ends the lease of a run whose new key is no longer assigned. If somebody else has rotated the key instead, the
// record stays: it names the key that they have replaced, too.
func (c *change) withdrawn(record Rotation, why error) ending {
	if _, conflict := errors.AsType[conflictError](why); conflict || c.theirs {
		record.Lost = true
		return released("somebody else has rotated the key", &record)
	}
	return ending{reason: "the new key was taken back", record: &c.o.Rotation, over: c.o.Over, asBefore: true}
}

// assign gives Snowflake the public key, and makes sure that it is in its place, and accepted.
func (c *change) assign(ctx context.Context, n *newKey, a AssignKey) error {
	if err := c.alter(ctx, a.statement(keygen.PublicKey(n.Key)), n.place, n.Fingerprint()); err != nil {
		if _, answered := errors.AsType[*snowflake.StatementError](err); answered {
			return notAssigned{err}
		}
		return err
	}
	c.say("assigned the new key %s: %s", n.Fingerprint(), n.place)
	there, err := c.at(ctx, n.place)
	if err != nil {
		return explainStatement(err, c.o.User)
	}
	if there != n.Fingerprint() {
		return errConflict
	}
	for try := 1; ; try++ {
		err := c.Snowflake.Accepts(ctx, n.Key)
		if err == nil {
			c.say("Snowflake accepts the new key")
			return nil
		}
		if try == settleTries {
			return fmt.Errorf("the new key was assigned, and cannot log in: %w", err)
		}
		if err := sleep(ctx, c.timing.settle); err != nil {
			return err
		}
	}
}

// alter runs a statement that puts a key into a place, or takes it out, unless the run has lost the lease.
func (c *change) alter(ctx context.Context, statement string, p Place, fingerprint string) error {
	if err := c.lease.stillOwner(ctx); err != nil {
		return err
	}
	if err := inTime(ctx); err != nil {
		return err
	}
	err := c.Snowflake.Change(ctx, c.o.key, statement)
	if failure.Class(err) != keyfile.ClassNetwork {
		return explainStatement(err, c.o.User)
	}
	if there, readErr := c.at(ctx, p); readErr == nil && there == fingerprint {
		return nil // the statement was not lost, only its answer
	}
	c.lease.keep = unanswered
	return err
}

// unanswered is the reason to let a lease expire instead of releasing it.
const unanswered = "a request without an answer may still take effect"

// at is the fingerprint of what a place holds now.
func (c *change) at(ctx context.Context, p Place) (string, error) {
	if p.Pair == "" {
		slots, err := c.Snowflake.Slots(ctx, c.o.key)
		return slots[p.Slot.Number-1].Fingerprint, err
	}
	pairs, err := c.Snowflake.KeyPairs(ctx, c.o.key)
	for _, pair := range pairs {
		if pair.Name == p.Pair {
			return pair.Fingerprint, err
		}
	}
	return "", err
}

// store writes the parameter's next version. Once it has begun, the new key may be in use.
func (c *change) store(ctx context.Context, n *newKey) error {
	if err := c.lease.stillOwner(ctx); err != nil {
		return err
	}
	latest, err := c.fetch(ctx)
	if err != nil {
		return err
	}
	defer latest.clear()
	switch {
	case latest.stored.Number != c.o.stored.Number:
		return conflictError{fmt.Errorf("somebody else has written version %d of the parameter meanwhile; the new key was not stored", latest.stored.Number)}
	case !bytes.Equal(latest.given.Bytes(), c.o.given.Bytes()):
		return errors.New("somebody else has changed the passphrase meanwhile; the new key was not stored")
	}
	number, err := c.write(ctx, latest.stored.Next(n.text))
	if err == nil && number == c.o.stored.Number+1 {
		c.say("version %d of the parameter holds the new key", number)
		return nil
	}
	// Only the newest version counts.
	now, readErr := c.fetch(ctx)
	if readErr != nil {
		return unknownError{errors.Join(err, readErr)}
	}
	defer now.clear()
	if now.InUse() == n.Fingerprint() {
		c.lease.keep = ""
		c.say("version %d of the parameter holds the new key", now.stored.Number)
		return nil
	}
	switch {
	case err == nil:
		return unknownError{fmt.Errorf("somebody else has written version %d of the parameter over the new key's version %d", now.stored.Number, number)}
	case failure.Class(err) == keyfile.ClassNetwork:
		return unknownError{err}
	case failure.Class(err) == keyfile.ClassOther:
		return refusal{err} // such as a label on the oldest of 100 versions
	}
	return err
}

// write stores a version of the key's parameter.
func (c *change) write(ctx context.Context, w ssm.Write) (int64, error) {
	if err := inTime(ctx); err != nil {
		return 0, err
	}
	w.Once = true
	number, err := c.Store.Put(ctx, w)
	if failure.Class(err) == keyfile.ClassNetwork {
		c.lease.keep = unanswered
	}
	c.newest = max(c.newest, number)
	return number, err
}

// notAssigned is Snowflake's answer that it did not assign the key.
type notAssigned struct{ error }

func (e notAssigned) Unwrap() error { return e.error }

// An unknownError leaves open whether the new key is, or will be, in the parameter: it must stay assigned.
type unknownError struct{ error }

func (e unknownError) Unwrap() error { return e.error }

// undo goes back to the start, as far as that is known to be safe. Otherwise it leaves the key assigned and recorded, for
// the next run to replace it.
func (c *change) undo(ctx context.Context, n *newKey, record Rotation, why error) (ending, error) {
	if errors.Is(why, errLeaseLost) {
		return ending{}, why // the other run decides about what is assigned
	}
	_, nothing := errors.AsType[notAssigned](why)
	_, unknown := errors.AsType[unknownError](why)
	certain := !unknown && c.lease.keep == "" && failure.Class(why) != keyfile.ClassNetwork
	if nothing || certain && n.undo != "" && c.withdraw(ctx, n) {
		return c.withdrawn(record, why), why
	}
	if n.undo == "" {
		why = fmt.Errorf("%w. The key in use expires with the key pair that was rotated, see SHOW USER KEY PAIRS: run this again before", why)
	}
	return released("the new key was assigned and not stored", &record), why
}

// withdraw takes the new key out of Snowflake, and reports whether it is known to be gone.
func (c *change) withdraw(ctx context.Context, n *newKey) bool {
	there, err := c.at(ctx, n.place)
	if err != nil {
		return false
	}
	if there != n.Fingerprint() { // it never got there, or somebody else's has
		c.theirs = there != ""
		return true
	}
	if n.place.Pair == "" {
		if done, err := c.reinstate(ctx, n.place.Slot); done || err != nil {
			return err == nil
		}
	}
	if err := c.alter(ctx, n.undo, n.place, ""); err != nil {
		return false
	}
	c.say("withdrew the new key from %s", n.place)
	return true
}

// confirmAccepted checks that Snowflake accepts the stored key: somebody may have removed it at the same moment. Then
// it stores the previous key again.
func (c *change) confirmAccepted(ctx context.Context, n *newKey) error {
	err := c.Snowflake.Accepts(ctx, n.Key)
	gone := failure.Class(err) == keyfile.ClassSnowflake
	if !gone || c.Snowflake.Accepts(ctx, c.o.key) != nil {
		return nil // the next observation says whether it is accepted
	}
	now, readErr := c.fetch(ctx)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	defer now.clear()
	if !now.key.Equal(n.Key) {
		return nil // somebody has stored another key, about which the next plan decides
	}
	if _, putErr := c.write(ctx, now.stored.Next(c.o.text)); putErr != nil {
		return errors.Join(err, putErr)
	}
	c.acted, c.goal.made, c.result.MadeKey = "", false, false
	return fmt.Errorf("somebody else took the new key out of Snowflake while it was stored; the parameter holds the key before it again: %w", err)
}

// removeKey takes a key away: the one before the key in use, or one that an interrupted run made.
func (c *change) removeKey(ctx context.Context, a RemoveKey) (ending, error) {
	if err := c.alter(ctx, a.statement(), a.Place, ""); err != nil {
		return released("the key could not be removed", nil), err
	}
	if a.Unused {
		c.say("removed %s, which was never stored, from %s", a.Place.Key, a.Place)
		return c.completed(Withdrawn), nil
	}
	c.say("removed the old key %s from %s", a.Place.Key, a.Place)
	c.result.OldFingerprint = a.Place.Key
	if a.Place.Pair == "" {
		done, err := c.reinstate(ctx, a.Place.Slot)
		if err != nil {
			return released("a key of somebody else could not be assigned", nil), err
		}
		if done {
			return released("somebody else has rotated the key", nil), errConflict
		}
	}
	if !a.Last {
		return released("the old key is in another place, too", nil), nil
	}
	c.result.GraceUntil = time.Time{}
	return c.completed(Finished), nil
}

// reinstate puts the newest version's key back into a slot that this run has just changed, if Snowflake does not accept it.
// Snowflake has no conditional statement: somebody may have assigned and stored that key after this run read the slot, and
// before its statement.
func (c *change) reinstate(ctx context.Context, slot snowflake.Slot) (bool, error) {
	now, err := c.fetch(ctx)
	if err != nil {
		return false, err
	}
	defer now.clear()
	if now.stored.Number == c.o.stored.Number || failure.Class(c.Snowflake.Accepts(ctx, now.key)) != keyfile.ClassSnowflake {
		return false, nil
	}
	if err := c.alter(ctx, snowflake.SetKey(c.o.User, slot, keygen.PublicKey(now.key)), inSlot(slot), now.InUse()); err != nil {
		return false, fmt.Errorf("version %d of the parameter holds %s, which somebody else has stored at this moment, and which has no slot; assigning it failed: %w",
			now.stored.Number, now.InUse(), err)
	}
	c.say("assigned %s, which somebody else has stored at this moment, as version %d: %s", now.InUse(), now.stored.Number, slot.Property())
	return true, nil
}
