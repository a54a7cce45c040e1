package main

import (
	"maps"
	"net/url"
	"strings"
	"testing"
)

type (
	env      = map[string]string
	commands = []string
)

var (
	both    = commands{"once", "run"}
	running = commands{"run"} // of settings that `once` has no use for
)

// What is wrong with settings alone. A value that is the name of a file in testdata stands for its
// content: a secret in the wrong place, which no message may repeat.
var badSettings = []struct {
	name string
	of   commands
	args []string
	env  env
	says []string
}{
	{"an unknown variable", both, nil, env{"SNOWKEY_INTERVALL": "5m"},
		[]string{"SNOWKEY_INTERVALL: no such setting", "did you mean SNOWKEY_INTERVAL?"}},
	{"the passphrase in a variable of our own", both, nil, env{"SNOWKEY_PASSPHRASE": passphrase},
		[]string{"SNOWKEY_PASSPHRASE: no such setting", "did you mean PRIVATE_KEY_PASSPHRASE?"}},
	{"a variable that is nearly the key's", both, nil, env{"SNOWKEY_SECRETKEY": oldKey},
		[]string{"SNOWKEY_SECRETKEY: no such setting", "did you mean SNOWKEY_SECRET_KEY?"}},
	{"an unknown flag", both, []string{"--intervall=5m"}, nil,
		[]string{"no such flag: --intervall", "--help lists the flags"}},
	{"the passphrase in a flag", both, []string{"--passphrase=" + passphrase}, nil,
		[]string{"no such flag: --passphrase", "--help lists the flags"}},
	{"the passphrase in a short flag", both, []string{"-p" + passphrase}, nil,
		[]string{"no such flag", "--help lists the flags"}},
	{"the passphrase as an argument", both, []string{passphrase}, nil,
		[]string{"takes no arguments", "--help"}},
	{"a flag without its value", running, []string{"--interval"}, nil,
		[]string{"--interval needs a value"}},
	{"a flag of another command", commands{"once"}, []string{"--interval=5m"}, nil,
		[]string{"no such flag: --interval", "--help lists the flags"}},
	{"a key that is set to nothing", both, nil, env{"SNOWKEY_SECRET_KEY": ""},
		[]string{"SNOWKEY_SECRET_KEY: set, but to nothing", "unset it"}},
	{"the only key is set to nothing", both, nil, env{"SECRET_KEY": "", "SNOWKEY_KEY_PARAMETER": "", "SNOWKEY_PASSPHRASE_PARAMETER": ""},
		[]string{"SECRET_KEY: set, but to nothing", "unset it"}},
	{"an application's secret and no parameter", both, nil, env{"SECRET_KEY": notAKey, "SNOWKEY_KEY_PARAMETER": "", "SNOWKEY_PASSPHRASE_PARAMETER": ""},
		[]string{"SECRET_KEY is taken for the key's text", "SNOWKEY_KEY_PARAMETER", "SNOWKEY_SECRET_KEY", "left alone"}},
	{"an argument", both, []string{"now"}, nil,
		[]string{"takes no arguments", "--help"}},

	{"an account that is none", both, nil, env{"SNOWFLAKE_ACCOUNT": "my org"},
		[]string{`SNOWFLAKE_ACCOUNT="my org"`, "write the account's identifier: ORGANIZATION-ACCOUNT"}},
	{"a host for the account", both, nil, env{"SNOWFLAKE_ACCOUNT": "https://snowflake.corp.example"},
		[]string{`SNOWFLAKE_ACCOUNT="https://snowflake.corp.example"`, "SNOWFLAKE_HOST"}},
	{"the passphrase in the account", both, nil, env{"SNOWFLAKE_ACCOUNT": "etl:" + passphrase + "@myorg-acct"},
		[]string{"SNOWFLAKE_ACCOUNT: it has an @", "write the account's identifier"}},
	{"the passphrase in an address of JDBC that is wrong", both, nil, env{"SNOWFLAKE_ACCOUNT": "jdbc:snowflake://my org/?private_key_pwd=" + url.PathEscape(passphrase)},
		[]string{"SNOWFLAKE_ACCOUNT: write the account's identifier"}},
	{"the key for the account", both, nil, env{"SNOWFLAKE_ACCOUNT": oldKey},
		[]string{"SNOWFLAKE_ACCOUNT: it is too long, or has a line break"}},
	{"a password in Snowflake's host", both, nil, env{"SNOWFLAKE_HOST": "user:" + passphrase + "@127.0.0.1"},
		[]string{"SNOWFLAKE_HOST: it has an @", "write the host's name alone"}},
	{"http:// in Snowflake's host", both, nil, env{"SNOWFLAKE_HOST": "http://127.0.0.1"},
		[]string{`SNOWFLAKE_HOST="http://127.0.0.1"`, "set the protocol"}},
	{"a port that is none", both, nil, env{"SNOWFLAKE_PORT": "0"},
		[]string{`SNOWFLAKE_PORT="0"`, "from 1 to 65535"}},
	{"two ports", both, nil, env{"SNOWFLAKE_HOST": "127.0.0.1:8443", "SNOWFLAKE_PORT": "443"},
		[]string{`SNOWFLAKE_PORT="443"`, "SNOWFLAKE_HOST has port 8443"}},
	{"a user of two lines", both, nil, env{"SNOWFLAKE_USER": "etl\nother"},
		[]string{"SNOWFLAKE_USER: write the user's LOGIN_NAME on one line"}},
	{"a role of two lines", both, nil, env{"SNOWFLAKE_ROLE": "loader\nother"},
		[]string{"SNOWFLAKE_ROLE: write a name of at most 255 characters on one line"}},
	{"an account that is none, of one of several keys", both, nil, env{"SNOWKEY_KEYS": "name=etl,key-parameter=/k,account=my org"},
		[]string{"key 1: account=: write the account's identifier"}},

	{"a duration without a unit", running, []string{"--interval=5"}, nil,
		[]string{`--interval="5"`, "30s or 5m"}},
	{"a duration in words", running, nil, env{"SNOWKEY_INTERVAL": "five minutes"},
		[]string{`SNOWKEY_INTERVAL="five minutes"`, "30s or 5m"}},
	{"an empty duration", running, nil, env{"SNOWKEY_INTERVAL": ""},
		[]string{`SNOWKEY_INTERVAL=""`, "30s or 5m"}},
	{"a duration that would never end", running, []string{"--interval=0s"}, nil,
		[]string{`--interval="0s"`, "the shortest is 1s"}},
	{"a negative duration", running, []string{"--interval=-5m"}, nil,
		[]string{`--interval="-5m"`, "the shortest is 1s"}},
	{"a format that is none", both, []string{"--formats=der,p12"}, nil,
		[]string{`no such format "p12"`, "der, pem, b64, pem.b64"}},
	{"a mode that is no mode", both, []string{"--file-mode=rw-r-----"}, nil,
		[]string{`--file-mode="rw-r-----"`, "in octal, such as 0440"}},
	{"a mode that lets others write", both, []string{"--file-mode=0666"}, nil,
		[]string{`--file-mode="0666"`, "0400, 0440 or 0444"}},
	{"no directory", both, []string{"--dir="}, nil,
		[]string{`--dir=""`, "name a directory"}},
	{"neither true nor false", both, nil, env{"SNOWKEY_REQUIRE_TMPFS": "maybe"},
		[]string{`SNOWKEY_REQUIRE_TMPFS="maybe"`, "true or false"}},
	{"an address without a port", running, []string{"--metrics-addr=localhost"}, nil,
		[]string{`--metrics-addr="localhost"`, "HOST:PORT"}},
	{"a port that is none", both, nil, env{"SNOWFLAKE_PORT": "https"},
		[]string{`SNOWFLAKE_PORT="https"`, "a number up to 65535"}},
	{"no encryption on the way to Snowflake", both, nil, env{"SNOWFLAKE_PROTOCOL": "http", "SNOWFLAKE_HOST": ""},
		[]string{"SNOWFLAKE_PROTOCOL: http is for a local Snowflake", "name the local host"}},
	{"no encryption on the way to Snowflake's host", both, nil, env{"SNOWFLAKE_PROTOCOL": "http", "SNOWFLAKE_HOST": "acct.SnowflakeComputing.com:80"},
		[]string{"SNOWFLAKE_PROTOCOL: http is for a local Snowflake"}},
	{"a protocol that is none", both, nil, env{"SNOWFLAKE_PROTOCOL": "ftp"},
		[]string{`SNOWFLAKE_PROTOCOL="ftp"`, "https or http"}},

	{"a name that is none", both, []string{"--key-parameter=app/key"}, nil,
		[]string{"--key-parameter", "begins with /"}},
	{"an ARN of something else", both, []string{"--key-parameter=arn:aws:s3:::bucket"}, nil,
		[]string{"--key-parameter", "arn:aws:ssm:REGION:ACCOUNT:parameter/NAME"}},
	{"two selectors", both, []string{"--key-parameter=/app/key:1:blue"}, nil,
		[]string{"--key-parameter", "version", "label"}},
	{"the PEM for the name of its parameter, as ECS secrets would", both, nil, env{"SNOWKEY_KEY_PARAMETER": oldKey},
		[]string{"SNOWKEY_KEY_PARAMETER", "name"}},
	{"a PEM with colons for the name of its parameter", both, nil, env{"SNOWKEY_KEY_PARAMETER": "internal/decrypt/testdata/traditional-encryption"},
		[]string{"SNOWKEY_KEY_PARAMETER", "name"}},
	{"the passphrase for the name of its parameter", both, nil, env{"SNOWKEY_PASSPHRASE_PARAMETER": passphrase},
		[]string{"SNOWKEY_PASSPHRASE_PARAMETER", "name"}},
	{"a passphrase with a colon for the name of its parameter", both, nil, env{"SNOWKEY_PASSPHRASE_PARAMETER": "a:" + passphrase},
		[]string{"SNOWKEY_PASSPHRASE_PARAMETER", "name"}},

	{"the PEM for the keys", both, nil, env{"SNOWKEY_KEYS": oldKey, "SNOWKEY_KEY_PARAMETER": "", "SNOWKEY_PASSPHRASE_PARAMETER": ""},
		[]string{"SNOWKEY_KEYS: key 1: write name=NAME,key-parameter=PARAMETER"}},
	{"a passphrase among the keys", both, []string{"--key=name=etl,key-parameter=/etl/key,passphrase=" + passphrase, "--key-parameter=", "--passphrase-parameter="}, nil,
		[]string{"--key: key 1: write name=NAME", "passphrase-parameter="}},
	{"one key beside several", both, []string{"--key=name=etl,key-parameter=/etl/key"}, nil,
		[]string{"--key (SNOWKEY_KEYS) stands alone", "--key-parameter", "or drop --key"}},
	{"two keys of one name", both, nil, env{"SNOWKEY_KEYS": "name=a,key-parameter=/a\nname=A,key-parameter=/b", "SNOWKEY_KEY_PARAMETER": "", "SNOWKEY_PASSPHRASE_PARAMETER": ""},
		[]string{"SNOWKEY_KEYS: key 2:", "a key named A already", "its own name"}},

	{"no key", both, []string{"--key-parameter="}, nil,
		[]string{"no key", "--key-parameter", "SNOWKEY_KEY_PARAMETER", "SECRET_KEY"}},
	{"two keys", both, nil, env{"SNOWKEY_SECRET_KEY": oldKey, "SNOWKEY_PASSPHRASE_PARAMETER": ""},
		[]string{"both --key-parameter and SNOWKEY_SECRET_KEY are set", "keep one"}},
	{"a key from here and its passphrase from there", both, nil, env{"SECRET_KEY": oldKey, "SNOWKEY_KEY_PARAMETER": ""},
		[]string{"can't be combined with SECRET_KEY: set PRIVATE_KEY_PASSPHRASE"}},
	{"one parameter for both", both, []string{"--passphrase-parameter=/app/key"}, nil,
		[]string{"are the same", "store the two apart"}},
	{"a login without an account", both, []string{"--verify"}, nil,
		[]string{"--verify", "SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER"}},
	{"connections without an account", both, []string{"--connections"}, nil,
		[]string{"--connections needs an account and a user", "set SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER"}},
	{"connections without the PEM", both, []string{"--connections", "--formats=der,pem.b64"}, env{"SNOWFLAKE_ACCOUNT": "o-a", "SNOWFLAKE_USER": "SVC"},
		[]string{"--connections names the PEM file", "add pem to --formats"}},
	{"a connection of a user with a quotation mark", both, []string{"--connections"}, env{"SNOWFLAKE_ACCOUNT": "o-a", "SNOWFLAKE_USER": `SVC" ` + notAKey},
		[]string{"SNOWFLAKE_USER: --connections writes no quotation mark", "leave --connections out"}},
	{"a connection of a warehouse with a quotation mark", both, []string{"--connections"}, env{"SNOWFLAKE_ACCOUNT": "o-a", "SNOWFLAKE_USER": "SVC", "SNOWFLAKE_WAREHOUSE": `"W""H ` + notAKey + `"`},
		[]string{"SNOWFLAKE_WAREHOUSE: --connections writes no quotation mark"}},
	{"a database of two lines", both, []string{"--connections"}, env{"SNOWFLAKE_ACCOUNT": "o-a", "SNOWFLAKE_USER": "SVC", "SNOWFLAKE_DATABASE": "db\nother"},
		[]string{"SNOWFLAKE_DATABASE: write a name of at most 255 characters on one line"}},
	{"a schema with a control character", both, []string{"--connections"}, env{"SNOWFLAKE_ACCOUNT": "o-a", "SNOWFLAKE_USER": "SVC", "SNOWFLAKE_SCHEMA": "s\x1b[0m"},
		[]string{"SNOWFLAKE_SCHEMA", "write a name of at most 255 characters on one line"}},
	{"a directory with a quotation mark for connections", both, []string{"--connections", `--dir=/run/a"b`}, env{"SNOWFLAKE_ACCOUNT": "o-a", "SNOWFLAKE_USER": "SVC"},
		[]string{"--dir: --connections writes no quotation mark"}},
	{"a connection of one of several keys without a user", both, []string{"--connections"}, env{"SNOWKEY_KEYS": "name=etl,key-parameter=/k,account=o-a", "SNOWKEY_KEY_PARAMETER": "", "SNOWKEY_PASSPHRASE_PARAMETER": ""},
		[]string{"set account= and user= of key etl, or SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER"}},
	{"a connection with a quotation mark of one of several keys", both, []string{"--connections"}, env{"SNOWKEY_KEYS": `name=etl,key-parameter=/k,account=o-a,user=U,schema=a"b`, "SNOWKEY_KEY_PARAMETER": "", "SNOWKEY_PASSPHRASE_PARAMETER": ""},
		[]string{"schema= of key etl, or SNOWFLAKE_SCHEMA: --connections writes no quotation mark"}},
	{"a key named default that is not the first", both, []string{"--connections"}, env{"SNOWKEY_KEYS": "name=etl,key-parameter=/k;name=default,key-parameter=/d", "SNOWFLAKE_ACCOUNT": "o-a", "SNOWFLAKE_USER": "U", "SNOWKEY_KEY_PARAMETER": "", "SNOWKEY_PASSPHRASE_PARAMETER": ""},
		[]string{"the first key is the default, and another one is named default", "write it first"}},
	{"a mode of connections that lets others write", both, []string{"--connections-mode=0660"}, nil,
		[]string{`--connections-mode="0660"`, "0600 or 0400"}},
	{"a mode of connections that is no mode", both, []string{"--connections-mode=rw"}, nil,
		[]string{`--connections-mode="rw"`, "in octal, such as 0600"}},

	{"no region", both, nil, env{"AWS_REGION": ""},
		[]string{"no AWS region", "AWS_REGION", "ARN"}},
	{"a setting of AWS that is wrong", both, nil, env{"AWS_RETRY_MODE": "eager"},
		[]string{"AWS settings", "AWS_RETRY_MODE"}},

	{"an availability zone for the Region", both, nil, env{"AWS_REGION": "eu-west-1a"},
		[]string{"AWS_REGION is not a Region as AWS writes it", "write eu-west-1"}},
	{"an endpoint without a scheme", both, nil, env{"AWS_ENDPOINT_URL_SSM": "localhost:4566"},
		[]string{"AWS_ENDPOINT_URL_SSM is not the address of an endpoint", "write https://HOST or http://HOST:PORT"}},
	{"a password in an endpoint", both, nil, env{"AWS_ENDPOINT_URL_SSM": "https://user:hunter2@localhost"},
		[]string{"AWS_ENDPOINT_URL_SSM has a user or a password in it", "write https://HOST without them"}},
	{"a proxy that is none", both, nil, env{"HTTPS_PROXY": "http://user:" + passphrase + "/@proxy.corp:3128"},
		[]string{"HTTPS_PROXY is not the address of a proxy", "write http://HOST:PORT"}},
	{"a bundle that is not there", both, nil, env{"AWS_CA_BUNDLE": "/nonexistent/" + passphrase},
		[]string{"AWS_CA_BUNDLE: no such file or directory", "name a PEM file"}},

	{"all that is wrong at once", running, []string{"--interval=soon", "--file-mode=777", "--key-parameter="}, env{"SNOWKEY_DIRECTORY": "/x", "SNOWKEY_FORMATS": "jks"},
		[]string{"5 settings are wrong:", "SNOWKEY_DIRECTORY", "did you mean SNOWKEY_DIR?", "--interval", "--file-mode", "SNOWKEY_FORMATS", "no key"}},
}

func TestSettings_WrongOnesAreUsageErrorsAndLeaveTheKey(t *testing.T) {
	t.Parallel()
	for _, bad := range badSettings {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.publish()
			before, calls := k.snapshot(), len(k.ssm.Calls())

			maps.Copy(k.env, bad.env)
			for name, value := range bad.env {
				if strings.Contains(value, "testdata/") {
					k.env[name] = content(t, value)
				}
			}
			for _, command := range bad.of {
				p := k.do(append([]string{command}, bad.args...)...)
				p.want(exitUsage, bad.says...)
				if out := p.stdout.String(); out != "" {
					t.Errorf("stdout is for results, and has %q", out)
				}
				if said := p.stderr.String(); !strings.HasPrefix(said, "sidecar: ") {
					t.Errorf("no prefix: %q", said)
				}
			}
			k.untouched(before)
			if n := len(k.ssm.Calls()) - calls; n != 0 {
				t.Errorf("%d calls to SSM with settings that are wrong", n)
			}
		})
	}
}

func TestSettings_UnknownCommandIsAUsageError(t *testing.T) {
	t.Parallel()
	newTask(t).do("ones").want(exitUsage, "did you mean sidecar once", "sidecar --help")
}

// The help of a command that logs in, or takes a passphrase, says by which variables.
func TestHelp_NamesTheVariables(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"doctor", "keygen", "rotate"} {
		newTask(t).do(command, "--help").want(exitDone, "PRIVATE_KEY_PASSPHRASE", "SNOWFLAKE_USER")
	}
}

func TestHelp_GoesToStdout(t *testing.T) {
	t.Parallel()
	help := newTask(t).do("--help")
	help.want(exitDone, "run ", "once ", "healthcheck ", "--key-parameter", "Examples:")
	if said := help.stderr.String(); said != "" {
		t.Errorf("stderr has %q", said)
	}
}
