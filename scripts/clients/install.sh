#!/bin/sh
# Copies examples/clients to .cache/clients, as a person would copy a program, and installs there what
# each of them pins, by its own package manager; and the SQL engine with what its tests need. What is installed already
# is left alone.
set -eu
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3}
into=$PWD/.cache/clients

fail() {
	echo "clients: $*" >&2
	exit 1
}

# works COMMAND ADVICE
works() {
	sh -c "$1" >/dev/null 2>&1 || fail "\`$1\` fails: install $2"
}
works "$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'" \
	"Python 3.11 or newer with venv (Debian and Ubuntu: apt install python3 python3-venv), or name another in PYTHON"
works "node -e 'process.exit(+(parseInt(process.versions.node) < 20))'" "Node 20 or newer"
works "npm --version" "npm"
works "javac --release 17 -version" "a JDK, 17 or newer (Debian and Ubuntu: apt install default-jdk-headless)"
works "mvn --version" "Maven (Debian and Ubuntu: apt install maven)"

mkdir -p "$into"
cp -R examples/clients/. scripts/sqlengine internal/clients/testdata/pandas "$into"

# unless_installed PINS COMMAND...: run the command in the folder of the file with the pins. A copy of
# that file says that it was done; it is written last.
unless_installed() {
	folder=$into/$(dirname "$1")
	pins=$(basename "$1")
	shift
	cmp -s "$folder/$pins" "$folder/.installed" && return
	echo "clients: installing into .cache/clients/${folder#"$into"/}"
	(cd "$folder" && "$@") || fail "$* failed in $folder"
	cp "$folder/$pins" "$folder/.installed"
}

virtual_environment() {
	"$python" -m venv --clear venv
	venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
}

unless_installed python/requirements.txt virtual_environment
unless_installed dbt/requirements.txt virtual_environment
unless_installed snow/requirements.txt virtual_environment
unless_installed sqlengine/requirements.txt virtual_environment
unless_installed pandas/requirements.txt virtual_environment
unless_installed node/package-lock.json npm ci --silent
(cd "$into/java" && mvn --quiet --batch-mode -Dstyle.color=never package) || fail "mvn package failed in $into/java"
