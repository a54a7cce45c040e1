#!/bin/sh
# Measures the sidecar beside what a user would pick instead, and writes the tables into docs/performance.md.
# The AWS CLI lives in a virtual environment under .cache; so does vals, which fetches half of the Go world when it
# is built for the first time. Arguments go to internal/perf/bench.
set -eu
cd "$(dirname "$0")/../.."

venv=.cache/bench-venv
command -v openssl >/dev/null 2>&1 || {
	echo "bench: openssl not found: install it (Debian and Ubuntu: apt install openssl)" >&2
	exit 1
}
scripts/venv.sh "$venv" scripts/bench/requirements.txt
vals=.cache/bench-vals/vals
[ -x "$vals" ] || GOBIN=$PWD/$(dirname "$vals") CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' github.com/helmfile/vals/cmd/vals@v0.46.1
exec go run ./internal/perf/bench -aws "$PWD/$venv/bin/aws" -vals "$PWD/$vals" -write docs/performance.md "$@"
