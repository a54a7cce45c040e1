#!/bin/sh
# venv.sh DIRECTORY REQUIREMENTS: a Python virtual environment in which these are installed, unless they are already.
set -eu
venv=${1:?directory} requirements=${2:?requirements}
python=${PYTHON:-python3}

fail() {
	echo "$venv: $*" >&2
	exit 1
}

command -v "$python" >/dev/null 2>&1 ||
	fail "$python not found: install Python 3.10 or newer (Debian and Ubuntu: apt install python3 python3-venv), or name another in PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
	fail "$python is too old: install Python 3.10 or newer, or name another in PYTHON"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
	fail "$python cannot create virtual environments: install its venv module (Debian and Ubuntu: apt install python3-venv)"

# The copy of the pins says that everything was installed; it is written last.
if cmp -s "$requirements" "$venv/requirements.txt"; then
	exit 0
fi
echo "installing into $venv"
mkdir -p "$(dirname "$venv")"
"$python" -m venv --clear "$venv" || fail "no virtual environment"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" || fail "pip could not install $requirements"
cp "$requirements" "$venv/requirements.txt"
