#!/bin/sh
# Draws docs/dashboards/grafana.svg: the panels of grafana.json as a real Prometheus answers their queries,
# after it has scraped two real sidecars through rotations, an outage and a key that is none. It fails when a
# query is not valid, or has no data. Takes three minutes; needs Go, Python 3.10 with venv, and prometheus
# (Debian and Ubuntu: apt install prometheus).
set -eu
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3}
work=.cache/dashboard
requirements=scripts/dashboard/requirements.txt

fail() {
	echo "dashboard: $*" >&2
	exit 1
}

command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1 ||
	fail "prometheus and promtool not found (Debian and Ubuntu: apt install prometheus)"
"$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
	fail "$python is older than 3.10, has no venv, or is not there (Debian and Ubuntu: apt install python3 python3-venv), or name another in PYTHON"

mkdir -p "$work"
# The copy of the pins says that everything was installed; it is written last.
if ! cmp -s "$requirements" "$work/venv/requirements.txt"; then
	echo "dashboard: installing into $work/venv"
	"$python" -m venv --clear "$work/venv"
	"$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" || fail "pip could not install $requirements"
	cp "$requirements" "$work/venv/requirements.txt"
fi
CGO_ENABLED=0 GOEXPERIMENT=runtimesecret go build -o "$work/" ./sidecar ./internal/local/localcloud
exec "$work/venv/bin/python" scripts/dashboard/picture.py "$work" docs/dashboards/grafana.json docs/dashboards/grafana.svg
