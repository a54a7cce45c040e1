#!/usr/bin/env bash
# notes.sh VERSION: what CHANGELOG.md says of a version, such as v0.1.0.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:?version}

notes=$(awk -v heading="## ${version#v} - " '
	index($0, heading) == 1 { inside = 1; next }
	/^## / { inside = 0 }
	inside' CHANGELOG.md)
if [ -z "$notes" ]; then
	echo "release: CHANGELOG.md has nothing for $version: write its section, headed \"## ${version#v} - DATE\"" >&2
	exit 1
fi
printf '%s\n' "$notes"
