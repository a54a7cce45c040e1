#!/usr/bin/env bash
# with-engine.sh COMMAND...: run the command with a Docker engine. Where none answers, root's own dockerd
# is started for the time of the command.
set -euo pipefail

answers() {
	docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

command -v docker >/dev/null || {
	echo "there is no docker here; on Debian: apt-get install docker.io docker-compose" >&2
	exit 1
}
if answers; then
	exec "$@"
fi
if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
	echo "no Docker engine answers, and only root can start dockerd (Debian: docker.io): start it first" >&2
	exit 1
fi

log=$(mktemp)
dockerd >"$log" 2>&1 &
engine=$!
stop() {
	kill "$engine" 2>/dev/null || true
	wait "$engine" || true
	rm -f "$log"
}
trap stop EXIT
for _ in $(seq 60); do
	answers && break
	kill -0 "$engine" 2>/dev/null || break
	sleep 1
done
answers || {
	echo "dockerd did not start; its last lines:" >&2
	tail -20 "$log" >&2
	exit 1
}
"$@"
