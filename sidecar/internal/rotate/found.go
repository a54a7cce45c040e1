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
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
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
	slot        snowflake.Slot // if it is one
	pair        string         // otherwise
	fingerprint string         // of what is there; "" if it is free
	exists      bool           // of a key pair
	expires     time.Time      // of a key pair; zero: never
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
	version ssm.Version  // the newest of the key parameter, without its value
	key     *keyfile.Key // in it
	current place        // of that key
	next    place        // for the next one
	old     place        // if unfinished: of the key before it
	journal *entry       // nil if there is none
	refused error        // if notAccepted
	plain   bool         // the key is stored without encryption
	managed bool         // it is stored as Secrets Manager would
	labels  map[int64][]string
	held    []int64 // if unfinished: the labelled versions that hold the key before it

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
	var slots [2]snowflake.Slot
	client, err := r.Snowflake.Identify(ctx, f.key)
	if err == nil {
		r.Snowflake = client
		slots, err = client.Slots(ctx, f.key)
	}
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

// fetchTries is how often a parameter is read that is not up to date, or changes at this moment.
const fetchTries = 10

// fetch reads the parameter: its value from the source that every reader has, the rest from its history. AWS
// may give an older version for a while after it has taken a newer one, and that is not believed.
func (r *rotation) fetch(ctx context.Context) (*found, error) {
	for try := 1; ; try++ {
		material, err := r.Fetch(ctx)
		if err != nil {
			return nil, err
		}
		all, err := r.Store.History(ctx, r.Parameter, false)
		if err != nil {
			material.Clear()
			return nil, err
		}
		latest := all[len(all)-1]
		if latest.Number >= r.newest && strconv.FormatInt(latest.Number, 10) == material.Version {
			r.newest = latest.Number
			return r.open(all, material)
		}
		material.Clear()
		if try == fetchTries {
			return nil, fmt.Errorf("what AWS gives of %s is of different versions, or older than version %d, which it gave before; run it again", r.Parameter, r.newest)
		}
		if err := pause(ctx, r.timing.settle); err != nil {
			return nil, err
		}
	}
}

func (r *rotation) open(all []ssm.Version, material *ssm.Material) (*found, error) {
	latest := all[len(all)-1]
	stored, err := decrypt.Parse(material.Text, material.Passphrase)
	if err != nil {
		return nil, err
	}
	r.history[latest.Number] = stored.Key.Fingerprint()
	f := &found{
		version: latest, key: stored.Key, plain: stored.Encryption == "", managed: stored.Managed, labels: map[int64][]string{},
		text: material.Text, passphrase: material.Passphrase,
	}
	if stored.Passphrase.IsSet() { // the next key is encrypted with what opens this one
		f.passphrase.Clear()
		f.passphrase = stored.Passphrase
	}
	for _, v := range all {
		if len(v.Labels) > 0 {
			f.labels[v.Number] = v.Labels
		}
	}
	return f, nil
}

func (r *rotation) classifySlots(ctx context.Context, f *found, slots [2]snowflake.Slot) error {
	i := slices.IndexFunc(slots[:], func(s snowflake.Slot) bool { return s.Fingerprint == f.key.Fingerprint() })
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
	before, err := r.before(ctx, f, there)
	switch {
	case err != nil:
		return err
	case before:
		f.kind, f.old = unfinished, f.next
	case f.journal.made(there):
		f.kind = leftover
	default:
		f.kind = occupied
	}
	return nil
}

func (r *rotation) classifyPairs(ctx context.Context, f *found, slots [2]snowflake.Slot) error {
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
		if i := slices.IndexFunc(slots[:], func(s snowflake.Slot) bool { return s.Fingerprint == f.key.Fingerprint() }); i >= 0 {
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
	return r.findOld(ctx, f, slots, pairs)
}

// findOld looks for the key before this one, from the time when it was not in this named key pair.
func (r *rotation) findOld(ctx context.Context, f *found, slots [2]snowflake.Slot, pairs []snowflake.KeyPair) error {
	others := []place{inSlot(slots[0]), inSlot(slots[1])}
	for _, p := range pairs {
		if p.ExpiresAt.IsZero() { // any other goes by itself
			others = append(others, place{pair: p.Name, fingerprint: p.Fingerprint, exists: true})
		}
	}
	for _, p := range others {
		if p.fingerprint == "" || p.fingerprint == f.key.Fingerprint() {
			continue
		}
		before, err := r.before(ctx, f, p.fingerprint)
		if err != nil {
			return err
		}
		if before {
			f.kind, f.old = unfinished, p
			return nil
		}
	}
	return nil
}

func inSlot(s snowflake.Slot) place { return place{slot: s, fingerprint: s.Fingerprint} }

// before reports whether an earlier version of the parameter held a key, as far as the passphrase opens them.
func (r *rotation) before(ctx context.Context, f *found, fingerprint string) (bool, error) {
	if !r.known(f, fingerprint) {
		all, err := r.Store.History(ctx, r.Parameter, true)
		if err != nil {
			return false, err
		}
		for _, v := range all {
			r.fingerprintOf(v, f.passphrase)
		}
	}
	was := false
	f.held = nil
	for number, known := range r.history {
		if known != fingerprint || number >= f.version.Number {
			continue
		}
		was = true
		if f.labels[number] != nil {
			f.held = append(f.held, number)
		}
	}
	return was, nil
}

// known reports whether the versions that have been opened say all about a key: one of them held it, and none
// that has a label is missing.
func (r *rotation) known(f *found, fingerprint string) bool {
	for number := range f.labels {
		if _, opened := r.history[number]; !opened {
			return false
		}
	}
	for number, known := range r.history {
		if known == fingerprint && number < f.version.Number {
			return true
		}
	}
	return false
}

// labelled is why the old key may not go yet: readers that name a label still take it. nil if there is none.
func (f *found) labelled(name string) error {
	if len(f.held) == 0 {
		return nil
	}
	if n, err := ssm.ParseName(name); err == nil {
		name, _ = n.Plain() // which is what the command takes
	}
	number := slices.Max(f.held)
	label := f.labels[number][0]
	return refusal{fmt.Errorf("version %d of the parameter, which has the label %s, holds the old key %s, and who reads %s:%s takes it; move the label: "+
		"aws ssm label-parameter-version --name %s --parameter-version %d --labels %s, and when its readers have followed run `sidecar rotate --finish`",
		number, label, f.old.fingerprint, name, label, name, f.version.Number, label)}
}

// fingerprintOf opens a version once: it never changes.
func (r *rotation) fingerprintOf(v ssm.Version, passphrase secret.Value) string {
	defer v.Value.Clear()
	known, ok := r.history[v.Number]
	if ok {
		return known
	}
	if stored, err := decrypt.Parse(v.Value, passphrase); err == nil {
		known = stored.Key.Fingerprint()
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
	stored, err := decrypt.Parse(before.Value, f.passphrase)
	key := stored.Key
	if err != nil || key.Equal(f.key) || r.Snowflake.Accepts(ctx, key) != nil {
		return refused
	}
	return fmt.Errorf("%w. Snowflake does accept the key of version %d, %s: either assign the new one, or store the value of %s:%d again",
		refused, before.Number, key.Fingerprint(), r.Parameter, before.Number)
}

// obstacle is why nothing may be done, nil if something may.
func (f *found) obstacle(r *rotation) error {
	user := snowflake.Identifier(r.Snowflake.User)
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
				"name another in --key-pair, or if nobody needs it: %s", f.next, f.next.fingerprint, snowflake.RemoveKeyPair(r.Snowflake.User, f.next.pair))}
		}
		return refusal{fmt.Errorf("both slots of %s are in use: %s holds the key in use, and %s the key %s, set at %s, which is in no version of "+
			"the parameter that this passphrase opens; if nobody needs it: %s",
			user, f.current, f.next, f.next.fingerprint, setAt(f.next.slot), snowflake.UnsetKey(r.Snowflake.User, f.next.slot))}
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

func setAt(s snowflake.Slot) string {
	if s.SetAt.IsZero() {
		return "a time that Snowflake does not say"
	}
	return s.SetAt.Format(time.RFC3339)
}
