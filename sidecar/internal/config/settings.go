package config

import (
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// Every setting, once, by topic. commands.go and keys.go say which command takes which. A help is a sentence, or several,
// without the last full stop; text between backquotes is literal.
var (
	keyParameter = define(parseParameter, definition{
		flag: "key-parameter", value: "name", hidden: true, topic: topicKey,
		help: "Name or ARN of the parameter that holds the key; may end in `:VERSION` or `:LABEL`. A secret of Secrets Manager works, too. " +
			"Required, unless `SNOWKEY_SECRET_KEY` or `SECRET_KEY` is set",
	})
	passphraseParameter = define(parseParameter, definition{
		flag: "passphrase-parameter", value: "name", hidden: true, topic: topicKey,
		help: "Name or ARN of the parameter that holds the passphrase; may end in `:VERSION` or `:LABEL`. Or set `PRIVATE_KEY_PASSPHRASE`",
	})
	keyList = define(parseKeys, definition{
		flag: "key", variable: "SNOWKEY_KEYS", value: "fields", hidden: true, repeats: true, topic: topicKey,
		help: "For several keys: `name=NAME,key-parameter=PARAMETER`, and if needed `passphrase-parameter=`, `user=`, `account=`, `role=`, " +
			"`warehouse=`, `database=`, `schema=`. Replaces `--key-parameter`; repeat it for each key. `SNOWKEY_KEYS` has one key per line, " +
			"or `;` between keys",
	})
	secretKeyText = define(parseSecret, definition{
		variable: "SNOWKEY_SECRET_KEY", secret: true, topic: topicKey,
		help: "The key itself, in place of a parameter: its PEM, or the JSON of a managed secret, as ECS `secrets` injects it",
	})
	sharedSecretKey = define(parseSecret, definition{
		variable: sharedSecretKeyName, secret: true, topic: topicKey,
		help: "The same as `SNOWKEY_SECRET_KEY`, used only if neither that nor a parameter is set. Otherwise it is the application's, and left alone",
	})
	passphrase = define(parseSecret, definition{
		variable: "PRIVATE_KEY_PASSPHRASE", secret: true, topic: topicKey,
		help: "The key's passphrase itself. If `--passphrase-parameter` or `--key` is set, it is the application's, and left alone",
	})
	dir = define(parseDir, definition{
		flag: "dir", value: "path", preset: keyfile.DefaultDir, topic: topicFiles,
		help: "Directory to publish the key in: a volume that the readers share",
	})
	formats = define(parseFormats, definition{
		flag: "formats", value: "list", preset: "der,pem", topic: topicFiles, values: formatNames("", " ") + " none",
		help: "Key files to write: any of " + formatNames("`", ", ") + "; or `none`, with `--serve`",
	})
	serve = define(parseServe, definition{
		flag: "serve", value: "list", topic: topicFiles, values: formatNames("", " "),
		help: "Formats to serve from sockets, such as `rsa_key.der.sock`: any of " + formatNames("`", ", "),
	})
	fileMode = define(parseFileMode, definition{
		flag: "file-mode", value: "octal", preset: "0440", topic: topicFiles, values: "0400 0440 0444",
		help: "Mode of the key files",
	})
	writeConnections = define(parseBool, definition{
		flag: "connections", preset: "false", value: isSwitch, topic: topicFiles,
		help: "Also write `connections.toml` and `config.toml`: clients with `SNOWFLAKE_HOME` set to `--dir` then connect by name",
	})
	connectionsMode = define(parseConnectionsMode, definition{
		flag: "connections-mode", value: "octal", preset: "0600", topic: topicFiles, values: "0400 0440 0444 0600",
		help: "Mode of `connections.toml` and `config.toml`; `0440` if their readers have another uid",
	})
	requireTmpfs = define(parseBool, definition{
		flag: "require-tmpfs", preset: "false", value: isSwitch, topic: topicFiles,
		help: "Refuse to publish on anything but tmpfs or ramfs",
	})
	interval = define(parseDuration(time.Second), definition{
		flag: "interval", value: "duration", preset: "5m", topic: topicRefresh,
		help: "How often to check for a new key (±10 %). While SSM throttles, the interval grows by itself, up to 12h",
	})
	verify = define(parseBool, definition{
		flag: "verify", preset: "false", value: isSwitch, topic: topicRefresh,
		help: "Log in to Snowflake with a new key before it replaces the published one",
	})
	verifyUnreachable = define(parseUnreachable, definition{
		flag: "verify-unreachable", value: "action", preset: "wait", topic: topicRefresh, values: "wait publish",
		help: "With `--verify`, if Snowflake is unreachable when the first key comes: `wait`, or `publish` it unverified",
	})
	onChange = define(parseOnChange, definition{
		flag: "on-change", value: "action", preset: "none", topic: topicCommand, values: "none restart SIGHUP SIGUSR1 SIGUSR2",
		help: "What happens to CMD when the key changes: `none`, `restart`, or a signal to send, such as `SIGHUP`",
	})
	stopTimeout = define(parseDuration(time.Second), definition{
		flag: "stop-timeout", value: "duration", preset: "30s", topic: topicCommand,
		help: "With `--on-change restart`, the time from SIGTERM to SIGKILL",
	})
	startTimeout = define(parseDuration(0), definition{
		flag: "start-timeout", value: "duration", preset: "0s", topic: topicCommand,
		help: "Give up if there is no first key after this time; `0s` waits forever",
	})
	metricsAddr = define(parseAddr, definition{
		flag: "metrics-addr", value: "host:port", topic: topicLog,
		help: "Serve `/metrics`, `/livez` and `/readyz` over HTTP at this address; without a host, on loopback. Off if not set",
	})
	emf = define(parseDimension, definition{
		flag: "emf", value: "service", topic: topicLog,
		help: "Write CloudWatch metrics (embedded metric format) into the log, one line for each refresh; the value becomes their dimension " +
			"`Service`. Off if not set",
	})
	logFormat = define(logwriter.ParseFormat, definition{
		flag: "log-format", value: "format", preset: string(logwriter.Auto), topic: topicLog, values: "auto text json",
		help: "Format of the log: `auto`, `text` or `json`. `auto` is text on a terminal and JSON elsewhere; with `--emf` it is always JSON",
	})
	asJSON = define(parseBool, definition{
		flag: "json", preset: "false", value: isSwitch, topic: topicOutput,
		help: "Print one JSON document instead of text",
	})
	bits = define(parseBits, definition{
		flag: "bits", value: "number", topic: topicNewKey, values: "2048 3072 4096",
		help: "Size of the new key: `2048`, `3072` or `4096`. Default: 2048; for `rotate`, the size of the old key",
	})
	out = define(parseFile, definition{
		flag: "out", value: "path", topic: topicNewKey,
		help: "File for the encrypted key, which must not exist. Default: `rsa_key.p8`, or no file with `--put`",
	})
	publicOut = define(parseFile, definition{
		flag: "public-out", value: "path", topic: topicNewKey,
		help: "File for the public key. Default: beside `--out`, ending in `.pub`",
	})
	passphraseFile = define(parseFile, definition{
		flag: "passphrase-file", value: "path", topic: topicNewKey,
		help: "File to read the passphrase from, in place of `PRIVATE_KEY_PASSPHRASE` or the terminal. With `--generate-passphrase`: the file to write it to",
	})
	generatePassphrase = define(parseBool, definition{
		flag: "generate-passphrase", preset: "false", value: isSwitch, topic: topicNewKey,
		help: "Generate the passphrase. It goes to `--passphrase-file`, or beside `--out`, ending in `.passphrase`; with `--put`, only into its parameter",
	})
	put = define(parseBool, definition{
		flag: "put", preset: "false", value: isSwitch, topic: topicStore,
		help: "Store the key in `--key-parameter` and its passphrase in `--passphrase-parameter`",
	})
	kmsKey = define(anyText, definition{
		flag: "kms-key", value: "id", topic: topicStore,
		help: "ID, ARN or alias of the KMS key that encrypts what `--put` stores. Default: the one that the parameter has, or `alias/aws/ssm`",
	})
	tags = define(parseTags, definition{
		flag: "tag", value: "key=value", repeats: true, topic: topicStore,
		help: "Tag for the parameters that `--put` creates; repeat it for each tag. `SNOWKEY_TAG` has one tag per line",
	})
	overwrite = define(parseBool, definition{
		flag: "overwrite", preset: "false", value: isSwitch, topic: topicStore,
		help: "Let `--put` replace the key. A passphrase that is already stored is kept",
	})
	grace = define(parseGrace, definition{
		flag: "grace", value: "duration", preset: "auto", topic: topicRotation, values: "auto",
		help: "How long Snowflake accepts the old key beside the new one. `auto`: 1h, or 12 × `--interval` if that is longer; on a terminal, " +
			"1.1 × `--interval` + 2m, unless SSM throttles this run. An unfinished rotation keeps the time that it was given",
	})
	noWait = define(parseBool, definition{
		flag: "no-wait", preset: "false", value: isSwitch, topic: topicRotation,
		help: "End as soon as the new key is in use. Remove the old one later with `--finish`",
	})
	finish = define(parseBool, definition{
		flag: "finish", preset: "false", value: isSwitch, topic: topicRotation,
		help: "Don't start a rotation: complete the last one, or undo it if it was interrupted early",
	})
	forceNew = define(parseBool, definition{
		flag: "force-new", preset: "false", value: isSwitch, topic: topicRotation,
		help: "For a leaked key: make a new key in any case. An unfinished rotation is completed first, which can take its grace period",
	})
	revokeOld = define(parseBool, definition{
		flag: "revoke-old", preset: "false", value: isSwitch, topic: topicRotation,
		help: "With `--finish` or `--force-new`: end the grace period of an earlier run now. Tasks that still use its old key can no longer log in. " +
			"The key that this run itself replaces keeps its grace period",
	})
	maxAge = define(parseAge, definition{
		flag: "max-age", value: "age", preset: "0", topic: topicRotation,
		help: "Make a key only if the one in use is older than this, such as `30d`, so that a schedule can run every day. `0`: at any age",
	})
	keyPair = define(snowflake.ParseName, definition{
		flag: "key-pair", value: "name", topic: topicRotation,
		help: "Named key pair for the new key, in place of the user's two slots. It is added if it does not exist",
	})
	dryRun = define(parseBool, definition{
		flag: "dry-run", preset: "false", value: isSwitch, topic: topicRotation,
		help: "Change nothing: print what was found, and the plan",
	})
	account = definition{
		variable: "SNOWFLAKE_ACCOUNT", topic: topicSnowflake,
		help: "Account identifier, `ORGANIZATION-ACCOUNT`, for `--verify`, `--connections`, `doctor` and `rotate`. " +
			"Default: the account in a managed secret or in `SNOWFLAKE_HOST`",
	}
	user = definition{
		variable: "SNOWFLAKE_USER", topic: topicSnowflake,
		help: "Login name of the key's user, for `--verify`, `--connections`, `doctor`, `keygen` and `rotate`. " +
			"Default, but for `keygen` and `rotate`: the user in a managed secret",
	}
	role = definition{
		variable: "SNOWFLAKE_ROLE", topic: topicSnowflake,
		help: "Role to log in with, for `--verify`, `--connections`, `doctor` and `rotate`; upper-cased, unless in double quotes. Default: the user's own",
	}
	host = definition{
		variable: "SNOWFLAKE_HOST", topic: topicSnowflake,
		help: "Host, if it is not `ACCOUNT.snowflakecomputing.com`",
	}
	port = definition{
		variable: "SNOWFLAKE_PORT", topic: topicSnowflake,
		help: "Port, if it is not the protocol's own",
	}
	protocol = define(parseProtocol, definition{
		variable: "SNOWFLAKE_PROTOCOL", topic: topicSnowflake,
		help: "`https`, or `http` for a local Snowflake. Default: `https`",
	})
	warehouse = definition{
		variable: "SNOWFLAKE_WAREHOUSE", topic: topicSnowflake,
		help: "Warehouse for `--connections`; upper-cased, unless in double quotes. Default: the user's own",
	}
	database = definition{
		variable: "SNOWFLAKE_DATABASE", topic: topicSnowflake,
		help: "Database for `--connections`; upper-cased, unless in double quotes. Default: the user's own",
	}
	schema = definition{
		variable: "SNOWFLAKE_SCHEMA", topic: topicSnowflake,
		help: "Schema for `--connections`; upper-cased, unless in double quotes. Default: the user's own",
	}
)
