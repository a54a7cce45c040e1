package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// A Key is one key to keep fresh: where it comes from, where it goes, and whose it is.
type Key struct {
	Name                string // "" for the only one, which has Dir for itself
	Dir                 string
	KeyParameter        string // "" for SecretKey
	PassphraseParameter string
	SecretKey           secret.Value
	Passphrase          secret.Value
	Snowflake           Snowflake
}

// Source is what status.json calls the key's ssm.
func (k Key) Source() string {
	if k.KeyParameter == "" {
		return "SECRET_KEY"
	}
	return k.KeyParameter
}

// keyName is that of a directory, and a label in metrics and logs.
var keyName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]*$`)

const longestKeyName = 63

// keyFields are what a --key may say.
var keyFields = map[string]func(*Key) *string{
	"name":                 func(k *Key) *string { return &k.Name },
	"key-parameter":        func(k *Key) *string { return &k.KeyParameter },
	"passphrase-parameter": func(k *Key) *string { return &k.PassphraseParameter },
	"account":              func(k *Key) *string { return &k.Snowflake.Account },
	"user":                 func(k *Key) *string { return &k.Snowflake.User },
	"role":                 func(k *Key) *string { return &k.Snowflake.Role },
}

const keySyntax = "name=NAME,key-parameter=PARAMETER[,passphrase-parameter=PARAMETER][,user=USER][,account=ACCOUNT][,role=ROLE]"

// parseKeys takes one key a line. Its errors repeat names of keys alone: a value may be a secret in the
// wrong place.
func parseKeys(written string) ([]Key, error) {
	var keys []Key
	number := 0
	for line := range strings.SplitSeq(written, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		number++
		k, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", number, err)
		}
		if slices.ContainsFunc(keys, func(other Key) bool { return strings.EqualFold(other.Name, k.Name) }) {
			return nil, fmt.Errorf("key %d: there is a key named %s already; give each its own name, whatever the case", number, k.Name)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseKey(line string) (Key, error) {
	var k Key
	for field := range strings.SplitSeq(line, ",") {
		name, value, ok := strings.Cut(field, "=")
		at := keyFields[strings.TrimSpace(name)]
		value = strings.TrimSpace(value)
		switch {
		case !ok || at == nil:
			return k, errors.New("write " + keySyntax)
		case value == "":
			return k, fmt.Errorf("%s= has no value; give it one, or leave it out", strings.TrimSpace(name))
		case *at(&k) != "":
			return k, fmt.Errorf("%s= is there twice", strings.TrimSpace(name))
		}
		*at(&k) = value
	}
	switch {
	case len(k.Name) > longestKeyName, !keyName.MatchString(k.Name):
		return k, errors.New("name= is a name of at most 63 letters, digits, _ and -, which becomes a directory's")
	case k.KeyParameter == "":
		return k, errors.New("no key-parameter=: name the key's parameter")
	case k.KeyParameter == k.PassphraseParameter:
		return k, errors.New("key-parameter= and passphrase-parameter= are the same: " + storeApart)
	}
	for name, parameter := range map[string]string{"key-parameter=": k.KeyParameter, "passphrase-parameter=": k.PassphraseParameter} {
		if err := checkParameter(parameter); err != nil {
			return k, fmt.Errorf("%s: %w", name, err)
		}
	}
	return k, nil
}

// resolve makes Keys what the other settings make of them.
func (c *Config) resolve() {
	if len(c.Keys) == 0 {
		c.Keys = []Key{{
			Dir:                 c.Dir,
			KeyParameter:        c.KeyParameter,
			PassphraseParameter: c.PassphraseParameter,
			SecretKey:           c.SecretKey,
			Passphrase:          c.Passphrase,
			Snowflake:           c.Snowflake,
		}}
		return
	}
	for i, k := range c.Keys {
		c.Keys[i].Dir = filepath.Join(c.Dir, k.Name)
		c.Keys[i].Snowflake = c.Snowflake.but(k.Snowflake)
	}
}

// but is s with what other says instead.
func (s Snowflake) but(other Snowflake) Snowflake {
	for to, from := range map[*string]string{&s.Account: other.Account, &s.User: other.User, &s.Role: other.Role} {
		if from != "" {
			*to = from
		}
	}
	return s
}
