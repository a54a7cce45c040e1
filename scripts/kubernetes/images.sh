#!/usr/bin/env bash
# images.sh FILE: build the images that internal/suite/kubernetes runs, and save them in FILE for containerd.
set -euo pipefail
file=$(realpath -m "${1:?the file to write}")
cd "$(dirname "$0")/../.."

GO_IMAGE=$(scripts/containers/base-image.sh go)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
for target in sidecar consumer; do
	docker build --quiet --target "$target" --tag "snowkey-$target:kubernetes" --build-arg GO_IMAGE="$GO_IMAGE" \
		--build-arg VERSION="${VERSION:-}" --build-arg REVISION="${REVISION:-}" .
done
mkdir -p "$(dirname "$file")"
docker save --output "$file.new" snowkey-sidecar:kubernetes snowkey-consumer:kubernetes
mv "$file.new" "$file"
