#!/usr/bin/env bash
# versions.sh [newer]: tests shared/snowkey with each release of gosnowflake 2, or with those newer than go.mod's, and
# sidecar/internal/ssm with the newest AWS SDK, and prints a table. It works on copies of go.mod and go.sum in a
# directory of its own; those of the checkout stay as they are.
#
# The exit status is 1 if a release fails that go.mod requires or that is newer. Older ones are in the table for those who
# cannot update yet.
set -euo pipefail
cd "$(dirname "$0")/.."

driver=github.com/snowflakedb/gosnowflake/v2
sdk=github.com/aws/aws-sdk-go-v2
pinned=$(go list -m -f '{{.Version}}' "$driver")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# exists VERSION: whether the driver has this release. The version is asked for by name, so a proxy that has no list will do.
exists() { go list -m "$driver@$1" >/dev/null 2>&1; }

# patches MINOR: its releases, until two numbers in a row are none.
patches() {
	local patch=0 missing=0
	while [ "$missing" -lt 2 ]; do
		if exists "v2.$1.$patch"; then
			echo "v2.$1.$patch"
			missing=0
		else
			missing=$((missing + 1))
		fi
		patch=$((patch + 1))
	done
}

# search_releases finds them one by one, for two minor versions beyond the last that has any.
search_releases() {
	local minor=0 missing=0 found
	while [ "$missing" -lt 2 ]; do
		found=$(patches "$minor")
		if [ -n "$found" ]; then
			echo "$found"
			missing=0
		else
			missing=$((missing + 1))
		fi
		minor=$((minor + 1))
	done
}

# releases of the driver, oldest first, without pre-releases.
releases() {
	local listed
	if listed=$(go list -m -versions -f '{{range .Versions}}{{println .}}{{end}}' "$driver" 2>/dev/null) && [ -n "$listed" ]; then
		echo "$listed"
	else
		echo "versions: the module proxy has no list of $driver; asking for each version" >&2
		search_releases
	fi | awk 'NF && !/-/' | sort -V
}

# older A B: whether release A is older than release B.
older() { [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# go_in DIRECTORY COMMAND ARGUMENTS...: runs a command of go on the copies there.
go_in() { go "$2" "-modfile=$1/go.mod" "${@:3}"; }

# try NAME UPGRADES -- PACKAGES: tests the packages with the upgraded modules, and puts a line into the table.
try() {
	local name=$1 directory began=$SECONDS upgrades=()
	shift
	while [ "$1" != -- ]; do
		upgrades+=("$1")
		shift
	done
	shift
	directory=$(mktemp -d "$work/XXXXXX")
	cp go.mod go.sum "$directory"
	result=ok
	if ! go_in "$directory" get "${upgrades[@]}" >"$directory/log" 2>&1; then
		result='cannot be resolved'
		tail -n 5 "$directory/log" >&2
	elif ! go_in "$directory" test -mod=mod -timeout 20m "$@" >"$directory/log" 2>&1; then
		result=$(failures "$directory/log")
		grep -v '^time=\|^ok\|no test files' "$directory/log" | tail -n 60 >&2 || true
	fi
	printf '%-34s%5d s  %s\n' "$name" "$((SECONDS - began))" "$result" | tee -a "$work/table"
}

# failures LOG: the tests that failed, or what else did.
failures() {
	local tests packages
	tests=$(sed -n 's/^--- FAIL: \([^ ]*\) .*/\1/p' "$1" | sort -u | paste -sd ' ' -)
	packages=$(sed -n 's/^FAIL[[:blank:]]*\([^ ]* \[.*\]\)$/\1/p' "$1" | sort -u | paste -sd ' ' -)
	[ -n "$tests$packages" ] || tests='go test failed without naming a test'
	echo "FAILED: $tests${tests:+${packages:+ }}$packages"
}

status=0
mapfile -t versions < <(releases)
# Fail if the proxy does not answer, rather than test nothing.
printf '%s\n' "${versions[@]}" | grep -Fqx "$pinned" || {
	echo "versions: $driver $pinned, which go.mod requires, is not among the releases that were found: ${versions[*]:-none}." \
		"See whether the module proxy answers: go list -m $driver@$pinned" >&2
	exit 1
}
[ "${1:-all}" = newer ] && newer=yes || newer=
for version in "${versions[@]}"; do
	[ -z "$newer" ] || older "$pinned" "$version" || continue
	try "gosnowflake $version" "$driver@$version" -- ./shared/snowkey/... ./shared/keywatch/...
	[ "$result" = ok ] || older "$version" "$pinned" || status=1
done

# Every module of the SDK that go.mod names: they are released together.
mapfile -t modules < <(go list -m -f '{{if not .Indirect}}{{.Path}}{{end}}' all | grep "^$sdk\(/\|$\)")
newest=$(go list -m -f '{{.Version}}' "$sdk@latest") || newest='that cannot be found'
if [ -z "$newer" ] || [ "$newest" != "$(go list -m -f '{{.Version}}' "$sdk")" ]; then
	try "aws-sdk-go-v2 $newest" "${modules[@]/%/@latest}" -- ./sidecar/internal/ssm/...
	[ "$result" = ok ] || status=1
fi

printf '\n=== go.mod requires gosnowflake %s, and of the AWS SDK %s\n' "$pinned" "$(go list -m -f '{{.Version}}' "$sdk")"
cat "$work/table" 2>/dev/null || echo 'there is nothing newer'
exit "$status"
