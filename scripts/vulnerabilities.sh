#!/usr/bin/env bash
# vulnerabilities.sh: govulncheck over everything here, tests included, with the toolchain that go.mod names.
#
# The database is the module golang.org/x/vulndb, from which vuln.go.dev is made, so that this works wherever
# Go modules can be fetched. It fails on a finding that is not in vulnerabilities-accepted, and on a line
# there that is not found any more.
set -euo pipefail
cd "$(dirname "$0")/.."

govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
accepted=scripts/vulnerabilities-accepted

# The newest database: it may find something without a change here, which is its purpose.
database=$(go mod download -json golang.org/x/vulndb@latest | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -d "$database/data/osv" ] || {
	echo "vulnerabilities: NOT CHECKED: golang.org/x/vulndb cannot be fetched" >&2
	exit 1
}
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
GOBIN=$tools go install "$govulncheck"

GOTOOLCHAIN=$(sed -n 's/^toolchain //p' go.mod)
export GOTOOLCHAIN
echo "vulnerabilities: $(go version), ${database##*@}, $(find "$database/data/osv" -name 'GO-*.json' | wc -l) entries"

# found TAGS: the findings that the code can reach, one ID a line.
found() {
	"$tools/govulncheck" -db "file://$database/data/osv" -test -tags "$1" -format openvex ./... >"$tools/vex"
	tr -d '\n' <"$tools/vex" | grep -oE '"name": "GO-[0-9-]+"|"status": "[a-z_]+"' | paste - - |
		sed -n 's/.*"\(GO-[0-9-]*\)".*"affected"$/\1/p' | sort -u
}
found clients,e2e,faults,release,minicore_disabled >"$tools/found"
sed -n 's/^\(GO-[0-9-]*\) .*/\1/p' "$accepted" | sort -u >"$tools/accepted"

new=$(comm -23 "$tools/found" "$tools/accepted")
gone=$(comm -13 "$tools/found" "$tools/accepted")
for id in $(comm -12 "$tools/found" "$tools/accepted"); do
	echo "vulnerabilities: accepted: $(grep "^$id " "$accepted")"
done
for id in $gone; do
	echo "vulnerabilities: $id is not found any more: take it out of $accepted" >&2
done
if [ -n "$new" ]; then
	"$tools/govulncheck" -db "file://$database/data/osv" -test ./... || true
	echo "vulnerabilities: take the fixed releases; what cannot be had yet goes into $accepted with a reason:" $new >&2
fi
[ -z "$new$gone" ]
