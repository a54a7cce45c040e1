package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/snowkey/snowkey/internal/identity"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
	"github.com/snowkey/snowkey/sidecar/internal/network"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// A Key is one key: where it comes from, where it goes, and whose it is.
type Key struct {
	Name                string // "" for the only one, which has Dir for itself
	Dir                 string
	KeyParameter        string // "" for SecretKey
	PassphraseParameter string
	SecretKey           secret.Value
	Passphrase          secret.Value
	Snowflake           Snowflake

	inEnvironment environmentKey
}

// Snowflake says where to log in, and as whom.
type Snowflake struct {
	Account  snowflake.Account
	User     snowflake.Login
	Host     string
	Port     int
	Protocol string
	Role     snowflake.Role

	Warehouse, Database, Schema string // for connections

	// OtherForm is the account as it was written, if that is no form that every driver reads. It ends before a ?, behind
	// which JDBC's addresses may have a password.
	OtherForm string

	KeyName string // of the --key that says so; "" with one key

	hostsAccount snowflake.Account // the one that the host names, "" if it names none

	// Set if a value was refused, so that it is not reported as missing, too.
	invalidAccount, invalidHost, invalidUser bool
}

func (s *Snowflake) setAccount(written string) (err error) {
	s.Account, err = identity.ParseAccount(written)
	s.invalidAccount = err != nil
	if s.OtherForm = ""; s.Account.IsHost() || !strings.EqualFold(written, string(s.Account)) {
		s.OtherForm, _, _ = strings.Cut(written, "?")
	}
	return err
}

func (s *Snowflake) setUser(written string) (err error) {
	s.User, err = snowflake.ParseLogin(written)
	s.invalidUser = err != nil
	return err
}

func (s *Snowflake) setRole(written string) (err error) {
	s.Role, err = snowflake.ParseRole(written)
	return err
}

// setHost also takes the port that a host may be written with.
func (s *Snowflake) setHost(written string) error {
	host, port, err := identity.ParseHost(written)
	s.Host, s.Port, s.invalidHost = host, port, err != nil
	s.hostsAccount = identity.AccountOfHost(written)
	return err
}

// setPort comes after setHost.
func (s *Snowflake) setPort(written string) error {
	port, err := parseRemotePort(written)
	if err == nil && port == 0 {
		return nil
	}
	if err == nil && s.Port != 0 && port != s.Port {
		return fmt.Errorf("SNOWFLAKE_HOST has port %d; leave one of them out", s.Port)
	}
	if err == nil {
		s.Port = port
	}
	return err
}

// complete takes the account from a host that names it, as drivers do.
func (s *Snowflake) complete() { s.Account, s.hostsAccount = cmp.Or(s.Account, s.hostsAccount), "" }

func (s Snowflake) checkProtocol() error {
	if err := identity.CheckProtocol(s.Protocol, s.Host); err != nil && !s.invalidHost {
		return fmt.Errorf("%s: %w", protocol.name(), err)
	}
	return nil
}

// missing names the variables that are not set. One that is invalid has an error of its own.
func (s Snowflake) missing() string {
	var names []string
	if s.Account == "" && !s.invalidAccount && !s.invalidHost {
		names = append(names, account.name())
	}
	if s.User == "" && !s.invalidUser {
		names = append(names, user.name())
	}
	return strings.Join(names, " and ")
}

// Client logs in as s says. The login that was stored with the key fills in what s leaves open.
func (s Snowflake) Client(stored decrypt.Login, version string) *snowflake.Client {
	return &snowflake.Client{
		Account:   cmp.Or(s.Account, snowflake.Account(stored.Account)),
		Login:     cmp.Or(s.User, snowflake.Login(stored.User)),
		Role:      s.Role,
		Host:      s.Host,
		Port:      s.Port,
		Protocol:  s.Protocol,
		UserAgent: "snowkey/" + version,
		Key:       s.KeyName,
	}
}

// overriddenBy is s with what other says instead.
func (s Snowflake) overriddenBy(other Snowflake) Snowflake {
	if other.Account != "" {
		s.Account, s.OtherForm = other.Account, other.OtherForm
	}
	s.User = cmp.Or(other.User, s.User)
	s.Role = cmp.Or(other.Role, s.Role)
	s.Warehouse = cmp.Or(other.Warehouse, s.Warehouse)
	s.Database = cmp.Or(other.Database, s.Database)
	s.Schema = cmp.Or(other.Schema, s.Schema)
	return s
}

// fields are the settings of a key that is the only one.
func (k *Key) fields() []field {
	s := &k.Snowflake
	return []field{
		keyParameter.into(&k.KeyParameter), passphraseParameter.into(&k.PassphraseParameter),
		secretKeyText.into(&k.SecretKey), sharedSecretKey.into(&k.inEnvironment.shared), passphrase.into(&k.Passphrase),
		{account, s.setAccount}, {user, s.setUser}, {role, s.setRole},
		{host, s.setHost}, {port, s.setPort}, protocol.into(&s.Protocol),
	}
}

// validate also fills in what follows from other settings.
func (k *Key) validate() []error {
	k.Snowflake.complete()
	k.takeSecretKey(false)
	k.takePassphrase(false)
	var all []error
	if err := k.Snowflake.checkProtocol(); err != nil {
		all = append(all, err)
	}
	add := func(text string) { all = append(all, errors.New(text)) }
	switch {
	case k.KeyParameter == "" && !k.SecretKey.IsSet():
		all = append(all, errNoKey)
	case k.KeyParameter != "" && k.SecretKey.IsSet():
		add("both --key-parameter and SNOWKEY_SECRET_KEY are set: keep one")
	}
	if err := k.checkSecretKey(); err != nil {
		all = append(all, err)
	}
	if k.PassphraseParameter == "" {
		return all
	}
	switch {
	case k.SecretKey.IsSet():
		add("--passphrase-parameter can't be combined with " + k.inEnvironment.variable + ": set PRIVATE_KEY_PASSPHRASE")
	case sameParameter(k.PassphraseParameter, k.KeyParameter):
		add("--key-parameter and --passphrase-parameter are the same: " + storeApart)
	}
	return all
}

var errNoKey = errors.New("no key: name its parameter in --key-parameter (SNOWKEY_KEY_PARAMETER), or put the PEM in SNOWKEY_SECRET_KEY or SECRET_KEY")

// storeApart is the advice about a key and a passphrase in one parameter.
const storeApart = "store the two apart; a secret of type SnowflakeKeyPairAuthentication, which has both, is named as the key's alone"

// Source is the key's source as the settings name it.
func (k Key) Source() string {
	if k.KeyParameter == "" {
		return k.inEnvironment.variable
	}
	return k.KeyParameter
}

// lacksLogin reports whether nothing says whose key it is. A managed secret may say it.
func (k Key) lacksLogin() bool {
	if k.Snowflake.missing() == "" || decrypt.IsManagedSecret(k.SecretKey) {
		return false
	}
	name, err := ssm.ParseName(k.KeyParameter)
	return err != nil || !name.SecretsManager()
}

// KeySettings says which keys a command works with: one by settings of its own, or several by --key.
type KeySettings struct {
	Keys []Key // every key, complete after Load

	only Key // what the settings of its own say

	invalidNames []error // of warehouse, database and schema, which count with --connections alone
}

func (s *KeySettings) fields() []field {
	of := &s.only.Snowflake
	return append(s.only.fields(), s.name(warehouse, &of.Warehouse), s.name(database, &of.Database), s.name(schema, &of.Schema), keyList.into(&s.Keys))
}

// name is a field whose value is another program's, unless --connections is set.
func (s *KeySettings) name(d definition, to *string) field {
	return field{d, func(written string) error {
		if err := setName(to, written); err != nil {
			s.invalidNames = append(s.invalidNames, fmt.Errorf("%s: %w", d.name(), err))
		}
		return nil
	}}
}

// complete fills in Keys from the other settings, and reports what contradicts them. Settings of the network count if
// the command uses it.
func (s *KeySettings) complete(dir string, verify bool) []error {
	all := s.completeKeys(dir, verify)
	if verify || slices.ContainsFunc(s.Keys, func(k Key) bool { return k.KeyParameter != "" }) {
		all = append(all, network.Check()...)
	}
	return all
}

func (s *KeySettings) completeKeys(dir string, verify bool) []error {
	if s.Keys == nil {
		s.only.Dir = dir
		all := s.only.validate()
		s.Keys = []Key{s.only}
		if verify && s.only.lacksLogin() {
			all = append(all, errors.New("--verify logs in to Snowflake: set "+s.only.Snowflake.missing()))
		}
		return all
	}
	s.only.takeSecretKey(true)
	s.only.takePassphrase(true)
	var all []error
	if err := s.only.Snowflake.checkProtocol(); err != nil {
		all = append(all, err)
	}
	if o := s.only; o.KeyParameter != "" || o.PassphraseParameter != "" || o.SecretKey.IsSet() {
		all = append(all, errors.New("--key (SNOWKEY_KEYS) stands alone: write what --key-parameter, --passphrase-parameter or SNOWKEY_SECRET_KEY says "+
			"into a --key, or drop --key"))
	}
	for i, k := range s.Keys {
		k.Dir = filepath.Join(dir, k.Name)
		k.Snowflake = s.only.Snowflake.overriddenBy(k.Snowflake)
		k.Snowflake.complete()
		k.Snowflake.KeyName = k.Name
		if verify && k.lacksLogin() {
			all = append(all, errors.New("--verify logs in to Snowflake: set account= and user= of key "+k.Name+", or SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER"))
		}
		s.Keys[i] = k
	}
	return all
}

// keyName matches the names of keys: each is also a directory's name, and a label in metrics and logs.
var keyName = lazyregexp.New(`^[a-zA-Z0-9][a-zA-Z0-9_-]*$`)

const longestKeyName = 63

// keyFields are what a --key may say.
var keyFields = map[string]func(*Key, string) error{
	"name":                 func(k *Key, v string) error { k.Name = v; return nil },
	"key-parameter":        func(k *Key, v string) error { k.KeyParameter = v; return nil },
	"passphrase-parameter": func(k *Key, v string) error { k.PassphraseParameter = v; return nil },
	"account":              func(k *Key, v string) error { return k.Snowflake.setAccount(v) },
	"user":                 func(k *Key, v string) error { return k.Snowflake.setUser(v) },
	"role":                 func(k *Key, v string) error { return k.Snowflake.setRole(v) },
	"warehouse":            func(k *Key, v string) error { return setName(&k.Snowflake.Warehouse, v) },
	"database":             func(k *Key, v string) error { return setName(&k.Snowflake.Database, v) },
	"schema":               func(k *Key, v string) error { return setName(&k.Snowflake.Schema, v) },
}

func setName(to *string, written string) (err error) {
	*to, err = snowflake.ParseName(written)
	return err
}

const keySyntax = "name=NAME,key-parameter=PARAMETER[,passphrase-parameter=PARAMETER][,user=USER][,account=ACCOUNT][,role=ROLE]" +
	"[,warehouse=WAREHOUSE][,database=DATABASE][,schema=SCHEMA]"

// writtenBreak is a separator of keys without a line break, which no value in an env file has: ";" or "\n" written out,
// once or twice. A field, a comment or nothing follows, so that a user such as CORP\nina stays whole.
var writtenBreak = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:\s*(?:;|(?:\\+r)?\\+n))+\s*(#|$|(?:` + strings.Join(slices.Collect(maps.Keys(keyFields)), "|") + `)\s*=)`)
})

// parseKeys takes one key a line. Without any it gives nil, and with an error a list that is empty. Its errors repeat
// names of keys alone: a value may be a secret in the wrong place.
func parseKeys(written string) ([]Key, error) {
	var keys []Key
	number := 0
	for line := range strings.SplitSeq(writtenBreak().ReplaceAllString(written, "\n$1"), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		number++
		k, err := parseKey(line)
		if err != nil {
			return []Key{}, fmt.Errorf("key %d: %w", number, err)
		}
		if slices.ContainsFunc(keys, func(other Key) bool { return strings.EqualFold(other.Name, k.Name) }) {
			return []Key{}, fmt.Errorf("key %d: there is a key named %s already; give each its own name, whatever the case", number, k.Name)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseKey(line string) (Key, error) {
	var k Key
	given := map[string]bool{}
	for field := range strings.SplitSeq(line, ",") {
		name, value, ok := strings.Cut(field, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		set := keyFields[name]
		switch {
		case !ok || set == nil:
			return k, errors.New("write " + keySyntax)
		case value == "":
			return k, fmt.Errorf("%s= has no value; give it one, or leave it out", name)
		case given[name]:
			return k, fmt.Errorf("%s= is there twice", name)
		}
		given[name] = true
		if err := set(&k, value); err != nil {
			return k, fmt.Errorf("%s=: %w", name, err)
		}
	}
	switch {
	case len(k.Name) > longestKeyName, !keyName().MatchString(k.Name):
		return k, errors.New("name= is a name of at most 63 letters, digits, _ and -, which becomes a directory's")
	case k.KeyParameter == "":
		return k, errors.New("no key-parameter=: name the key's parameter")
	case sameParameter(k.KeyParameter, k.PassphraseParameter):
		return k, errors.New("key-parameter= and passphrase-parameter= are the same: " + storeApart)
	}
	for name, parameter := range map[string]string{"key-parameter=": k.KeyParameter, "passphrase-parameter=": k.PassphraseParameter} {
		if _, err := parseParameter(parameter); err != nil {
			return k, fmt.Errorf("%s: %w", name, err)
		}
	}
	return k, nil
}
