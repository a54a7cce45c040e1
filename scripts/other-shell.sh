#!/usr/bin/env bash
# other-shell.sh [-l] COMMAND...: run COMMAND in the shell of a user who works with AWS and Snowflake, behind a proxy,
# far away, below nohup, and without a network where root runs it. TMPDIR has a space, or with -l 90 characters, in
# whose place tests take another. None of this may change the result of a test.
set -euo pipefail

long=
[ "$1" != -l ] || { long=yes && shift; }

# Go's own directories, which are below the home directory otherwise.
GOPATH=$(go env GOPATH) GOMODCACHE=$(go env GOMODCACHE) GOCACHE=$(go env GOCACHE)
export GOPATH GOMODCACHE GOCACHE

# Modules, and the toolchain that scripts/build.sh takes, come before the proxy that does not answer.
go mod download
GOTOOLCHAIN=$(sed -n 's/^toolchain //p' go.mod) go version >/dev/null

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
mkdir -p "$home/.aws" "$home/.snowflake"
printf '[profile work]\nregion = eu-north-1\nendpoint_url = http://127.0.0.1:9\n' >"$home/.aws/config"
printf '[work]\naws_access_key_id = AKIDOFHOME\naws_secret_access_key = secret\n' >"$home/.aws/credentials"
printf '[default]\naccount = "home"\nuser = "home"\n' >"$home/.snowflake/connections.toml"
chmod 600 "$home/.snowflake/connections.toml"
temporary="$home/a b"
[ -z "$long" ] || temporary=$(printf '%s/%090d' "$home" 0 | cut -c 1-90)
mkdir "$temporary"

export HOME=$home TMPDIR=$temporary
export AWS_REGION=eu-west-1 AWS_DEFAULT_REGION=eu-central-1 AWS_PROFILE=work AWS_ENDPOINT_URL=http://127.0.0.1:9 \
	AWS_ACCESS_KEY_ID=AKIDOFSHELL AWS_SECRET_ACCESS_KEY=secret AWS_SESSION_TOKEN=token AWS_CA_BUNDLE=/nowhere
export SNOWFLAKE_ACCOUNT=myorg-prod SNOWFLAKE_USER=me SNOWFLAKE_ROLE=sysadmin SNOWFLAKE_HOST=snowflake.invalid SNOWFLAKE_HOME=/nowhere
export SNOWKEY_DIR=/nowhere SNOWKEY_INTERVAL=1h SNOWKEY_KEY_PARAMETER=/other/key SNOWKEY_NO_SUCH_SETTING=1
export SECRET_KEY=of-django PRIVATE_KEY_PASSPHRASE=of-nothing
export HTTP_PROXY=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9
export ALL_PROXY=socks5://127.0.0.1:9 NO_PROXY=example.com
export TZ=Asia/Kolkata LANG=de_DE.UTF-8
umask 077
trap '' HUP # as nohup does

# Tests drop the proxy, so that only a network namespace keeps them from a network. It has a loopback interface alone.
loopback='ip link set lo up 2>/dev/null || busybox ip link set lo up'
if unshare --net sh -c "$loopback" 2>/dev/null; then
	unshare --net sh -c "{ $loopback; } && exec \"\$@\"" sh "$@"
else
	echo "other-shell: the network stays: that takes root, unshare, and ip or busybox" >&2
	"$@"
fi
