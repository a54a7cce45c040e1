#!/bin/sh
# Measures the sidecar beside what a user would pick instead, and writes the tables into docs/performance.md.
# The AWS CLI lives in a virtual environment under .cache, a peer beside it. Arguments go to internal/bench.
set -eu
cd "$(dirname "$0")/../.."

venv=.cache/bench-venv
command -v openssl >/dev/null 2>&1 || {
	echo "bench: openssl not found: install it (Debian and Ubuntu: apt install openssl)" >&2
	exit 1
}
scripts/venv.sh "$venv" scripts/bench/requirements.txt
exec go run ./internal/bench -aws "$PWD/$venv/bin/aws" -write docs/performance.md "$@"
