#!/bin/sh
# against.sh moto|localstack|fakesnow COMMAND...: runs COMMAND beside an emulator, whose URL is in
# MOTO_ENDPOINT, LOCALSTACK_ENDPOINT or FAKESNOW_ENDPOINT. The server lives in a virtual environment under .cache,
# listens on a free loopback port, and is stopped again in any case. The exit status is COMMAND's.
set -eu
cd "$(dirname "$0")/.."

name=${1:?moto, localstack or fakesnow}
shift
[ "$#" -gt 0 ] || {
	echo "against $name: name a command to run" >&2
	exit 2
}

venv=.cache/$name-venv
log=.cache/$name-server.log

fail() {
	echo "$name: $*" >&2
	exit 1
}

case $name in
moto | localstack) requirements=scripts/against/$name.txt ;;
fakesnow) requirements=scripts/sqlengine/requirements.txt ;;
*) fail "there is no such server here; it is moto, localstack or fakesnow" ;;
esac
scripts/venv.sh "$venv" "$requirements"

port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
endpoint=http://127.0.0.1:$port

# running: whether the server is there.
running() {
	kill -0 "$server" 2>/dev/null
}

server=
stop() {
	[ -n "$server" ] || return 0
	kill "$server" 2>/dev/null || true
	tries=0
	while running && [ "$tries" -lt 100 ]; do
		tries=$((tries + 1))
		sleep 0.2
	done
	kill -9 "$server" 2>/dev/null || true
	wait "$server" 2>/dev/null || true
	server=
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

export PYTHONUNBUFFERED=1
case $name in
moto)
	health=/moto-api/
	"$venv/bin/moto_server" -H 127.0.0.1 -p "$port" >"$log" 2>&1 &
	;;
localstack)
	health=/_localstack/health
	# It fetches nothing, reports nothing, opens no port for DNS, and writes below .cache alone, also in a container.
	env GATEWAY_LISTEN="127.0.0.1:$port" SERVICES=ssm,kms,secretsmanager,sts,iam,cloudformation,resourcegroupstaggingapi \
		EAGER_SERVICE_LOADING=0 DNS_ADDRESS=0 SKIP_SSL_CERT_DOWNLOAD=1 DISABLE_EVENTS=1 OVERRIDE_IN_DOCKER=0 XDG_CACHE_HOME="$PWD/.cache" \
		FILESYSTEM_ROOT="$PWD/.cache/localstack-files" "$venv/bin/python" -m localstack.runtime.main >"$log" 2>&1 &
	;;
fakesnow)
	health=/
	"$venv/bin/fakesnow" --server --port "$port" >"$log" 2>&1 &
	;;
esac
server=$!

# answers: whether the server answers, with any status.
answers() {
	"$venv/bin/python" -c '
import sys, urllib.error, urllib.request
try:
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=10)
except urllib.error.HTTPError:
    pass
' "$endpoint$health" 2>/dev/null
}

began=$(date +%s)
until answers; do
	running || fail "the server did not start: $(cat "$log")"
	[ $(($(date +%s) - began)) -lt 120 ] || fail "the server did not answer in 120 s: $(cat "$log")"
	sleep 0.2
done

package=$name
[ "$name" != localstack ] || package=localstack-core
version='import sys, importlib.metadata; print(importlib.metadata.version(sys.argv[1]))'
echo "$package $("$venv/bin/python" -c "$version" "$package") at $endpoint"
case $name in
moto) export MOTO_ENDPOINT="$endpoint" ;;
localstack) export LOCALSTACK_ENDPOINT="$endpoint" ;;
fakesnow) export FAKESNOW_ENDPOINT="$endpoint" ;;
esac
unset PYTHONUNBUFFERED
"$@"
