#!/usr/bin/env bash
# image.sh [PLATFORM]: build the sidecar's image and print its size as a registry stores it: each layer
# through gzip. A platform other than the engine's own needs BuildKit.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The image's time is the commit's, for a builder that takes it.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
image=snowkey-sidecar:${VERSION:-latest}
docker build ${1:+--platform "$1"} --target sidecar --tag "$image" \
	--build-arg GO_IMAGE="$(scripts/containers/base-image.sh go)" \
	--build-arg VERSION="${VERSION:-}" --build-arg REVISION="${REVISION:-}" .
printf '%s %s compressed: %d bytes\n' "$image" "$(docker image inspect --format '{{.Os}}/{{.Architecture}}' "$image")" \
	"$(docker save "$image" | gzip | wc -c)"
