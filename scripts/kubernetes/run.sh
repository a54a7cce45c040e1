#!/usr/bin/env bash
# run.sh [ARGUMENT OF GO TEST...]: internal/suite/kubernetes, with the kubelet and the images that it needs.
set -euo pipefail
cd "$(dirname "$0")/../.."

scripts/kubernetes/upstream.sh .cache/kubernetes
scripts/containers/with-engine.sh scripts/kubernetes/images.sh .cache/kubernetes/images.tar
REQUIRE_KUBELET=${REQUIRE_KUBELET-1} go test -tags kubernetes -count=1 -timeout 30m -v "$@" ./internal/suite/kubernetes
