package localsnowflake

import (
	"cmp"
	"fmt"
	"strconv"
)

// alterUser sets or unsets the public keys of a user, all of them or none.
type alterUser struct {
	acknowledged
	user     string // empty for the current one
	ifExists bool
	keys     []keyChange
}

type keyChange struct {
	slot  int
	set   bool
	value string
}

func (alterUser) typeID() int64 { return typeDDL }

func (a alterUser) rows(sc *scope) ([][]*string, *failure) {
	name := cmp.Or(a.user, sc.user)
	if _, exists := sc.server.users.find(name); !exists && a.ifExists {
		return executedRow, nil
	}
	if failure := sc.authorize(name); failure != nil {
		return nil, failure
	}
	parsed := make([]*publicKey, len(a.keys))
	for i, change := range a.keys {
		if !change.set {
			continue
		}
		key, failure := parsePublicKey(change.value)
		if failure != nil {
			return nil, failure
		}
		parsed[i] = key
	}
	sc.server.users.alter(name, func(u *user) {
		for i, change := range a.keys {
			u.set(change.slot, parsed[i], sc.server.clock())
		}
	})
	return executedRow, nil
}

// authorize returns why the current user may not alter or describe the user.
func (sc *scope) authorize(name string) *failure {
	if _, exists := sc.server.users.find(name); !exists {
		return &failure{code: ObjectNotFound, sqlState: "02000",
			message: fmt.Sprintf("SQL compilation error:\nUser '%s' does not exist or not authorized.", name)}
	}
	if current, _ := sc.server.users.find(sc.user); !current.canAlterUsers {
		return &failure{code: AccessDenied, sqlState: "42501",
			message: fmt.Sprintf("SQL access control error:\nInsufficient privileges to operate on user '%s'.", name)}
	}
	return nil
}

// describeUser shows a user. Everybody may look at themselves.
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
	if d.user != sc.user {
		if failure := sc.authorize(d.user); failure != nil {
			return nil, failure
		}
	}
	described, _ := sc.server.users.find(d.user)
	return described.properties(), nil
}

// null is how DESC USER shows what is not set: as text.
const null = "null"

func (u user) properties() [][]*string {
	rows := [][]*string{
		property("NAME", u.name, "Name"),
		property("DISPLAY_NAME", u.name, "Display name of the associated object"),
		property("LOGIN_NAME", u.name, "Login name of the user"),
		property("TYPE", "SERVICE", "Type of the user"),
		property("DISABLED", "false", "Whether the user is disabled"),
		property("DEFAULT_ROLE", null, "Primary principal of user session will be set to this role"),
		property("HAS_RSA_PUBLIC_KEY", strconv.FormatBool(u.keys != [2]*publicKey{}), "Whether the user has an RSA public key"),
	}
	for slot, names := range keyProperties {
		spki, fingerprint, setAt := null, null, null
		if key := u.keys[slot]; key != nil {
			spki, fingerprint, setAt = key.spki, key.fingerprint, u.setAt[slot].UTC().Format(setTimeLayout)
		}
		rows = append(rows,
			property(names.property, spki, names.description),
			property(names.property+"_FP", fingerprint, "Fingerprint of user's "+names.ordinal+"RSA public key."),
			property(names.property+"_LAST_SET_TIME", setAt, "When the user's "+names.ordinal+"RSA public key was last set."),
		)
	}
	return rows
}

const setTimeLayout = "2006-01-02 15:04:05.000"

var keyProperties = [2]struct{ property, ordinal, description string }{
	{"RSA_PUBLIC_KEY", "", "RSA public key of the user"},
	{"RSA_PUBLIC_KEY_2", "second ", "Second RSA public key of the user"},
}

func property(name, value, description string) []*string {
	unset := null
	return []*string{&name, &value, &unset, &description}
}
