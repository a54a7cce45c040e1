#!/usr/bin/env bash
# release.sh DIRECTORY: what a release of the sidecar consists of: a binary and an SBOM for each architecture, the
# licences that go with them, and checksums. The same commit and version give the same bytes; only the SBOMs of an arm64
# machine are not those of an amd64 one.
#
# It signs nothing: a signature takes the key, or the identity, of the person who releases.
set -euo pipefail
cd "$(dirname "$0")/../.."
dist=${1:?directory}
: "${VERSION:?}" "${REVISION:?}"

cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

if [[ $VERSION == *-dirty ]]; then
	echo "release: there are changes that are in no commit, so nobody could build this again: commit them first" >&2
	exit 1
fi
# An SBOM names the hash of the tool, so the tool, too, is built the same way each time.
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
GOTOOLCHAIN=$(sed -n 's/^toolchain //p' go.mod) GOFLAGS='' GOEXPERIMENT='' CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0 \
	GOBIN=$tools go install -trimpath "$cyclonedx"

mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
rm -f "$dist"/sidecar_* "$dist"/LICENSE "$dist"/THIRD_PARTY_LICENSES.txt "$dist"/SHA256SUMS

for architecture in amd64 arm64; do
	binary=$dist/sidecar_${VERSION}_linux_$architecture
	# RELEASE_GOCACHE is a build cache for the binaries alone: the tools need no new one.
	GOCACHE=${RELEASE_GOCACHE:-$(go env GOCACHE)} scripts/build.sh ./sidecar "$architecture" "$binary"
	# A serial number that is the binary's own, where it would be a random one: a UUID of version 8.
	hash=$(sha256sum "$binary")
	serial=${hash:0:8}-${hash:8:4}-8${hash:13:3}-8${hash:17:3}-${hash:20:12}
	# The licences are read from the modules that the build has fetched and held to go.sum, so that nobody has to be
	# asked about them again; ours is no such module, so the tool warns that it has none.
	GOPROXY=off GOSUMDB=off "$tools/cyclonedx-gomod" bin -json -std -licenses -notimestamp -serial "$serial" \
		-version "$VERSION" -output "$binary.cdx.json" "$binary"
done
cp LICENSE "$dist/LICENSE"
cp licenses/sidecar.txt "$dist/THIRD_PARTY_LICENSES.txt"
cd "$dist"
sha256sum sidecar_* LICENSE THIRD_PARTY_LICENSES.txt >SHA256SUMS
