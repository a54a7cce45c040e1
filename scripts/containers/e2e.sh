#!/usr/bin/env bash
# e2e.sh [ARGUMENT OF GO TEST...]: internal/suite/e2e, with base images that can be had here.
set -euo pipefail
cd "$(dirname "$0")/../.."

GO_IMAGE=$(scripts/containers/base-image.sh go)
PYTHON_IMAGE=$(scripts/containers/base-image.sh python)
export GO_IMAGE PYTHON_IMAGE
# What earlier builds left in the engine; the label is that of the Dockerfile's stages.
docker image prune --force --filter label=com.github.snowkey.stage=build --filter until=24h >/dev/null
go test -tags e2e -count=1 -timeout 15m -v "$@" ./internal/suite/e2e
