// Package config reads the sidecar's settings: a flag, then its environment variable, then the
// default. Each setting is declared once, in settings.go; flags, variables, help, the tables in the
// documentation and what is secret all come from there.
//
// It never falls back to a default because a value is invalid, never ignores a SNOWKEY_ variable
// that it does not know, and never takes a secret from a flag.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// Prefix of the variables that belong to flags.
const Prefix = "SNOWKEY_"

// A Config is every setting, valid.
type Config struct {
	Keys                []Key // every key there is to keep, for a command that publishes
	several             bool  // they were given by --key, even if what it says is wrong
	KeyParameter        string
	PassphraseParameter string
	SecretKey           secret.Value
	Passphrase          secret.Value
	Dir                 string
	Formats             []keyfile.Format
	FileMode            fs.FileMode
	Interval            time.Duration
	RequireTmpfs        bool
	MetricsAddr         string
	EMF                 string // "": none
	Verify              bool
	PublishUnverified   bool
	Snowflake           Snowflake
	OnChange            supervise.Change
	StopTimeout         time.Duration
	StartTimeout        time.Duration // 0: none
	Keygen              Keygen
	JSON                bool
	Rotate              Rotate
}

// Rotate is how `rotate` goes about it.
type Rotate struct {
	Grace   time.Duration
	NoWait  bool
	Finish  bool
	KeyPair string
	DryRun  bool
}

// Keygen is what `keygen` makes, and where it goes.
type Keygen struct {
	Bits               int
	Out                string // "": the default
	PublicOut          string // likewise
	PassphraseFile     string
	GeneratePassphrase bool
	Put                bool
	KMSKey             string
	Tags               []ssm.Tag
	Overwrite          bool
}

// Snowflake says where --verify logs in, and as whom.
type Snowflake struct {
	Account  string
	User     string
	Host     string
	Port     int
	Protocol string
	Role     string
}

// AddFlags declares the flags of the named settings, if none is named all that are not one command's own.
func AddFlags(flags *pflag.FlagSet, names ...string) {
	for _, s := range settings {
		if s.flag == "" || !s.among(names) {
			continue
		}
		f := flags.VarPF(&text{written: s.preset, kind: s.value, repeats: s.repeats}, s.flag, "", strings.ReplaceAll(s.help, "`", ""))
		if s.value == isSwitch {
			f.NoOptDefVal = "true"
		}
	}
}

// text is a flag's value as it was written: Load reads it, so that all errors come together. That of a
// flag which repeats has a line for each time.
type text struct {
	written, kind string
	repeats       bool
}

func (t *text) String() string { return t.written }
func (t *text) Type() string   { return t.kind }

func (t *text) Set(s string) error {
	if t.repeats && t.written != "" {
		s = t.written + "\n" + s
	}
	t.written = s
	return nil
}

// Load reads the settings that have a flag in flags, and with key-parameter among them also those
// that have only a variable. All that is wrong is reported in one error.
func Load(flags *pflag.FlagSet, environ []string) (*Config, error) {
	env := newEnvironment(environ)
	c := new(Config)
	problems := env.unknown()
	hasKey := flags.Lookup("key-parameter") != nil
	for _, s := range settings {
		if s.flag != "" && flags.Lookup(s.flag) == nil || s.flag == "" && !hasKey {
			continue
		}
		if err := s.load(c, flags, env); err != nil {
			problems = append(problems, err)
		}
	}
	switch {
	case flags.Lookup("put") != nil:
		problems = append(problems, c.keygenContradictions()...)
	case flags.Lookup("grace") != nil:
		if c.Rotate.Grace < 0 {
			c.Rotate.Grace = c.Interval + c.Interval/10 + 2*time.Minute
		}
		problems = append(problems, c.rotateContradictions()...)
	case hasKey:
		problems = append(problems, c.contradictions()...)
		c.resolve()
	}
	return c, join(problems)
}

func (s setting) load(c *Config, flags *pflag.FlagSet, env environment) error {
	if s.flag != "" {
		if f := flags.Lookup(s.flag); f.Changed {
			return s.apply(c, "--"+s.flag, f.Value.String())
		}
	}
	if value, ok := env[s.Variable()]; ok {
		return s.apply(c, s.Variable(), value)
	}
	if s.preset == "" {
		return nil
	}
	return s.apply(c, "--"+s.flag, s.preset)
}

func (s setting) apply(c *Config, from, value string) error {
	err := s.set(c, value)
	if err == nil {
		return nil
	}
	if s.secret {
		return fmt.Errorf("%s: %w", from, err)
	}
	return fmt.Errorf("%s=%q: %w", from, value, err)
}

// contradictions are what is wrong with settings that are each right alone.
func (c *Config) contradictions() []error {
	var all []error
	add := func(text string) { all = append(all, errors.New(text)) }
	if c.several {
		if c.KeyParameter != "" || c.PassphraseParameter != "" || c.SecretKey.IsSet() || c.Passphrase.IsSet() {
			add("--key (SNOWKEY_KEYS) stands alone: write what --key-parameter, --passphrase-parameter, SECRET_KEY or " +
				"PRIVATE_KEY_PASSPHRASE says into a --key, or drop --key")
		}
		for _, k := range c.Keys {
			if login := c.Snowflake.but(k.Snowflake); c.Verify && login.incomplete() && !k.mayNameItsLogin() {
				add("--verify logs in to Snowflake: set account= and user= of key " + k.Name + ", or SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER")
			}
		}
		return all
	}
	switch {
	case c.KeyParameter == "" && !c.SecretKey.IsSet():
		add("no key: name its parameter in --key-parameter (SNOWKEY_KEY_PARAMETER), or put the PEM in SECRET_KEY")
	case c.KeyParameter != "" && c.SecretKey.IsSet():
		add("both --key-parameter and SECRET_KEY are set: keep one")
	}
	if c.PassphraseParameter != "" {
		switch {
		case c.Passphrase.IsSet():
			add("both --passphrase-parameter and PRIVATE_KEY_PASSPHRASE are set: keep one")
		case c.SecretKey.IsSet():
			add("--passphrase-parameter goes with --key-parameter: beside SECRET_KEY set PRIVATE_KEY_PASSPHRASE")
		case c.PassphraseParameter == c.KeyParameter:
			add("--key-parameter and --passphrase-parameter are the same: " + storeApart)
		}
	}
	if only := (Key{KeyParameter: c.KeyParameter, SecretKey: c.SecretKey}); c.Verify && c.Snowflake.incomplete() && !only.mayNameItsLogin() {
		add("--verify logs in to Snowflake: set SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER")
	}
	return all
}

// keygenContradictions are those of `keygen`, which needs no key and may need no parameter.
func (c *Config) keygenContradictions() []error {
	var all []error
	add := func(text string) { all = append(all, errors.New(text)) }
	k := c.Keygen
	if c.Passphrase.IsSet() && (k.GeneratePassphrase || k.PassphraseFile != "") {
		add("PRIVATE_KEY_PASSPHRASE is set beside --passphrase-file or --generate-passphrase: keep one")
	}
	if !k.Put {
		if k.Overwrite || k.KMSKey != "" || len(k.Tags) > 0 {
			add("--overwrite, --kms-key and --tag go with --put; a file is never overwritten")
		}
		return all
	}
	switch {
	case c.KeyParameter == "" || c.PassphraseParameter == "":
		add("--put stores a key and its passphrase: name --key-parameter and --passphrase-parameter")
	case c.KeyParameter == c.PassphraseParameter:
		add("--key-parameter and --passphrase-parameter are the same: store the two apart")
	default:
		for _, written := range []struct{ flag, name string }{
			{"--key-parameter", c.KeyParameter}, {"--passphrase-parameter", c.PassphraseParameter},
		} {
			if err := writable(written.name); err != nil {
				add(written.flag + ": " + err.Error())
			}
		}
	}
	return all
}

// rotateContradictions are those of `rotate`, which writes where the others read, and logs in to Snowflake.
func (c *Config) rotateContradictions() []error {
	all := c.contradictions()
	if c.SecretKey.IsSet() {
		all = append(all, errors.New("rotate stores the new key in the parameter of the old one: name it in --key-parameter, and unset SECRET_KEY"))
	}
	if c.KeyParameter != "" {
		if err := writable(c.KeyParameter); err != nil {
			all = append(all, fmt.Errorf("--key-parameter: %w (a secret of Secrets Manager is rotated there)", err))
		}
	}
	if c.Snowflake.Account == "" || c.Snowflake.User == "" {
		all = append(all, errors.New("rotate changes the keys of a Snowflake user: set SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER"))
	}
	return all
}

// writable refuses a name that can only be read. One that is no name at all has been refused before.
func writable(name string) error {
	n, err := ssm.ParseName(name)
	if err != nil {
		return nil //nolint:nilerr // reported where it was set
	}
	_, err = n.Plain()
	return err
}

const storeApart = "store the two apart; a secret of type SnowflakeKeyPairAuthentication, which has both, is named as the key's alone"

func (s Snowflake) incomplete() bool { return s.Account == "" || s.User == "" }

// mayNameItsLogin: a managed secret says whose key it is.
func (k Key) mayNameItsLogin() bool {
	name, err := ssm.ParseName(k.KeyParameter)
	return err == nil && name.SecretsManager() || decrypt.IsManagedSecret(k.SecretKey)
}

func join(problems []error) error {
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return problems[0]
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = "\n  - " + p.Error()
	}
	return fmt.Errorf("%d settings are wrong:%s", len(problems), strings.Join(lines, ""))
}
