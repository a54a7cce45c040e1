package localsnowflake

import (
	"cmp"
	"strconv"
	"time"
)

// alterUser sets or unsets properties of a user, all of them or none.
type alterUser struct {
	acknowledged
	user        string // empty for the current one
	ifExists    bool
	keys        []keyChange
	disabled    *bool
	lockMinutes *int
}

type keyChange struct {
	slot  int
	value string // empty: the slot is emptied
}

func (alterUser) typeID() int64 { return typeDDL }

// privilege is the one that the change needs: a role that may change keys may not disable, lock or unlock a user.
func (a alterUser) privilege() Privilege {
	if a.disabled != nil || a.lockMinutes != nil {
		return Ownership
	}
	return ModifyAuthenticationMethods
}

func (a alterUser) rows(sc *scope) ([][]*string, *failure) {
	return sc.alter(a.user, a.ifExists, a.privilege(), func(u *user) *failure { return a.apply(u, sc.server.clock()) })
}

func (a alterUser) apply(u *user, now time.Time) *failure {
	parsed := make([]*publicKey, len(a.keys))
	for i, change := range a.keys {
		if change.value == "" {
			continue
		}
		key, failure := parsePublicKey(change.value)
		if failure != nil {
			return failure
		}
		parsed[i] = key
	}
	for i, change := range a.keys {
		u.set(change.slot, parsed[i], now)
	}
	if a.disabled != nil {
		u.disabled = *a.disabled
	}
	if a.lockMinutes != nil {
		u.lockedUntil = now.Add(time.Duration(*a.lockMinutes) * time.Minute)
	}
	return nil
}

// describeUser shows a user.
type describeUser struct {
	instant
	user string
}

func (describeUser) typeID() int64 { return typeDescribe }

var propertyColumns = []column{
	textColumn("property"), textColumn("value"), textColumn("default"), textColumn("description"),
}

func (describeUser) columns(*scope) []column { return propertyColumns }

func (d describeUser) rows(sc *scope) ([][]*string, *failure) {
	described, failure := sc.visibleUser(d.user, Ownership)
	if failure != nil {
		return nil, failure
	}
	return described.properties(sc.server.clock()), nil
}

// null is how DESC USER shows what is not set: as text.
const null = "null"

// properties are Snowflake's properties that have to do with logging in, in its order and words.
func (u user) properties(now time.Time) [][]*string {
	hasKey := u.keys != [2]*publicKey{} || len(u.listedPairs(now)) > 0
	rows := [][]*string{
		property("NAME", u.name, null, "Name"),
		property("DISPLAY_NAME", u.name, null, "Display name of the associated object"),
		property("TYPE", "SERVICE", null, "Type of the user"),
		property("LOGIN_NAME", u.login, null, "Login name of the user"),
		property("DISABLED", strconv.FormatBool(u.disabled), "false", "Whether the user is disabled"),
		property("MINS_TO_UNLOCK", u.minutesToUnlock(now), null,
			"Temporary lock on the user will be removed after specified number of minutes"),
		property("DEFAULT_ROLE", cmp.Or(u.defaultRole, null), null, "Primary principal of user session will be set to this role"),
		property("HAS_KEYPAIR", strconv.FormatBool(hasKey), "false", "Whether the user has a key pair"),
	}
	for slot, names := range keyProperties {
		value, fingerprint, setAt := null, null, null
		if key := u.keys[slot]; key != nil {
			value, fingerprint = key.text, key.fingerprint
		}
		if !u.setAt[slot].IsZero() {
			setAt = u.setAt[slot].UTC().Format(setTimeLayout)
		}
		rows = append(rows,
			property(names.property, value, null, names.description),
			property(names.property+"_FP", fingerprint, null, "Fingerprint of user's "+names.ordinal+"RSA public key."),
			property(names.property+"_LAST_SET_TIME", setAt, null, "The timestamp at which the "+names.ordinal+
				"RSA public key was last set for the user. Defaults to null if no "+names.ordinal+"RSA public key has been set yet."),
		)
	}
	return rows
}

func (u user) minutesToUnlock(now time.Time) string {
	if !u.isLocked(now) {
		return null
	}
	return strconv.Itoa(int(u.lockedUntil.Sub(now).Minutes()))
}

const setTimeLayout = "2006-01-02 15:04:05.000"

var keyProperties = [2]struct{ property, ordinal, description string }{
	{"RSA_PUBLIC_KEY", "", "RSA public key of the user"},
	{"RSA_PUBLIC_KEY_2", "second ", "Second RSA public key of the user"},
}

func property(name, value, unset, description string) []*string {
	return []*string{&name, &value, &unset, &description}
}
