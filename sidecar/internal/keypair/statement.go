package keypair

import (
	"fmt"
	"regexp"
	"strings"
)

// A Slot is one of the two places for a public key that a Snowflake user has.
type Slot int

// The slots, by the names that ALTER USER has for them.
const (
	First  Slot = 1 // RSA_PUBLIC_KEY
	Second Slot = 2 // RSA_PUBLIC_KEY_2
)

// Property is the slot's name in ALTER USER; with _FP behind it, in DESC USER.
func (s Slot) Property() string {
	if s == Second {
		return "RSA_PUBLIC_KEY_2"
	}
	return "RSA_PUBLIC_KEY"
}

// Other is the slot that s is not.
func (s Slot) Other() Slot {
	if s == Second {
		return First
	}
	return Second
}

// String is the property.
func (s Slot) String() string { return s.Property() }

// SetPublicKey is the statement that puts a public key into a slot of a user.
func SetPublicKey(user string, slot Slot, publicKey string) string {
	return fmt.Sprintf("ALTER USER %s SET %s=%s", Identifier(user), slot.Property(), Literal(publicKey))
}

// UnsetPublicKey is the statement that empties a slot of a user.
func UnsetPublicKey(user string, slot Slot) string {
	return fmt.Sprintf("ALTER USER %s UNSET %s", Identifier(user), slot.Property())
}

// DescribeUser is the statement that shows a user's slots.
func DescribeUser(user string) string { return "DESC USER " + Identifier(user) }

var (
	plainIdentifier  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*$`)
	quotedIdentifier = regexp.MustCompile(`^"([^"]|"")+"$`)
)

// Identifier writes a name for a statement. A plain one, whose case means nothing to Snowflake, and one
// that is quoted already stay as they are; any other is quoted, and then its case does matter.
func Identifier(name string) string {
	if plainIdentifier.MatchString(name) || quotedIdentifier.MatchString(name) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// Literal writes a text for a statement. In Snowflake's literals a backslash escapes, too.
func Literal(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}
