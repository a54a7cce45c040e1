#!/bin/sh
# install.sh [all]
# Copies each directory of examples/clients to .cache/clients, as a person would copy a program, and installs there what it pins,
# by its own package manager. Likewise the SQL engine, and versions that only tests need. Leaves alone what is installed.
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

# on_request: the directories of clients that take long, which only `install.sh all` installs.
on_request="airflow rust"

# unless_installed PINS COMMAND...: run the command in the directory, unless a copy of the file with the pins says that it was
# done. The copy is written last.
unless_installed() {
	pins=$1
	shift
	cmp -s "$pins" .installed && return
	echo "clients: installing into .cache/clients/${PWD#"$into"/}"
	"$@" || fail "$* failed in $PWD"
	cp "$pins" .installed
}

virtual_environment() {
	"$python" -m venv --clear venv
	venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
}

# install DIRECTORY: copy it, and install what its pins say, by the package manager that they are for.
install() {
	mkdir -p "$into/$(basename "$1")"
	cp -R "$1/." "$into/$(basename "$1")"
	cd "$into/$(basename "$1")"
	[ ! -e requirements.txt ] || unless_installed requirements.txt virtual_environment
	[ ! -e package-lock.json ] || unless_installed package-lock.json npm ci --silent
	[ ! -e Cargo.lock ] || unless_installed Cargo.lock cargo build --quiet --locked
	[ ! -e pom.xml ] || mvn --quiet --batch-mode -Dstyle.color=never clean package || fail "mvn clean package failed in $PWD"
}

without_cargo=
if [ "${1:-}" = all ] && ! cargo --version >/dev/null 2>&1; then
	echo "clients: the Rust client is left out: install Rust 1.85 or newer" >&2
	without_cargo=rust
fi

for directory in scripts/sqlengine examples/clients/*/ internal/suite/clients/testdata/installed/*/; do
	case " $on_request " in
	*" $(basename "$directory") "*) [ "${1:-}" = all ] || continue ;;
	esac
	[ "$(basename "$directory")" != "$without_cargo" ] || continue
	(install "$directory")
done
