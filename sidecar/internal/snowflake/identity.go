package snowflake

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/snowkey/snowkey/internal/identity"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

type (
	// An Account is what [identity.ParseAccount] reads.
	Account = identity.Account

	// A Login is a user's login name, which is in tokens. Statements have the user's name, which may be another.
	Login string

	// A Role is a role's name as SHOW ROLES shows it. The SQL API takes no other.
	Role string
)

// ParseLogin reads a login name.
func ParseLogin(text string) (Login, error) {
	login, err := identity.ParseUser(text)
	return Login(login), err
}

// ParseRole reads a role as a statement would.
func ParseRole(text string) (Role, error) {
	role, err := ParseName(text)
	return Role(role), err
}

// ParseName reads a name as a statement would: an unquoted identifier is in upper case, and what is in double quotes is
// exact. A text that a statement could only have in quotes is exact, too.
func ParseName(text string) (string, error) {
	text = strings.Trim(strings.TrimSpace(strings.Trim(text, "\ufeff")), "'`")
	quoted := len(text) >= 2 && strings.HasPrefix(text, `"`) && strings.HasSuffix(text, `"`)
	switch {
	case quoted:
		text = strings.ReplaceAll(text[1:len(text)-1], `""`, `"`)
	case unquotedIdentifier().MatchString(text):
		text = strings.ToUpper(text)
	}
	if !showable(text) || quoted && text == "" {
		return "", errors.New("write a name of at most 255 characters on one line; in double quotes if its case counts")
	}
	return text, nil
}

var unquotedIdentifier = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_$]*$`)

// reserved are the words that Snowflake takes for no identifier unless they are quoted.
var reserved = sync.OnceValue(func() []string {
	return strings.Fields(`ACCOUNT ALL ALTER AND ANY AS BETWEEN BY CASE CAST CHECK COLUMN CONNECT CONNECTION CONSTRAINT
	CREATE CROSS CURRENT CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DATABASE DELETE DISTINCT DROP ELSE EXISTS
	FALSE FOLLOWING FOR FROM FULL GRANT GROUP GSCLUSTER HAVING ILIKE IN INCREMENT INNER INSERT INTERSECT INTO IS ISSUE JOIN
	LATERAL LEFT LIKE LOCALTIME LOCALTIMESTAMP MINUS NATURAL NOT NULL OF ON OR ORDER ORGANIZATION QUALIFY REGEXP REVOKE RIGHT
	RLIKE ROW ROWS SAMPLE SCHEMA SELECT SET SOME START TABLE TABLESAMPLE THEN TO TRIGGER TRUE TRY_CAST UNION UNIQUE UPDATE
	USING VALUES VIEW WHEN WHENEVER WHERE WITH`)
})

// Identifier is a name as a statement has it: in double quotes if it would be another name without them.
func Identifier(name string) string {
	if unquotedIdentifier().MatchString(name) && name == strings.ToUpper(name) && !slices.Contains(reserved(), name) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// Argument is a name as a shell's argument, quoted for Snowflake and for the shell if it must be.
func Argument(name string) string {
	identifier := Identifier(name)
	if identifier == name {
		return name
	}
	return "'" + strings.ReplaceAll(identifier, "'", `'\''`) + "'"
}

// showable reports whether messages can have a name. A name that was cut would be another one.
func showable(name string) bool {
	const longest = 255 // characters of an identifier
	return utf8.RuneCountInString(name) <= longest && !strings.ContainsFunc(name, unicode.IsControl)
}

// Identify returns a client that knows the user's name, which statements need, logged in with key.
func (c *Client) Identify(ctx context.Context, key *keyfile.Key) (*Client, error) {
	if c.User != "" {
		return c, nil
	}
	name, err := c.queryText(ctx, key, "SELECT CURRENT_USER()")
	if err != nil {
		return nil, err
	}
	if len(name) > 2 && strings.HasPrefix(name, `"`) && strings.HasSuffix(name, `"`) {
		name, err = ParseName(name)
	}
	if err != nil || name == "" || !showable(name) {
		return nil, failure.New(keyfile.ClassOther, fmt.Errorf("Snowflake gives no name for the user who logs in as %s", c.Login),
			"run SELECT CURRENT_USER() as that user, and give it a name without control characters")
	}
	identified := *c
	identified.User = name
	return &identified, nil
}

// AvailableRoles returns the roles that the user may take on, logged in with key.
func (c *Client) AvailableRoles(ctx context.Context, key *keyfile.Key) ([]Role, error) {
	list, err := c.queryText(ctx, key, "SELECT CURRENT_AVAILABLE_ROLES()")
	if err != nil {
		return nil, err
	}
	var roles []Role
	if err := json.Unmarshal([]byte(list), &roles); err != nil {
		return nil, errors.New("Snowflake's list of roles is no JSON")
	}
	return slices.DeleteFunc(roles, func(r Role) bool { return !showable(string(r)) }), nil
}

// queryText runs a statement whose result is one cell.
func (c *Client) queryText(ctx context.Context, key *keyfile.Key, statement string) (string, error) {
	result, err := c.Query(ctx, key, statement)
	if err != nil {
		return "", err
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 {
		return "", failure.New(keyfile.ClassOther, fmt.Errorf("Snowflake gives no value for %s", statement), "run it by hand, and see what it gives")
	}
	return result.Rows[0][0], nil
}

// userInAdvice is the user as advice's statements have it. Until Snowflake has told the name it is taken to be the login name.
func (c *Client) userInAdvice() string {
	if c.User == "" && unquotedIdentifier().MatchString(string(c.Login)) && !slices.Contains(reserved(), strings.ToUpper(string(c.Login))) {
		return string(c.Login)
	}
	return Identifier(cmp.Or(c.User, string(c.Login)))
}
