package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// A State is everything that a plan is made from, as it was at one moment. Nothing changes it.
type State struct {
	Parameter string    // as the command takes it
	Versions  []Version // of the parameter, oldest first; the newest holds the key in use
	Expires   time.Time // when AWS deletes the parameter; zero: never
	Plain     bool      // the key is stored without encryption
	Managed   bool      // it is stored as Secrets Manager would

	User    string   // the name, which statements have
	Places  []Place  // where Snowflake has a public key of the user: the two slots, then key pairs if they are used
	Refused error    // why Snowflake refuses the key in use; nil if it accepts it
	Sharers []string // other users that have the key in use, as far as the role sees them

	Lease     string   // the name of its parameter
	Recorded  bool     // the lease exists
	Rotation  Rotation // which the lease records; zero if there is none
	Over      bool     // and which is complete: Snowflake lets its old key expire, or the lease could not be deleted
	LeaseAge  time.Duration
	Now       time.Time // by AWS's clock
	Throttled bool      // SSM has throttled this run
}

// A Version is one version of the parameter.
type Version struct {
	Number   int64
	Modified time.Time
	Labels   []string
	Key      string // fingerprint; "" if it was not opened
	Sealed   bool   // the passphrase of the newest version does not open it
}

// A Place holds a public key of the user: a slot or a named key pair.
type Place struct {
	Slot     snowflake.Slot // if it is one
	Pair     string         // otherwise
	Key      string         // fingerprint of what it holds; "" if it is free
	Exists   bool           // of a key pair
	Active   bool           // of a key pair
	Expires  time.Time      // of a key pair; zero: never
	Replaced bool           // of a key pair that a rotation has put aside: Snowflake lets it expire
}

func (p Place) String() string {
	switch {
	case p.Pair != "":
		return "key pair " + p.Pair
	case p.Slot.Number != 0:
		return p.Slot.Property()
	}
	return ""
}

// is reports whether two are the same place. Their keys do not count.
func (p Place) is(other Place) bool {
	return p.Slot.Number == other.Slot.Number && p.Pair == other.Pair
}

func inSlot(s snowflake.Slot) Place {
	return Place{Slot: s, Key: s.Fingerprint, Exists: true, Active: true}
}

func inPair(p snowflake.KeyPair) Place {
	return Place{Pair: p.Name, Key: p.Fingerprint, Exists: true, Active: p.Active, Expires: p.ExpiresAt, Replaced: p.RotatedTo != ""}
}

// Newest is the version that holds the key in use.
func (s State) Newest() Version { return s.Versions[len(s.Versions)-1] }

// InUse is the fingerprint of the key in use.
func (s State) InUse() string { return s.Newest().Key }

// stored reports whether an earlier version holds the key, as far as they were opened.
func (s State) stored(fingerprint string) bool { return len(s.holding(fingerprint)) > 0 }

// maybeStored reports whether an earlier version holds, or may hold, a key that the recorded rotation made: a version
// that cannot be opened may hold any key.
func (s State) maybeStored(fingerprint string) bool {
	return s.stored(fingerprint) || slices.ContainsFunc(s.Versions[:len(s.Versions)-1], func(v Version) bool {
		return v.Sealed && v.Number > s.Rotation.Version
	})
}

// holding gives the earlier versions that are known to hold the key.
func (s State) holding(fingerprint string) []Version {
	var all []Version
	for _, v := range s.Versions[:len(s.Versions)-1] {
		if v.Key == fingerprint {
			all = append(all, v)
		}
	}
	return all
}

// labelled returns the versions whose labels lead readers to the key, or may: a version that cannot be opened may hold
// any key.
func (s State) labelled(fingerprint string) []Version {
	var all []Version
	for _, v := range s.Versions {
		if len(v.Labels) > 0 && (v.Key == fingerprint || v.Sealed) {
			all = append(all, v)
		}
	}
	return all
}

// inUseSince is the time from which on the parameter has held the key in use, as far as versions were opened.
func (s State) inUseSince() time.Time {
	since := s.Newest().Modified
	for _, v := range slices.Backward(s.Versions) {
		if v.Key != s.InUse() {
			break
		}
		since = v.Modified
	}
	return since
}

// current gives the place of the key in use, and the one for the next key. They are slots if pair is "".
func (s State) current(pair string) (current, target Place, found bool) {
	if pair == "" {
		return s.currentSlot()
	}
	target = Place{Pair: pair}
	for _, p := range s.Places {
		if p.Key == s.InUse() && p.Active && (!found || p.Pair != "") {
			current, found = p, true
		}
		if p.Pair == pair {
			target = p
		}
	}
	if target.Key == s.InUse() && target.Active {
		current = target
	}
	return current, target, found
}

func (s State) currentSlot() (current, target Place, found bool) {
	for i, p := range s.Places {
		if p.Pair == "" && p.Key == s.InUse() {
			return p, s.Places[1-i], true
		}
	}
	return Place{}, Place{}, false
}

// An observer reads states. It remembers what never changes.
type observer struct {
	*Options
	newest      int64            // version of the parameter that this run has read or written
	leaseNumber int64            // version of the lease, likewise; 0 if there is none
	opened      map[int64]string // fingerprints by version; "" for one that cannot be opened
	sharers     []string
	searched    bool // for sharers
	throttled   bool
}

// An observation is a State, with the secrets that a change needs.
type observation struct {
	State
	lease   leaseState
	stored  ssm.Version // the newest
	key     *keyfile.Key
	text    secret.Value  // encrypted
	given   secret.Value  // the passphrase as it is stored
	phrase  secret.Value  // what opens the key
	history []ssm.Version // with values, once they were needed
}

func (o *observation) clear() {
	o.text.Clear()
	o.given.Clear()
	o.phrase.Clear()
	for _, v := range o.history {
		v.Value.Clear()
	}
}

// observe reads everything anew.
func (r *observer) observe(ctx context.Context) (*observation, error) {
	o, err := r.fetch(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.readRest(ctx, o); err != nil {
		o.clear()
		return nil, err
	}
	return o, nil
}

// readRest reads what is not in the parameter: the lease, the user's keys, and who else has the key.
func (r *observer) readRest(ctx context.Context, o *observation) (err error) {
	o.Lease, o.Throttled = r.Parameter+LeaseSuffix, r.throttled
	if o.lease, err = r.newLease().readSince(ctx, r.leaseNumber); err != nil {
		return err
	}
	r.leaseNumber = o.lease.number
	o.Recorded, o.Rotation, o.Over, o.LeaseAge = o.lease.exists, o.lease.Rotation, o.lease.over, o.lease.age()
	client, err := r.Snowflake.Identify(ctx, o.key)
	if failure.Class(err) == keyfile.ClassSnowflake {
		return r.explainRefusal(ctx, o, err)
	}
	if err != nil {
		return err
	}
	r.Snowflake, o.User = client, client.User
	slots, err := r.Snowflake.Slots(ctx, o.key)
	if failure.Class(err) == keyfile.ClassSnowflake {
		return r.explainRefusal(ctx, o, err)
	}
	if err != nil {
		return explainStatement(err, o.User)
	}
	o.Places = []Place{inSlot(slots[0]), inSlot(slots[1])}
	pairs, err := r.Snowflake.KeyPairs(ctx, o.key)
	if _, answered := errors.AsType[*snowflake.StatementError](err); r.KeyPair == "" && (answered || failure.Class(err) == keyfile.ClassOther) {
		err = nil // the slots can be rotated where key pairs are not shown
	}
	if err != nil {
		return explainStatement(err, o.User)
	}
	for _, p := range pairs {
		o.Places = append(o.Places, inPair(p))
	}
	if !r.Finish && !r.searched {
		if r.sharers, err = r.findSharers(ctx, o.key); err != nil {
			return err
		}
		r.searched = true
	}
	o.Sharers = r.sharers
	return r.openVersions(ctx, o)
}

// fetchTries is how often a parameter is read before a run gives up on an answer that is up to date.
const fetchTries = 10

// fetch reads the parameter: its value from the source that every reader has, the rest from its history. For a while
// after it has taken a newer version, AWS may return an older one. fetch does not use that.
func (r *observer) fetch(ctx context.Context) (*observation, error) {
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
			return r.parse(all, material)
		}
		material.Clear()
		if try == fetchTries {
			return nil, fmt.Errorf("what AWS gives of %s is of different versions, or older than version %d, which it gave before; run it again", r.Parameter, r.newest)
		}
		if err := sleep(ctx, r.timing.settle); err != nil {
			return nil, err
		}
	}
}

func (r *observer) parse(all []ssm.Version, material *ssm.Material) (*observation, error) {
	latest := all[len(all)-1]
	parsed, err := decrypt.Parse(material.Text, material.Passphrase)
	if err != nil {
		material.Clear()
		return nil, err
	}
	r.opened[latest.Number] = parsed.Key.Fingerprint()
	o := &observation{
		State: State{
			Parameter: plainName(r.Parameter), Plain: parsed.Encryption == "", Managed: parsed.Managed,
			Expires: latest.Expires(), Now: latest.Read,
		},
		stored: latest, key: parsed.Key, text: material.Text, given: material.Passphrase, phrase: parsed.Passphrase,
	}
	for _, v := range all {
		o.Versions = append(o.Versions, Version{Number: v.Number, Modified: v.Modified, Labels: v.Labels})
	}
	r.setKeys(o)
	return o, nil
}

// plainName is a parameter's name as the AWS command line takes it.
func plainName(name string) string {
	if n, err := ssm.ParseName(name); err == nil {
		if plain, err := n.Plain(); err == nil {
			return plain
		}
	}
	return name
}

// setKeys puts the keys of the versions that were opened into the state.
func (r *observer) setKeys(o *observation) {
	for i := range o.Versions {
		v := &o.Versions[i]
		key, opened := r.opened[v.Number]
		v.Key, v.Sealed = key, opened && key == ""
	}
}

// openVersions opens the versions on which a plan depends: those with labels, and, from the newest on, those with the key
// in use and with the key before it. If a place of the run has a key that is neither in use nor the recorded old one, it
// opens all, since one of them may tell where that key comes from.
func (r *observer) openVersions(ctx context.Context, o *observation) error {
	all := slices.ContainsFunc(o.Places, func(p Place) bool {
		concerns := p.Pair == "" && r.KeyPair == "" || r.KeyPair != "" && p.Pair == r.KeyPair || o.Rotation.names(p.Key)
		known := p.Key == o.InUse() || p.Key == o.Rotation.Old && o.Rotation.New == o.InUse()
		return concerns && p.Key != "" && !known
	})
	last, rows := o.InUse(), 2
	for i := len(o.Versions) - 1; i >= 0; i-- {
		v := o.Versions[i]
		if !all && rows == 0 && len(v.Labels) == 0 {
			continue
		}
		key, err := r.open(ctx, o, v.Number)
		if err != nil {
			return err
		}
		if key != last {
			last, rows = key, max(0, rows-1)
		}
	}
	r.setKeys(o)
	return nil
}

// open gives the fingerprint of a version's key, "" if it cannot be opened. A version never changes.
func (r *observer) open(ctx context.Context, o *observation, number int64) (string, error) {
	if key, ok := r.opened[number]; ok {
		return key, nil
	}
	if o.history == nil {
		var err error
		if o.history, err = r.Store.History(ctx, r.Parameter, true); err != nil {
			return "", err
		}
	}
	i := slices.IndexFunc(o.history, func(v ssm.Version) bool { return v.Number == number })
	if i < 0 { // the oldest of a hundred has just gone
		return "", nil
	}
	r.opened[number] = ""
	if parsed, err := decrypt.Parse(o.history[i].Value, o.given); err == nil {
		r.opened[number] = parsed.Key.Fingerprint()
		parsed.Passphrase.Clear()
	}
	return r.opened[number], nil
}

// explainRefusal is for a key in use that Snowflake refuses: the state says whether it accepts the one before it. If
// another run has stored a newer key meanwhile, everything is observed again.
func (r *observer) explainRefusal(ctx context.Context, o *observation, refused error) error {
	if latest, err := r.Store.Latest(ctx, r.Parameter); err == nil && latest.Number != o.stored.Number {
		o.clear()
		again, err := r.observe(ctx) // another run was faster
		if err == nil {
			*o = *again
		}
		return err
	}
	o.Refused = refused
	if number, key := r.acceptedBefore(ctx, o); key != "" {
		o.Refused = fmt.Errorf("%w. Snowflake does accept the key of version %d, %s: either assign the new one, or store the value of %s:%d again",
			refused, number, key, o.Parameter, number)
	}
	return nil
}

// acceptedBefore is the version before the newest, and its key, if Snowflake is known to accept that.
func (r *observer) acceptedBefore(ctx context.Context, o *observation) (number int64, fingerprint string) {
	all, err := r.Store.History(ctx, r.Parameter, true)
	if err != nil || len(all) < 2 {
		return 0, ""
	}
	before := all[len(all)-2]
	parsed, err := decrypt.Parse(before.Value, o.given)
	parsed.Passphrase.Clear()
	if err != nil || parsed.Key.Equal(o.key) || r.Snowflake.Accepts(ctx, parsed.Key) != nil {
		return 0, ""
	}
	return before.Number, parsed.Key.Fingerprint()
}
