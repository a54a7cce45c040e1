package localsnowflake

import (
	"crypto/rsa"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Named key pairs, as Snowflake's documentation of 2026 describes them: the syntax, the columns, the limit, the
// reserved names, that a public key is the only active one of its user, the name and the expiry of a rotated
// key pair, what a rotation keeps, that one with 0 hours disables the old key, which stays listed. Inferred where it is
// silent: the wording of errors, that the keys in the slots are not listed and do not count, and that the default of 24
// hours is cut to what is left of the key pair.

const (
	// maxKeyPairs is how many named key pairs a user may have. Rotated ones count until they expire.
	maxKeyPairs = 10
	// defaultRotatedHours is how long a rotated key goes on being accepted if the statement does not say.
	defaultRotatedHours = 24
)

// reservedKeyPairs are Snowflake's names for the keys in the two slots.
var reservedKeyPairs = []string{"PUBLIC_KEY_1", "PUBLIC_KEY_2"}

// keyPair is a named key pair. It never changes, so that copies of its user share it.
type keyPair struct {
	name       string
	key        *publicKey
	role       string // the only role that may be requested with it; "" for any
	comment    string
	disabled   bool
	lifetime   time.Duration // DAYS_TO_EXPIRY, which a rotation starts anew
	createdOn  time.Time
	createdBy  string
	lastUsedOn time.Time
	expiresAt  time.Time
	rotatedTo  string // what has replaced it
}

func (k keyPair) isExpired(now time.Time) bool {
	return !k.expiresAt.IsZero() && !now.Before(k.expiresAt)
}

func (k keyPair) isActive(now time.Time) bool { return !k.disabled && !k.isExpired(now) }

// isListed tells whether the key pair is still there. Rotated ones go when they expire, but for those that a rotation with
// 0 hours has disabled.
func (k keyPair) isListed(now time.Time) bool {
	return k.rotatedTo == "" || k.disabled || !k.isExpired(now)
}

func (k keyPair) status(now time.Time) KeyPairStatus {
	switch {
	case k.disabled:
		return KeyPairDisabled
	case k.isExpired(now):
		return KeyPairExpired
	}
	return KeyPairActive
}

// KeyPairStatus is whether a key pair is accepted, in Snowflake's words.
type KeyPairStatus string

// The states of a key pair. One that is disabled and has expired is shown as disabled.
const (
	KeyPairActive   KeyPairStatus = "ACTIVE"
	KeyPairExpired  KeyPairStatus = "EXPIRED"
	KeyPairDisabled KeyPairStatus = "DISABLED"
)

// KeyPair is one row of SHOW USER KEY PAIRS.
type KeyPair struct {
	Name        string
	Fingerprint string
	Role        string // which it is restricted to, if any
	Status      KeyPairStatus
	Comment     string
	CreatedOn   time.Time
	CreatedBy   string
	LastUsedOn  time.Time // zero: never
	ExpiresAt   time.Time // zero: never
	RotatedTo   string
}

// KeyPairs returns the named key pairs of the user as SHOW USER KEY PAIRS lists them.
func (s *Server) KeyPairs(name string) []KeyPair {
	now := s.clock()
	var listed []KeyPair
	for _, k := range s.mustFind(name).listedPairs(now) {
		listed = append(listed, KeyPair{
			Name: k.name, Fingerprint: k.key.fingerprint, Role: k.role, Status: k.status(now), Comment: k.comment,
			CreatedOn: k.createdOn, CreatedBy: k.createdBy, LastUsedOn: k.lastUsedOn, ExpiresAt: k.expiresAt, RotatedTo: k.rotatedTo,
		})
	}
	return listed
}

// AddKeyPair gives the user a named key pair that does not expire. Like the other methods for users it
// panics over a mistake of the test: no such user, or a name or a key that the user has.
func (s *Server) AddKeyPair(owner, name string, pub *rsa.PublicKey) {
	add := addKeyPair{key: newPublicKey(pub).text}
	s.mustAlter(owner, func(u *user) {
		if failure := add.apply(u, keyPairEdit{name: unquoted(name), by: u.name, now: s.clock()}); failure != nil {
			panic("localsnowflake: " + failure.message)
		}
	})
}

// listedPairs is a copy of those that SHOW USER KEY PAIRS lists.
func (u user) listedPairs(now time.Time) []keyPair {
	listed := make([]keyPair, 0, len(u.pairs))
	for _, k := range u.pairs {
		if k.isListed(now) {
			listed = append(listed, k)
		}
	}
	return listed
}

// activePair returns the active key pair with the fingerprint.
func (u user) activePair(fingerprint string, now time.Time) (keyPair, bool) {
	for _, k := range u.pairs {
		if k.key.fingerprint == fingerprint && k.isActive(now) {
			return k, true
		}
	}
	return keyPair{}, false
}

// alterKeyPair adds, rotates, modifies or removes one named key pair of a user.
type alterKeyPair struct {
	acknowledged
	user     string // empty for the current one
	ifExists bool
	name     string
	change   keyPairChange
}

func (alterKeyPair) typeID() int64 { return typeDDL }

func (a alterKeyPair) rows(sc *scope) ([][]*string, *failure) {
	return sc.alter(a.user, a.ifExists, ModifyAuthenticationMethods, func(u *user) *failure {
		if slices.Contains(reservedKeyPairs, a.name) {
			return reservedKeyPair(a.name)
		}
		return a.change.apply(u, keyPairEdit{name: a.name, by: sc.user, now: sc.server.clock()})
	})
}

// keyPairEdit has what every change of a key pair needs.
type keyPairEdit struct {
	name string // of the key pair
	by   string // a user
	now  time.Time
}

// keyPairChange changes the user, or returns why not and leaves it alone.
type keyPairChange interface {
	apply(*user, keyPairEdit) *failure
}

type addKeyPair struct {
	key     string
	role    string
	days    int
	comment string
}

func (a addKeyPair) apply(u *user, e keyPairEdit) *failure {
	listed := u.listedPairs(e.now)
	if _, taken := findPair(listed, e.name); taken {
		return keyPairExists(e.name)
	}
	if a.role != "" && !u.hasRole(a.role) {
		return invalidValue("'"+a.role+"'", "ROLE_RESTRICTION")
	}
	key, failure := u.newPairKey(a.key, listed, e.now)
	if failure != nil {
		return failure
	}
	added := keyPair{
		name: e.name, key: key, role: a.role, comment: a.comment, lifetime: time.Duration(a.days) * 24 * time.Hour,
		createdOn: e.now, createdBy: e.by,
	}
	u.pairs = slices.Concat(listed, []keyPair{added.startingAt(e.now)})
	return nil
}

// startingAt lets the key pair expire as long after now as it was meant to last.
func (k keyPair) startingAt(now time.Time) keyPair {
	if k.lifetime > 0 {
		k.expiresAt = now.Add(k.lifetime)
	}
	return k
}

// newPairKey reads the key of a key pair that would come on top of those listed.
func (u user) newPairKey(value string, listed []keyPair, now time.Time) (*publicKey, *failure) {
	key, failure := parsePublicKey(value)
	switch {
	case failure != nil:
		return nil, failure
	case u.key(key.fingerprint, now) != nil:
		return nil, rejectedKey("Public key is already in use by the user")
	case len(listed) >= maxKeyPairs:
		return nil, rejectedKey(fmt.Sprintf("Maximum number of %d key pairs reached", maxKeyPairs))
	}
	return key, nil
}

type rotateKeyPair struct {
	key   string
	hours *int
}

func (r rotateKeyPair) apply(u *user, e keyPairEdit) *failure {
	listed := u.listedPairs(e.now)
	i, found := findPair(listed, e.name)
	if !found {
		return noKeyPair(e.name)
	}
	old := listed[i]
	if old.rotatedTo != "" {
		return rejectedKey("Key pair '" + e.name + "' has been rotated")
	}
	grace, failure := r.grace(old, e.now)
	if failure != nil {
		return failure
	}
	key, failure := u.newPairKey(r.key, listed, e.now)
	if failure != nil {
		return failure
	}
	replaced := keyPair{
		name: old.name, key: key, role: old.role, comment: old.comment, lifetime: old.lifetime, createdOn: e.now, createdBy: e.by,
	}
	listed[i] = replaced.startingAt(e.now)
	old.name, old.rotatedTo = rotatedName(listed, old.name, e.now), old.name
	old.expiresAt, old.disabled = e.now.Add(grace), old.disabled || grace == 0
	u.pairs = slices.Concat(listed, []keyPair{old})
	return nil
}

// grace is how long the old key is still accepted: no longer than it would have been anyway. A number of
// hours that is too large is refused; the default is cut.
func (r rotateKeyPair) grace(old keyPair, now time.Time) (time.Duration, *failure) {
	grace := defaultRotatedHours * time.Hour
	if r.hours != nil {
		grace = time.Duration(*r.hours) * time.Hour
	}
	if old.expiresAt.IsZero() {
		return grace, nil
	}
	left := max(old.expiresAt.Sub(now), 0)
	if r.hours != nil && grace > left {
		return 0, invalidValue(strconv.Itoa(*r.hours), "EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS")
	}
	return min(grace, left), nil
}

// rotatedName says when. A second rotation within a millisecond is put into the next one.
func rotatedName(listed []keyPair, name string, now time.Time) string {
	for at := now.UnixMilli(); ; at++ {
		rotated := fmt.Sprintf("%s_ROTATED_%d", name, at)
		if _, taken := findPair(listed, rotated); !taken {
			return rotated
		}
	}
}

type removeKeyPair struct{}

func (removeKeyPair) apply(u *user, e keyPairEdit) *failure {
	listed := u.listedPairs(e.now)
	i, found := findPair(listed, e.name)
	if !found {
		return noKeyPair(e.name)
	}
	u.pairs = slices.Delete(listed, i, i+1)
	return nil
}

// modifyKeyPair changes what is not nil.
type modifyKeyPair struct {
	renameTo *string
	disabled *bool
	comment  *string
}

func (m modifyKeyPair) apply(u *user, e keyPairEdit) *failure {
	listed := u.listedPairs(e.now)
	i, found := findPair(listed, e.name)
	if !found {
		return noKeyPair(e.name)
	}
	if m.renameTo != nil {
		if slices.Contains(reservedKeyPairs, *m.renameTo) {
			return reservedKeyPair(*m.renameTo)
		}
		if _, taken := findPair(listed, *m.renameTo); taken {
			return keyPairExists(*m.renameTo)
		}
		listed[i].name = *m.renameTo
	}
	if m.disabled != nil {
		listed[i].disabled = *m.disabled
	}
	if m.comment != nil {
		listed[i].comment = *m.comment
	}
	u.pairs = listed
	return nil
}

func findPair(pairs []keyPair, name string) (int, bool) {
	i := slices.IndexFunc(pairs, func(k keyPair) bool { return k.name == name })
	return i, i >= 0
}

// The documentation does not say how Snowflake words these; they are modelled on its errors for other
// objects.

func noKeyPair(name string) *failure {
	return &failure{code: ObjectNotFound, sqlState: "02000",
		message: fmt.Sprintf("SQL compilation error:\nKey pair '%s' does not exist or not authorized.", name)}
}

func keyPairExists(name string) *failure {
	return &failure{code: ObjectExists, sqlState: "42710",
		message: fmt.Sprintf("SQL compilation error:\nObject '%s' already exists.", name)}
}

func reservedKeyPair(name string) *failure {
	return &failure{code: InvalidValue, sqlState: "22023",
		message: fmt.Sprintf("SQL compilation error:\ninvalid value '%s' for key pair name: it is reserved", name)}
}

func invalidValue(value, property string) *failure {
	return &failure{code: InvalidValue, sqlState: "22023",
		message: fmt.Sprintf("SQL compilation error:\ninvalid value [%s] for parameter '%s'", value, property)}
}

// showKeyPairs lists the named key pairs of a user, not what is in the slots.
type showKeyPairs struct {
	instant
	user string // empty for the current one
}

func (showKeyPairs) typeID() int64 { return typeDescribe }

var keyPairColumns = []column{
	textColumn("name"), textColumn("user_name"), textColumn("fingerprint"), textColumn("role_scope"), textColumn("status"),
	textColumn("comment"), momentColumn("created_on"), textColumn("created_by"), momentColumn("last_used_on"),
	momentColumn("expires_at"), textColumn("rotated_to"),
}

func (showKeyPairs) columns(*scope) []column { return keyPairColumns }

func (s showKeyPairs) rows(sc *scope) ([][]*string, *failure) {
	shown, failure := sc.visibleUser(s.user, ModifyAuthenticationMethods)
	if failure != nil {
		return nil, failure
	}
	now := sc.server.clock()
	rows := [][]*string{}
	for _, k := range shown.listedPairs(now) {
		status := string(k.status(now))
		rows = append(rows, []*string{
			&k.name, &shown.name, &k.key.fingerprint, orNull(k.role), &status, orNull(k.comment), moment(k.createdOn),
			orNull(k.createdBy), moment(k.lastUsedOn), moment(k.expiresAt), orNull(k.rotatedTo),
		})
	}
	return rows, nil
}

// moment is a cell of a momentColumn, NULL for the zero time.
func moment(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return orNull(fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/int(time.Millisecond)))
}
