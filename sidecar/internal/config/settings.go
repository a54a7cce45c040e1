package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// A setting is one thing that a user can set. One with a flag has the variable made of the flag's
// name as well; one without has only its variable.
type setting struct {
	flag     string
	variable string
	preset   string // the default, as a user would write it
	value    string // what kind of value the flag takes, for its help; isSwitch if the flag alone means true
	of       string // the one command that has it, if not every one that publishes
	repeats  bool   // the flag can be given again, for one more line of the value
	secret   bool   // the value is a secret, or may be one that ECS put in the wrong variable: it is never printed
	help     string
	set      func(c *Config, value string) error
}

// isSwitch is pflag's word for a flag that needs no value.
const isSwitch = "bool"

var settings = []setting{
	{
		flag: "key-parameter", value: "name", secret: true,
		help: "name or ARN of the key's parameter; `:version` and `:label` are allowed; or a secret of Secrets Manager. Required, unless SECRET_KEY is set",
		set:  func(c *Config, v string) error { c.KeyParameter = v; return checkParameter(v) },
	},
	{
		flag: "passphrase-parameter", value: "name", secret: true,
		help: "likewise for the key's passphrase; or set PRIVATE_KEY_PASSPHRASE",
		set:  func(c *Config, v string) error { c.PassphraseParameter = v; return checkParameter(v) },
	},
	{
		flag: "key", variable: "SNOWKEY_KEYS", value: "fields", secret: true, repeats: true,
		help: "one of several keys, instead: `name=NAME,key-parameter=PARAMETER`, and `passphrase-parameter=`, `user=`, `account=`, `role=`; " +
			"can be repeated, `SNOWKEY_KEYS` has one a line",
		set: func(c *Config, v string) (err error) {
			c.Keys, err = parseKeys(v)
			c.several = err != nil || len(c.Keys) > 0
			return err
		},
	},
	{
		flag: "dir", value: "path", preset: keyfile.DefaultDir,
		help: "the directory to publish in: a volume shared with the readers",
		set:  func(c *Config, v string) (err error) { c.Dir, err = parseDir(v); return err },
	},
	{
		flag: "formats", value: "list", preset: "der,pem",
		help: "what to write: any of `der`, `pem`, `b64`",
		set:  func(c *Config, v string) (err error) { c.Formats, err = parseFormats(v); return err },
	},
	{
		flag: "file-mode", value: "octal", preset: "0440",
		help: "mode of the key files",
		set:  func(c *Config, v string) (err error) { c.FileMode, err = parseFileMode(v); return err },
	},
	{
		flag: "interval", value: "duration", preset: "5m",
		help: "time between looks at the parameters, give or take a tenth; while SSM throttles it grows by itself, to twelve hours at most",
		set:  func(c *Config, v string) (err error) { c.Interval, err = parseDuration(v, time.Second); return err },
	},
	{
		flag: "require-tmpfs", preset: "false", value: isSwitch,
		help: "refuse to publish on anything but tmpfs or ramfs",
		set:  func(c *Config, v string) (err error) { c.RequireTmpfs, err = parseBool(v); return err },
	},
	{
		flag: "metrics-addr", value: "host:port",
		help: "serve `/metrics`, `/livez` and `/readyz` over HTTP at this address; without a host, on loopback. Off by default",
		set:  func(c *Config, v string) (err error) { c.MetricsAddr, err = parseAddr(v); return err },
	},
	{
		flag: "emf", value: "service",
		help: "write metrics for CloudWatch, in its embedded metric format, into the log: a line for each look, whose dimension `Service` has this value. Off by default",
		set:  func(c *Config, v string) (err error) { c.EMF, err = parseDimension(v); return err },
	},
	{
		flag: "verify", preset: "false", value: isSwitch,
		help: "log in to Snowflake with a new key before it replaces the published one",
		set:  func(c *Config, v string) (err error) { c.Verify, err = parseBool(v); return err },
	},
	{
		flag: "verify-unreachable", value: "action", preset: "wait",
		help: "with `--verify`, when Snowflake cannot be reached about the first key: `wait`, or `publish` it all the same",
		set:  func(c *Config, v string) (err error) { c.PublishUnverified, err = parseUnreachable(v); return err },
	},
	{
		flag: "on-change", value: "action", preset: "none", of: "exec",
		help: "`exec`: what to do with CMD at a new key: `none`, `restart`, or a signal to send, such as `SIGHUP`",
		set:  func(c *Config, v string) (err error) { c.OnChange, err = parseOnChange(v); return err },
	},
	{
		flag: "stop-timeout", value: "duration", preset: "30s", of: "exec",
		help: "`exec`: for `--on-change restart`, the time from SIGTERM to SIGKILL",
		set:  func(c *Config, v string) (err error) { c.StopTimeout, err = parseDuration(v, time.Second); return err },
	},
	{
		flag: "start-timeout", value: "duration", preset: "0s", of: "exec",
		help: "`exec`: how long to wait for the first key before giving up; `0s` is for ever",
		set:  func(c *Config, v string) (err error) { c.StartTimeout, err = parseDuration(v, 0); return err },
	},
	{
		flag: "bits", value: "number", of: "keygen",
		help: "size of the key: `2048`, `3072` or `4096`; if not set 2048, and in `rotate` that of the key before it",
		set:  func(c *Config, v string) (err error) { c.Keygen.Bits, err = parseBits(v); return err },
	},
	{
		flag: "out", value: "path", of: "keygen",
		help: "the file for the encrypted key, which must not exist; if not set `rsa_key.p8`, and with `--put` none",
		set:  func(c *Config, v string) (err error) { c.Keygen.Out, err = parseFile(v); return err },
	},
	{
		flag: "public-out", value: "path", of: "keygen",
		help: "the file for the public key; if not set it is beside `--out` and ends in `.pub`",
		set:  func(c *Config, v string) (err error) { c.Keygen.PublicOut, err = parseFile(v); return err },
	},
	{
		flag: "passphrase-file", value: "path", of: "keygen",
		help: "the file with the passphrase, if it is neither in PRIVATE_KEY_PASSPHRASE nor asked for; with `--generate-passphrase` the file to write it to",
		set:  func(c *Config, v string) (err error) { c.Keygen.PassphraseFile, err = parseFile(v); return err },
	},
	{
		flag: "generate-passphrase", preset: "false", value: isSwitch, of: "keygen",
		help: "make a passphrase; without `--passphrase-file` it goes beside `--out` and ends in `.passphrase`, and with `--put` into its parameter alone",
		set:  func(c *Config, v string) (err error) { c.Keygen.GeneratePassphrase, err = parseBool(v); return err },
	},
	{
		flag: "put", preset: "false", value: isSwitch, of: "keygen",
		help: "store key and passphrase in `--key-parameter` and `--passphrase-parameter`",
		set:  func(c *Config, v string) (err error) { c.Keygen.Put, err = parseBool(v); return err },
	},
	{
		flag: "kms-key", value: "id", of: "keygen",
		help: "ID, ARN or alias of the KMS key for what `--put` stores; if not set the one that a parameter has, or `alias/aws/ssm`",
		set:  func(c *Config, v string) error { c.Keygen.KMSKey = v; return nil },
	},
	{
		flag: "tag", value: "key=value", of: "keygen", repeats: true,
		help: "a tag for what `--put` stores; again for another one, in the variable on a line of its own",
		set:  func(c *Config, v string) (err error) { c.Keygen.Tags, err = parseTags(v); return err },
	},
	{
		flag: "overwrite", preset: "false", value: isSwitch, of: "keygen",
		help: "let `--put` replace the key; a passphrase that is stored already is kept",
		set:  func(c *Config, v string) (err error) { c.Keygen.Overwrite, err = parseBool(v); return err },
	},
	{
		flag: "json", preset: "false", value: isSwitch, of: "doctor",
		help: "print one JSON document instead of lines",
		set:  func(c *Config, v string) (err error) { c.JSON, err = parseBool(v); return err },
	},
	{
		flag: "grace", value: "duration", preset: "auto", of: "rotate",
		help: "how long the old key stays accepted beside the new one; `auto` is one `--interval` of the sidecars that follow, a tenth of it, and two minutes",
		set:  func(c *Config, v string) (err error) { c.Rotate.Grace, err = parseGrace(v); return err },
	},
	{
		flag: "no-wait", preset: "false", value: isSwitch, of: "rotate",
		help: "end as soon as the new key is in use; `--finish` removes the old one later",
		set:  func(c *Config, v string) (err error) { c.Rotate.NoWait, err = parseBool(v); return err },
	},
	{
		flag: "finish", preset: "false", value: isSwitch, of: "rotate",
		help: "begin nothing: complete a rotation that is unfinished, or take back one that was interrupted early",
		set:  func(c *Config, v string) (err error) { c.Rotate.Finish, err = parseBool(v); return err },
	},
	{
		flag: "key-pair", value: "name", of: "rotate",
		help: "the named key pair that holds the key, or shall hold it, instead of the two slots",
		set:  func(c *Config, v string) error { c.Rotate.KeyPair = v; return nil },
	},
	{
		flag: "dry-run", preset: "false", value: isSwitch, of: "rotate",
		help: "change nothing; say what was found and which statements would be run",
		set:  func(c *Config, v string) (err error) { c.Rotate.DryRun, err = parseBool(v); return err },
	},
	{
		variable: "SECRET_KEY", secret: true,
		help: "the key's PEM itself, or the JSON of a managed secret, as ECS `secrets` injects it; nothing is fetched then",
		set:  func(c *Config, v string) error { c.SecretKey = secret.New([]byte(v)); return notEmpty(v) },
	},
	{
		variable: "PRIVATE_KEY_PASSPHRASE", secret: true,
		help: "the key's passphrase itself",
		set:  func(c *Config, v string) error { c.Passphrase = secret.New([]byte(v)); return nil },
	},
	{
		variable: "SNOWFLAKE_ACCOUNT",
		help:     "account identifier, for `--verify`, `doctor` and `rotate`; if not set, the one in a managed secret",
		set:      func(c *Config, v string) error { c.Snowflake.Account = v; return nil },
	},
	{
		variable: "SNOWFLAKE_USER",
		help:     "user whose key this is, for `--verify` and `doctor`, likewise, `keygen` and `rotate`",
		set:      func(c *Config, v string) error { c.Snowflake.User = v; return nil },
	},
	{
		variable: "SNOWFLAKE_ROLE",
		help:     "role to log in with, for `--verify`, `doctor` and `rotate`; the user's default if not set",
		set:      func(c *Config, v string) error { c.Snowflake.Role = v; return nil },
	},
	{
		variable: "SNOWFLAKE_HOST",
		help:     "host, if it is not ACCOUNT.snowflakecomputing.com",
		set:      func(c *Config, v string) error { c.Snowflake.Host = v; return nil },
	},
	{
		variable: "SNOWFLAKE_PORT",
		help:     "port, if it is not the protocol's own",
		set:      func(c *Config, v string) (err error) { c.Snowflake.Port, err = parsePort(v); return err },
	},
	{
		variable: "SNOWFLAKE_PROTOCOL",
		help:     "`https`, or `http` for a local Snowflake",
		set:      func(c *Config, v string) (err error) { c.Snowflake.Protocol, err = parseProtocol(v); return err },
	},
}

// Variable is the setting's environment variable.
func (s setting) Variable() string {
	if s.variable != "" {
		return s.variable
	}
	return Prefix + strings.ToUpper(strings.ReplaceAll(s.flag, "-", "_"))
}

func (s setting) among(names []string) bool {
	if len(names) == 0 {
		return s.of == ""
	}
	return slices.Contains(names, s.flag)
}

// WithoutSecrets is an environment less the variables that hold secrets, for a program that gets the
// published key.
func WithoutSecrets(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return IsSecret(name)
	})
}

// IsSecret reports whether the variable of this name holds a secret.
func IsSecret(name string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return s.secret && s.flag == "" && s.variable == name })
}

// Commands are those with a table of their own in the documentation. What belongs to `exec`, which
// publishes, stands among the rest.
func Commands() []string {
	var all []string
	for _, s := range settings {
		if s.table() != "" && !slices.Contains(all, s.table()) {
			all = append(all, s.table())
		}
	}
	return all
}

func (s setting) table() string {
	if s.of == "exec" {
		return ""
	}
	return s.of
}

// Markdown is the table of a command's own settings for the documentation, or with "" that of the rest.
func Markdown(command string) string {
	var b strings.Builder
	b.WriteString("| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, s := range settings {
		if s.table() != command {
			continue
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", code(s.flag, "--"), s.Variable(), code(s.preset, ""), s.help)
	}
	return b.String()
}

// VariablesHelp says which variables stand for flags and lists those that do not.
func VariablesHelp() string {
	var b strings.Builder
	b.WriteString("Every flag --foo-bar can be set as " + Prefix + "FOO_BAR, --key as " + Prefix + "KEYS. Variables without a flag:\n")
	for _, s := range settings {
		if s.flag == "" {
			fmt.Fprintf(&b, "  %-24s %s\n", s.Variable(), strings.ReplaceAll(s.help, "`", ""))
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func code(text, prefix string) string {
	if text == "" {
		return ""
	}
	return "`" + prefix + text + "`"
}

func checkParameter(v string) error {
	if v == "" {
		return nil
	}
	_, err := ssm.ParseName(v)
	return err
}

// notEmpty is for a variable that an empty template or compose file sets to nothing.
func notEmpty(v string) error {
	if v == "" {
		return errors.New("set, but to nothing; put the key's PEM in it, or unset it")
	}
	return nil
}

func parseDir(v string) (string, error) {
	if v == "" {
		return "", errors.New("name a directory")
	}
	return filepath.Clean(v), nil
}

func parseFormats(v string) ([]keyfile.Format, error) {
	var formats []keyfile.Format
	for name := range strings.SplitSeq(v, ",") {
		f := keyfile.Format(strings.TrimSpace(name))
		if !slices.Contains(keyfile.Formats, f) {
			return nil, fmt.Errorf("no such format %q: any of der, pem, b64, with commas", name)
		}
		if !slices.Contains(formats, f) {
			formats = append(formats, f)
		}
	}
	return formats, nil
}

func parseFileMode(v string) (fs.FileMode, error) {
	bits, err := strconv.ParseUint(v, 8, 32)
	if err != nil {
		return 0, errors.New("write the mode in octal, such as 0440")
	}
	mode := fs.FileMode(bits)
	if mode&0o400 == 0 || mode&^0o444 != 0 {
		return 0, errors.New("write 0400, 0440 or 0444: its owner reads a key file, and nobody writes it")
	}
	return mode, nil
}

func parseDuration(v string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, errors.New("write a duration with its unit, such as 30s or 5m")
	}
	if d < least {
		return 0, fmt.Errorf("the shortest is %v", least)
	}
	return d, nil
}

func parseBits(v string) (int, error) {
	switch v {
	case "2048", "3072", "4096":
		return strconv.Atoi(v)
	}
	return 0, errors.New("write 2048, 3072 or 4096")
}

// parseFile refuses what other programs take for their standard streams.
func parseFile(v string) (string, error) {
	if v == "" {
		return "", errors.New("name a file")
	}
	if v == "-" {
		return "", errors.New("no key is written to the terminal; name a file")
	}
	return filepath.Clean(v), nil
}

func parseTags(v string) ([]ssm.Tag, error) {
	var tags []ssm.Tag
	for line := range strings.Lines(v) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || key == "" {
			return nil, errors.New("write a tag as key=value")
		}
		if slices.ContainsFunc(tags, func(t ssm.Tag) bool { return t.Key == key }) {
			return nil, errors.New("write each tag once")
		}
		tags = append(tags, ssm.Tag{Key: key, Value: value})
	}
	return tags, nil
}

// parseGrace has a negative number for auto, which depends on another setting.
func parseGrace(v string) (time.Duration, error) {
	if v == "auto" {
		return -1, nil
	}
	return parseDuration(v, 0)
}

func parseOnChange(v string) (supervise.Change, error) {
	switch v {
	case "none":
		return supervise.Change{}, nil
	case "restart":
		return supervise.Change{Restart: true}, nil
	}
	signal := unix.SignalNum(v)
	switch signal {
	case 0:
		return supervise.Change{}, errors.New("write none, restart, or the name of a signal, such as SIGHUP")
	case unix.SIGKILL, unix.SIGSTOP:
		return supervise.Change{}, errors.New("no program can act on this signal; write restart, or the signal that has CMD read its files again")
	}
	return supervise.Change{Signal: signal}, nil
}

func parseUnreachable(v string) (publish bool, err error) {
	if v != "wait" && v != "publish" {
		return false, errors.New("write wait or publish")
	}
	return v == "publish", nil
}

func parseBool(v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, errors.New("write true or false")
	}
	return b, nil
}

// dimension is what CloudWatch takes as the value of one, less spaces: its alarms name it.
var dimension = regexp.MustCompile(`^[!-9;-~][!-~]*$`)

const longestDimension = 255

func parseDimension(v string) (string, error) {
	if v != "" && (len(v) > longestDimension || !dimension.MatchString(v)) {
		return "", errors.New("write a name of at most 255 letters, digits and signs, such as that of the ECS service")
	}
	return v, nil
}

// parseAddr lets ":9090" mean loopback, so that nobody serves the task's network by leaving out a host.
func parseAddr(v string) (string, error) {
	if v == "" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", errors.New("write HOST:PORT or :PORT")
	}
	if _, err := parsePort(port); err != nil {
		return "", err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

func parsePort(v string) (int, error) {
	port, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0, errors.New("a port is a number up to 65535")
	}
	return int(port), nil
}

func parseProtocol(v string) (string, error) {
	if v != "http" && v != "https" {
		return "", errors.New("write https or http")
	}
	return v, nil
}
