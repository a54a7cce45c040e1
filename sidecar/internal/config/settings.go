package config

import (
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// Every setting, once. commands.go and keys.go say which command takes which.
var (
	keyParameter = define(parseParameter, definition{
		flag: "key-parameter", value: "name", hidden: true,
		help: "name or ARN of the key's parameter; `:version` and `:label` are allowed; or a secret of Secrets Manager. Required, unless SNOWKEY_SECRET_KEY or SECRET_KEY is set",
	})
	passphraseParameter = define(parseParameter, definition{
		flag: "passphrase-parameter", value: "name", hidden: true,
		help: "likewise for the key's passphrase; or set PRIVATE_KEY_PASSPHRASE",
	})
	keyList = define(parseKeys, definition{
		flag: "key", variable: "SNOWKEY_KEYS", value: "fields", hidden: true, repeats: true,
		help: "one of several keys, instead: `name=NAME,key-parameter=PARAMETER`, and `passphrase-parameter=`, `user=`, `account=`, `role=`, " +
			"`warehouse=`, `database=`, `schema=`; can be repeated; `SNOWKEY_KEYS` has one a line, or `;` between them",
	})
	dir = define(parseDir, definition{
		flag: "dir", value: "path", preset: keyfile.DefaultDir,
		help: "the directory to publish in: a volume shared with the readers",
	})
	formats = define(parseFormats, definition{
		flag: "formats", value: "list", preset: "der,pem",
		help: "what to write: any of `der`, `pem`, `b64`, `pem.b64`; or `none`, with `--serve`",
	})
	serve = define(parseServe, definition{
		flag: "serve", value: "list",
		help: "formats to serve at sockets, such as `rsa_key.der.sock`: any of `der`, `pem`, `b64`, `pem.b64`. Not for `once`",
	})
	fileMode = define(parseFileMode, definition{
		flag: "file-mode", value: "octal", preset: "0440",
		help: "mode of the key files",
	})
	writeConnections = define(parseBool, definition{
		flag: "connections", preset: "false", value: isSwitch,
		help: "also write `connections.toml` and `config.toml`, so that clients with `SNOWFLAKE_HOME` set to `--dir` connect by name",
	})
	connectionsMode = define(parseConnectionsMode, definition{
		flag: "connections-mode", value: "octal", preset: "0600",
		help: "mode of these two files; `0440` where readers have another uid",
	})
	interval = define(parseDuration(time.Second), definition{
		flag: "interval", value: "duration", preset: "5m",
		help: "time between refreshes, give or take a tenth; while SSM throttles it grows by itself, to twelve hours at most",
	})
	requireTmpfs = define(parseBool, definition{
		flag: "require-tmpfs", preset: "false", value: isSwitch,
		help: "refuse to publish on anything but tmpfs or ramfs",
	})
	metricsAddr = define(parseAddr, definition{
		flag: "metrics-addr", value: "host:port",
		help: "serve `/metrics`, `/livez` and `/readyz` over HTTP at this address; without a host, on loopback. Off by default",
	})
	emf = define(parseDimension, definition{
		flag: "emf", value: "service",
		help: "write metrics for CloudWatch, in its embedded metric format, into the log: a line for each refresh, whose dimension `Service` has this value. Off by default",
	})
	verify = define(parseBool, definition{
		flag: "verify", preset: "false", value: isSwitch,
		help: "log in to Snowflake with a new key before it replaces the published one",
	})
	verifyUnreachable = define(parseUnreachable, definition{
		flag: "verify-unreachable", value: "action", preset: "wait",
		help: "with `--verify`, when Snowflake cannot be reached about the first key: `wait`, or `publish` it all the same",
	})
	onChange = define(parseOnChange, definition{
		flag: "on-change", value: "action", preset: "none",
		help: "`exec`: what to do with CMD at a new key: `none`, `restart`, or a signal to send, such as `SIGHUP`",
	})
	stopTimeout = define(parseDuration(time.Second), definition{
		flag: "stop-timeout", value: "duration", preset: "30s",
		help: "`exec`: for `--on-change restart`, the time from SIGTERM to SIGKILL",
	})
	startTimeout = define(parseDuration(0), definition{
		flag: "start-timeout", value: "duration", preset: "0s",
		help: "`exec`: how long to wait for the first key before giving up; `0s` is for ever",
	})
	asJSON = define(parseBool, definition{
		flag: "json", preset: "false", value: isSwitch,
		help: "print one JSON document instead of lines",
	})
	bits = define(parseBits, definition{
		flag: "bits", value: "number",
		help: "size of the key: `2048`, `3072` or `4096`; if not set 2048, and in `rotate` that of the key before it",
	})
	out = define(parseFile, definition{
		flag: "out", value: "path",
		help: "the file for the encrypted key, which must not exist; if not set `rsa_key.p8`, and with `--put` none",
	})
	publicOut = define(parseFile, definition{
		flag: "public-out", value: "path",
		help: "the file for the public key; if not set it is beside `--out` and ends in `.pub`",
	})
	passphraseFile = define(parseFile, definition{
		flag: "passphrase-file", value: "path",
		help: "the file with the passphrase, instead of PRIVATE_KEY_PASSPHRASE or the terminal; with `--generate-passphrase` the file to write it to",
	})
	generatePassphrase = define(parseBool, definition{
		flag: "generate-passphrase", preset: "false", value: isSwitch,
		help: "make a passphrase; without `--passphrase-file` it goes beside `--out` and ends in `.passphrase`, and with `--put` into its parameter alone",
	})
	put = define(parseBool, definition{
		flag: "put", preset: "false", value: isSwitch,
		help: "store key and passphrase in `--key-parameter` and `--passphrase-parameter`",
	})
	kmsKey = define(anyText, definition{
		flag: "kms-key", value: "id",
		help: "ID, ARN or alias of the KMS key for what `--put` stores; if not set the one that a parameter has, or `alias/aws/ssm`",
	})
	tags = define(parseTags, definition{
		flag: "tag", value: "key=value", repeats: true,
		help: "a tag for what `--put` stores; again for another one, in the variable on a line of its own",
	})
	overwrite = define(parseBool, definition{
		flag: "overwrite", preset: "false", value: isSwitch,
		help: "let `--put` replace the key; a passphrase that is stored already is kept",
	})
	grace = define(parseGrace, definition{
		flag: "grace", value: "duration", preset: "auto",
		help: "how long the old key stays accepted beside the new one; `auto` keeps what an unfinished rotation promised. A new one gets an " +
			"hour, or 12 `--interval` if that is longer; on a terminal, unless SSM throttles the run, 1.1 `--interval` and two minutes",
	})
	noWait = define(parseBool, definition{
		flag: "no-wait", preset: "false", value: isSwitch,
		help: "end as soon as the new key is in use; `--finish` removes the old one later",
	})
	finish = define(parseBool, definition{
		flag: "finish", preset: "false", value: isSwitch,
		help: "start no rotation: complete one that is unfinished, or take back one that was interrupted early",
	})
	forceNew = define(parseBool, definition{
		flag: "force-new", preset: "false", value: isSwitch,
		help: "for a key that has leaked: complete what is unfinished, which may have to wait, and then make a new key in any case",
	})
	revokeOld = define(parseBool, definition{
		flag: "revoke-old", preset: "false", value: isSwitch,
		help: "end the grace period of an earlier run now: tasks that have not followed lose their login",
	})
	maxAge = define(parseAge, definition{
		flag: "max-age", value: "age", preset: "0",
		help: "make no key if the one in use is younger, such as `30d`, so that a schedule can run each day; `0` for one at any age",
	})
	keyPair = define(snowflake.ParseName, definition{
		flag: "key-pair", value: "name",
		help: "the named key pair for the new key, instead of the two slots; added if it does not exist",
	})
	dryRun = define(parseBool, definition{
		flag: "dry-run", preset: "false", value: isSwitch,
		help: "change nothing; print what was found and the plan",
	})
	secretKeyText = define(parseSecret, definition{
		variable: "SNOWKEY_SECRET_KEY", secret: true,
		help: "the key's PEM itself, or the JSON of a managed secret, as ECS `secrets` injects it; nothing is fetched then",
	})
	sharedSecretKey = define(parseSecret, definition{
		variable: sharedSecretKeyName, secret: true,
		help: "likewise, if neither a parameter nor SNOWKEY_SECRET_KEY is set; otherwise it is the application's and left alone",
	})
	passphrase = define(parseSecret, definition{
		variable: "PRIVATE_KEY_PASSPHRASE", secret: true,
		help: "the key's passphrase itself, unless `--passphrase-parameter` or `--key` is set: then it is the application's and left alone",
	})
	account = definition{
		variable: "SNOWFLAKE_ACCOUNT",
		help:     "account identifier, `ORGANIZATION-ACCOUNT`, for `--verify`, `--connections`, `doctor` and `rotate`; if not set, the one in a managed secret or in `SNOWFLAKE_HOST`",
	}
	user = definition{
		variable: "SNOWFLAKE_USER",
		help:     "login name of the user whose key this is, for `--verify`, `--connections` and `doctor`, likewise, `keygen` and `rotate`",
	}
	role = definition{
		variable: "SNOWFLAKE_ROLE",
		help:     "role to log in with, for `--verify`, `--connections`, `doctor` and `rotate`; in upper case unless it is in double quotes; the user's default if not set",
	}
	warehouse = definition{
		variable: "SNOWFLAKE_WAREHOUSE",
		help:     "warehouse for `--connections`; in upper case unless it is in double quotes; the user's default if not set",
	}
	database = definition{
		variable: "SNOWFLAKE_DATABASE",
		help:     "database for `--connections`, likewise",
	}
	schema = definition{
		variable: "SNOWFLAKE_SCHEMA",
		help:     "schema for `--connections`, likewise",
	}
	host = definition{
		variable: "SNOWFLAKE_HOST",
		help:     "host, if it is not ACCOUNT.snowflakecomputing.com",
	}
	port = definition{
		variable: "SNOWFLAKE_PORT",
		help:     "port, if it is not the protocol's own",
	}
	protocol = define(parseProtocol, definition{
		variable: "SNOWFLAKE_PROTOCOL",
		help:     "`https`, or `http` for a local Snowflake",
	})
)
