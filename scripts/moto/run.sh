#!/bin/sh
# Runs the SSM conformance cases against moto's server as well, and all tests of any further packages
# given as arguments; both find moto in MOTO_ENDPOINT. moto lives in a virtual environment under .cache and listens on a
# free loopback port; it is stopped again whatever happens. The exit status is go test's.
set -eu
cd "$(dirname "$0")/../.."

venv=.cache/moto-venv
log=.cache/moto-server.log

fail() {
	echo "moto: $*" >&2
	exit 1
}

scripts/venv.sh "$venv" scripts/moto/requirements.txt

server=
stop() {
	[ -n "$server" ] || return 0
	kill "$server" 2>/dev/null || true
	wait "$server" 2>/dev/null || true
	server=
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Port 0 is any free port; the server says which one it got.
PYTHONUNBUFFERED=1 "$venv/bin/moto_server" -H 127.0.0.1 -p 0 >"$log" 2>&1 &
server=$!

endpoint=
tries=0
while [ -z "$endpoint" ]; do
	kill -0 "$server" 2>/dev/null || fail "moto_server did not start: $(cat "$log")"
	tries=$((tries + 1))
	[ "$tries" -le 300 ] || fail "moto_server did not answer in 60 s: $(cat "$log")"
	sleep 0.2
	endpoint=$(sed -n 's|.*Running on \(http://127\.0\.0\.1:[0-9][0-9]*\).*|\1|p' "$log" | head -n 1)
done
"$venv/bin/python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/moto-api/", timeout=30)' "$endpoint" ||
	fail "moto_server does not answer at $endpoint: $(cat "$log")"

echo "moto: $("$venv/bin/python" -c 'import moto; print(moto.__version__)') at $endpoint"
export MOTO_ENDPOINT="$endpoint"
status=0
go test -count=1 -run Conformance -v ./internal/localssm || status=$?
if [ "$#" -gt 0 ]; then
	go test -count=1 -v "$@" || status=$?
fi
exit "$status"
