package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/parameter"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/sqlapi"
)

// A kind is where a user's key stands between two rotations.
type kind int

const (
	settled     kind = iota + 1 // the key in use is the only one of ours, and there is room for another
	unfinished                  // the key in use is new, and the one before it is still accepted
	leftover                    // where the new key would go is one that an interrupted run never published
	occupied                    // where the new key would go is one that nobody here knows
	elsewhere                   // the key in use is accepted, and in none of the places that were meant
	notAccepted                 // Snowflake refuses the key in use
)

// A place is where Snowflake has a public key of the user: a slot or a named key pair.
type place struct {
	slot        sqlapi.Slot // if it is one
	pair        string      // otherwise
	fingerprint string      // of what is there; "" if it is free
	exists      bool        // of a key pair
	expires     time.Time   // of a key pair; zero: never
}

func (p place) String() string {
	switch {
	case p.pair != "":
		return "key pair " + p.pair
	case p.slot.Number != 0:
		return p.slot.Property()
	}
	return ""
}

// found is all that a decision is made from, as it was at one moment.
type found struct {
	kind    kind
	version parameter.Version // the newest of the key parameter, without its value
	key     *keyfile.Key      // in it
	current place             // of that key
	next    place             // for the next one
	old     place             // if unfinished: of the key before it
	journal *entry            // nil if there is none
	refused error             // if notAccepted
	plain   bool              // the key is stored without encryption
	managed bool              // it is stored as Secrets Manager would

	text, passphrase secret.Value
}

// String says it in a line.
func (f *found) String() string {
	head := fmt.Sprintf("version %d of the parameter holds %s", f.version.Number, f.key.Fingerprint())
	switch f.kind {
	case settled:
		return fmt.Sprintf("%s, in %s", head, f.current)
	case unfinished:
		return fmt.Sprintf("%s, in %s; an unfinished rotation left the key before it, %s, in %s", head, f.current, f.old.fingerprint, f.old)
	case leftover:
		return fmt.Sprintf("%s, in %s; an interrupted rotation left %s, which was never published, in %s", head, f.current, f.next.fingerprint, f.next)
	case occupied:
		return fmt.Sprintf("%s, in %s; %s holds %s, which nobody here knows", head, f.current, f.next, f.next.fingerprint)
	case elsewhere:
		return head + ", which Snowflake accepts, but not from where it was looked for"
	default:
		return head + ", which Snowflake refuses"
	}
}

// done reports that the run which left the journal was interrupted when it had nothing left to do but
// to take the journal away.
func (f *found) done() bool {
	return f.kind == settled && f.journal != nil &&
		(f.journal.Ending || f.journal.Fingerprint == f.key.Fingerprint())
}

func (f *found) clear() {
	f.text.Clear()
	f.passphrase.Clear()
}

// graceLeft is by AWS's clock alone.
func (f *found) graceLeft(grace time.Duration) time.Duration {
	return f.version.Modified.Add(grace).Sub(f.version.Read)
}

// inspect reads everything anew.
func (r *rotation) inspect(ctx context.Context) (*found, error) {
	f, err := r.fetch(ctx)
	if err != nil {
		return nil, err
	}
	if f.journal, err = r.readJournal(ctx); err != nil {
		return nil, err
	}
	slots, err := r.Snowflake.Slots(ctx, f.key)
	if failure.Class(err) == keyfile.ClassSnowflake {
		if latest, readErr := r.Store.Latest(ctx, r.Parameter); readErr == nil && latest.Number != f.version.Number {
			f.clear()
			return r.inspect(ctx) // another run was faster
		}
		f.kind, f.refused = notAccepted, r.secondOpinion(ctx, f, err)
		return f, nil
	}
	if err != nil {
		return nil, explainStatement(err, r.Snowflake.User)
	}
	if r.KeyPair != "" {
		return f, r.classifyPairs(ctx, f, slots)
	}
	return f, r.classifySlots(ctx, f, slots)
}

// fetch reads the parameter: its value from the source that every reader has, the rest from its history.
func (r *rotation) fetch(ctx context.Context) (*found, error) {
	for range 3 { // the two can be of different versions
		material, err := r.Fetch(ctx)
		if err != nil {
			return nil, err
		}
		latest, err := r.Store.Latest(ctx, r.Parameter)
		if err != nil {
			return nil, err
		}
		if strconv.FormatInt(latest.Number, 10) != material.Version {
			material.Clear()
			continue
		}
		key, err := decrypt.Key(material.Text, material.Passphrase)
		if err != nil {
			return nil, err
		}
		_, plain := decrypt.Key(material.Text, secret.Value{})
		r.history[latest.Number] = key.Fingerprint()
		return &found{version: latest, key: key, plain: plain == nil, managed: decrypt.IsManagedSecret(material.Text), text: material.Text, passphrase: material.Passphrase}, nil
	}
	return nil, errors.New("the parameter changes faster than it can be read; look who does, then run it again")
}

func (r *rotation) classifySlots(ctx context.Context, f *found, slots [2]sqlapi.Slot) error {
	i := slices.IndexFunc(slots[:], func(s sqlapi.Slot) bool { return s.Fingerprint == f.key.Fingerprint() })
	if i < 0 {
		f.kind = elsewhere
		return nil
	}
	f.current, f.next = inSlot(slots[i]), inSlot(slots[1-i])
	return r.classifyNext(ctx, f)
}

// classifyNext asks what is in the place for the next key.
func (r *rotation) classifyNext(ctx context.Context, f *found) error {
	there := f.next.fingerprint
	if there == "" || there == f.key.Fingerprint() {
		f.kind = settled
		return nil
	}
	before, err := r.versionOf(ctx, f, there)
	switch {
	case err != nil:
		return err
	case before != 0:
		f.kind, f.old = unfinished, f.next
	case f.journal.made(there):
		f.kind = leftover
	default:
		f.kind = occupied
	}
	return nil
}

func (r *rotation) classifyPairs(ctx context.Context, f *found, slots [2]sqlapi.Slot) error {
	pairs, err := r.Snowflake.KeyPairs(ctx, f.key)
	if err != nil {
		return explainStatement(err, r.Snowflake.User)
	}
	f.next = place{pair: r.KeyPair}
	for _, p := range pairs {
		here := place{pair: p.Name, fingerprint: p.Fingerprint, exists: true, expires: p.ExpiresAt}
		if p.Fingerprint == f.key.Fingerprint() && p.Active {
			f.current = here
		}
		if strings.EqualFold(p.Name, r.KeyPair) {
			f.next = here
		}
	}
	if f.current == (place{}) {
		if i := slices.IndexFunc(slots[:], func(s sqlapi.Slot) bool { return s.Fingerprint == f.key.Fingerprint() }); i >= 0 {
			f.current = inSlot(slots[i])
		}
	}
	switch {
	case f.current == (place{}):
		f.kind = elsewhere
		return nil
	case f.next.exists && f.next.fingerprint != f.key.Fingerprint():
		f.kind = occupied
		if f.journal.made(f.next.fingerprint) {
			f.kind = leftover
		}
		return nil
	}
	f.kind = settled
	if !f.next.exists {
		return nil
	}
	return r.findInSlots(ctx, f, slots)
}

// findInSlots looks for the key before this one, from the time when it was not in a named key pair.
func (r *rotation) findInSlots(ctx context.Context, f *found, slots [2]sqlapi.Slot) error {
	for _, s := range slots {
		if s.Fingerprint == "" || s.Fingerprint == f.key.Fingerprint() {
			continue
		}
		before, err := r.versionOf(ctx, f, s.Fingerprint)
		if err != nil {
			return err
		}
		if before != 0 {
			f.kind, f.old = unfinished, inSlot(s)
			return nil
		}
	}
	return nil
}

func inSlot(s sqlapi.Slot) place { return place{slot: s, fingerprint: s.Fingerprint} }

// versionOf is the newest version of the parameter that held a key, 0 if none did that the passphrase opens.
func (r *rotation) versionOf(ctx context.Context, f *found, fingerprint string) (int64, error) {
	for number, known := range r.history {
		if known == fingerprint && number != f.version.Number {
			return number, nil
		}
	}
	all, err := r.Store.History(ctx, r.Parameter, true)
	if err != nil {
		return 0, err
	}
	for _, v := range slices.Backward(all) {
		if r.fingerprintOf(v, f.passphrase) == fingerprint {
			return v.Number, nil
		}
	}
	return 0, nil
}

// fingerprintOf opens a version once: it never changes.
func (r *rotation) fingerprintOf(v parameter.Version, passphrase secret.Value) string {
	defer v.Value.Clear()
	known, ok := r.history[v.Number]
	if ok {
		return known
	}
	if key, err := decrypt.Key(v.Value, passphrase); err == nil {
		known = key.Fingerprint()
	}
	r.history[v.Number] = known
	return known
}

// secondOpinion tells, where Snowflake refuses the key in use, whether it accepts the one before it.
func (r *rotation) secondOpinion(ctx context.Context, f *found, refused error) error {
	all, err := r.Store.History(ctx, r.Parameter, true)
	if err != nil || len(all) < 2 {
		return refused
	}
	before := all[len(all)-2]
	key, err := decrypt.Key(before.Value, f.passphrase)
	if err != nil || key.Equal(f.key) || r.Snowflake.Accepts(ctx, key) != nil {
		return refused
	}
	return fmt.Errorf("%w. Snowflake does accept the key of version %d, %s: either assign the new one, or store the value of %s:%d again",
		refused, before.Number, key.Fingerprint(), r.Parameter, before.Number)
}

// obstacle is why nothing may be done, nil if something may.
func (f *found) obstacle(r *rotation) error {
	user := sqlapi.Identifier(r.Snowflake.User)
	switch f.kind {
	case notAccepted:
		return refusal{f.refused}
	case elsewhere:
		hint := "name its key pair in --key-pair, or assign it to a slot"
		if r.KeyPair != "" {
			hint = "see DESC USER and SHOW USER KEY PAIRS for where it is"
		}
		return refusal{fmt.Errorf("the key in use, %s, is accepted, but %s; %s", f.key.Fingerprint(), whereNot(r.KeyPair), hint)}
	case occupied:
		if f.next.pair != "" {
			return refusal{fmt.Errorf("%s holds the key %s, which is neither in use nor in any version of the parameter that this passphrase opens: "+
				"name another in --key-pair, or if nobody needs it: %s", f.next, f.next.fingerprint, sqlapi.RemoveKeyPair(r.Snowflake.User, f.next.pair))}
		}
		return refusal{fmt.Errorf("both slots of %s are in use: %s holds the key in use, and %s the key %s, set at %s, which is in no version of "+
			"the parameter that this passphrase opens; if nobody needs it: %s",
			user, f.current, f.next, f.next.fingerprint, setAt(f.next.slot), sqlapi.UnsetKey(r.Snowflake.User, f.next.slot))}
	}
	if r.Finish || f.kind == unfinished {
		return nil
	}
	if f.managed {
		return refusal{errors.New("the parameter holds the JSON of a managed secret, whose readers may take more from it than the key; " +
			"store the key alone as PEM, with `sidecar keygen --put`, or keep the secret in Secrets Manager, which rotates it")}
	}
	if f.plain {
		return refusal{errors.New("the key is stored without encryption, and a new one would be encrypted with a passphrase that its readers may not have; " +
			"store it encrypted first, with `sidecar keygen --put`")}
	}
	return nil
}

func whereNot(pair string) string {
	if pair == "" {
		return "is in neither slot of the user"
	}
	return "is in neither a slot nor a key pair that is shown"
}

func setAt(s sqlapi.Slot) string {
	if s.SetAt.IsZero() {
		return "a time that Snowflake does not say"
	}
	return s.SetAt.Format(time.RFC3339)
}
