package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
	"github.com/snowkey/snowkey/sidecar/internal/network"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// Directory says where keys are published, and how.
type Directory struct {
	Dir          string
	Formats      []keyfile.Format // of the key files; none only with Serve
	Serve        []keyfile.Format // of the sockets
	FileMode     fs.FileMode
	RequireTmpfs bool

	Connections     bool // connections.toml and config.toml, too
	ConnectionsMode fs.FileMode
}

func (d *Directory) fields() []field {
	return []field{
		dir.into(&d.Dir), formats.into(&d.Formats), serve.into(&d.Serve), fileMode.into(&d.FileMode), requireTmpfs.into(&d.RequireTmpfs),
		writeConnections.into(&d.Connections), connectionsMode.into(&d.ConnectionsMode),
	}
}

// PublishSettings are those that all commands which publish have in common.
type PublishSettings struct {
	KeySettings
	Directory

	Verify            bool
	PublishUnverified bool
}

func (s *PublishSettings) fields() []field {
	return slices.Concat(s.KeySettings.fields(), s.Directory.fields(),
		[]field{verify.into(&s.Verify), verifyUnreachable.into(&s.PublishUnverified)})
}

func (s *PublishSettings) validate() []error {
	return slices.Concat(s.complete(s.Dir, s.Verify), s.checkFormats(), s.checkConnections(s.Directory))
}

// checkFormats refuses settings with which no key is published.
func (d *Directory) checkFormats() []error {
	if len(d.Formats) == 0 && len(d.Serve) == 0 {
		return []error{errors.New("--formats none publishes no key: add --serve, or name a format")}
	}
	return nil
}

// OnceConfig has the settings of `once`.
type OnceConfig struct{ PublishSettings }

func (c *OnceConfig) fields() []field {
	all := c.PublishSettings.fields()
	for i, f := range all {
		if f.name() == serve.name() {
			all[i].unlisted = true // it is read to be refused
		}
	}
	return all
}

func (c *OnceConfig) validate() []error {
	all := c.PublishSettings.validate()
	if len(c.Serve) > 0 {
		all = append(all, errors.New("--serve: once ends when the files are written; leave --serve out, or use run or exec"))
	}
	return all
}

// RunConfig has the settings of `run`.
type RunConfig struct {
	PublishSettings

	Interval    time.Duration
	MetricsAddr string // "": none
	EMF         string // "": none
	LogFormat   logwriter.Format
}

func (c *RunConfig) fields() []field {
	return append(c.PublishSettings.fields(), interval.into(&c.Interval), metricsAddr.into(&c.MetricsAddr), emf.into(&c.EMF), logFormat.into(&c.LogFormat))
}

// validate also lets the log be JSON where CloudWatch reads metrics from it.
func (c *RunConfig) validate() []error {
	all := c.PublishSettings.validate()
	if c.EMF == "" {
		return all
	}
	if c.LogFormat == logwriter.Text {
		all = append(all, errors.New("--emf needs a log in JSON: leave --log-format out"))
	}
	c.LogFormat = logwriter.JSON
	return all
}

// ExecConfig has the settings of `exec`.
type ExecConfig struct {
	RunConfig

	OnChange     supervise.Change
	StopTimeout  time.Duration
	StartTimeout time.Duration // 0: none
}

func (c *ExecConfig) fields() []field {
	return append(c.RunConfig.fields(), onChange.into(&c.OnChange), stopTimeout.into(&c.StopTimeout), startTimeout.into(&c.StartTimeout))
}

// isCommands reports whether the variable is CMD's: it has a secret of its own there.
func (c *ExecConfig) isCommands(variable string) bool {
	switch found := c.only.inEnvironment; variable {
	case sharedSecretKeyName:
		return found.variable != sharedSecretKeyName && !found.repeated
	case passphrase.name():
		return found.othersPassphrase
	default:
		return false
	}
}

// HealthcheckConfig has the settings of `healthcheck`. Everything else it reads from what `run` wrote.
type HealthcheckConfig struct{ Dir string }

func (c *HealthcheckConfig) fields() []field {
	return []field{dir.into(&c.Dir).described("Directory to check: the one that the sidecar publishes in")}
}

func (c *HealthcheckConfig) validate() []error { return nil }

// DoctorConfig has the settings of `doctor`: those of the sidecar that it examines, and its own.
type DoctorConfig struct {
	KeySettings
	Directory

	Interval time.Duration
	JSON     bool
}

func (c *DoctorConfig) fields() []field {
	return slices.Concat(c.KeySettings.fields(), c.Directory.fields(), []field{interval.into(&c.Interval), asJSON.into(&c.JSON)})
}

func (c *DoctorConfig) validate() []error {
	return slices.Concat(c.complete(c.Dir, false), c.checkFormats(), c.checkConnections(c.Directory))
}

// KeygenConfig has the settings of `keygen`: what it makes, and where it goes.
type KeygenConfig struct {
	Bits               int    // 0: the default
	Out                string // "": the default
	PublicOut          string // likewise
	Passphrase         secret.Value
	PassphraseFile     string
	GeneratePassphrase bool

	Put                 bool
	KeyParameter        string
	PassphraseParameter string
	KMSKey              string
	Tags                []ssm.Tag
	Overwrite           bool

	User snowflake.Login
}

func (c *KeygenConfig) fields() []field {
	return []field{
		bits.into(&c.Bits).described("Size of the key: `2048`, `3072` or `4096`. Default: 2048"),
		out.into(&c.Out), publicOut.into(&c.PublicOut), passphraseFile.into(&c.PassphraseFile),
		generatePassphrase.into(&c.GeneratePassphrase), put.into(&c.Put),
		keyParameter.into(&c.KeyParameter).of(topicStore, "With `--put`: name or ARN of the parameter for the key, without a version or label"),
		passphraseParameter.into(&c.PassphraseParameter).
			of(topicStore, "With `--put`: name or ARN of the parameter for the passphrase, without a version or label"),
		kmsKey.into(&c.KMSKey), tags.into(&c.Tags), overwrite.into(&c.Overwrite),
		passphrase.into(&c.Passphrase).
			of(topicNewKey, "Passphrase for the new key. If it is not set, and neither `--passphrase-file` nor `--generate-passphrase` is, the terminal asks for one"),
		field{user, c.setUser}.described("Login name of the user in the ALTER USER statement that keygen prints"),
	}
}

func (c *KeygenConfig) setUser(written string) (err error) {
	c.User, err = snowflake.ParseLogin(written)
	return err
}

func (c *KeygenConfig) validate() []error {
	var all []error
	if c.Passphrase.IsSet() && (c.GeneratePassphrase || c.PassphraseFile != "") {
		all = append(all, errors.New("PRIVATE_KEY_PASSPHRASE is set beside --passphrase-file or --generate-passphrase: keep one"))
	}
	if c.Put {
		return append(all, c.validatePut()...)
	}
	if c.Overwrite || c.KMSKey != "" || len(c.Tags) > 0 {
		all = append(all, errors.New("--overwrite, --kms-key and --tag go with --put; a file is never overwritten"))
	}
	return all
}

func (c *KeygenConfig) validatePut() []error {
	switch {
	case c.KeyParameter == "" || c.PassphraseParameter == "":
		return []error{errors.New("--put stores a key and its passphrase: name --key-parameter and --passphrase-parameter")}
	case sameParameter(c.KeyParameter, c.PassphraseParameter):
		return []error{errors.New("--key-parameter and --passphrase-parameter are the same: store the two apart")}
	}
	all := network.Check()
	if err := writable(c.KeyParameter); err != nil {
		all = append(all, fmt.Errorf("--key-parameter: %w", err))
	}
	if err := writable(c.PassphraseParameter); err != nil {
		all = append(all, fmt.Errorf("--passphrase-parameter: %w", err))
	}
	return all
}

// RotateConfig has the settings of `rotate`.
type RotateConfig struct {
	Key       Key // the one to replace
	Interval  time.Duration
	Bits      int // 0: those of the key before
	Grace     time.Duration
	GraceAuto bool // Grace is not set
	NoWait    bool
	Finish    bool
	ForceNew  bool
	RevokeOld bool
	MaxAge    time.Duration // 0: none
	KeyPair   string
	DryRun    bool
}

func (c *RotateConfig) fields() []field {
	all := c.Key.fields()
	for i, f := range all {
		switch f.name() {
		case keyParameter.name():
			all[i] = f.described("Name or ARN of the parameter that holds the key, without a version or label: rotate stores the new key there. Required")
		case secretKeyText.name(), sharedSecretKeyName:
			all[i].unlisted = true // it is read to be refused
		case passphrase.name():
			all[i] = f.described("The key's passphrase itself, unless `--passphrase-parameter` is set")
		case account.name():
			all[i] = f.described("Account identifier, `ORGANIZATION-ACCOUNT`. Default: the account in `SNOWFLAKE_HOST`")
		case user.name():
			all[i] = f.described("Login name of the user whose key this is")
		case role.name():
			all[i] = f.described("Role to log in with; upper-cased, unless in double quotes. Default: the user's own")
		}
	}
	return append(all,
		interval.into(&c.Interval).of(topicRotation, "The `--interval` that the sidecars have, for `--grace auto`"),
		bits.into(&c.Bits).of(topicRotation, "Size of the new key: `2048`, `3072` or `4096`. Default: the size of the old key"),
		grace.into(&c.Grace), noWait.into(&c.NoWait), finish.into(&c.Finish), forceNew.into(&c.ForceNew), revokeOld.into(&c.RevokeOld),
		maxAge.into(&c.MaxAge), keyPair.into(&c.KeyPair), dryRun.into(&c.DryRun))
}

func (c *RotateConfig) validate() []error {
	if c.Grace == graceAuto {
		c.Grace, c.GraceAuto = 0, true
	}
	all := append(c.Key.validate(), network.Check()...)
	add := func(text string) { all = append(all, errors.New(text)) }
	if i := slices.Index(all, errNoKey); i >= 0 {
		all[i] = errors.New("no key: name its parameter in --key-parameter (SNOWKEY_KEY_PARAMETER)") // rotate takes no other
	}
	if c.Key.SecretKey.IsSet() {
		add("rotate stores the new key in the parameter of the old one: name it in --key-parameter, and unset " + c.Key.inEnvironment.variable)
	}
	if c.Key.KeyParameter != "" {
		if err := writable(c.Key.KeyParameter); err != nil {
			all = append(all, fmt.Errorf("--key-parameter: %w (a secret of Secrets Manager is rotated there)", err))
		}
	}
	if missing := c.Key.Snowflake.missing(); missing != "" {
		add("rotate changes the keys of a Snowflake user: set " + missing)
	}
	switch {
	case c.RevokeOld && !c.Finish && !c.ForceNew:
		add("--revoke-old ends an earlier run's grace period: use it with --finish, or with --force-new for a key that has leaked")
	case c.ForceNew && c.Finish:
		add("--force-new always makes a key, --finish none: keep one")
	case c.ForceNew && c.MaxAge > 0:
		add("--force-new makes a key at any age: leave --max-age away")
	case c.Finish && c.MaxAge > 0:
		add("--max-age is for a run that makes a key: leave it away, or --finish")
	}
	return all
}

// writable refuses a name that can only be read. A name that is invalid was refused where it was set.
func writable(name string) error {
	n, err := ssm.ParseName(name)
	if err != nil {
		return nil //nolint:nilerr // reported where it was set
	}
	_, err = n.Plain()
	return err
}

// sameParameter reports whether two names are valid and name one parameter, however they are written.
func sameParameter(a, b string) bool {
	x, errX := ssm.ParseName(a)
	y, errY := ssm.ParseName(b)
	return errX == nil && errY == nil && x.SameParameter(y)
}
