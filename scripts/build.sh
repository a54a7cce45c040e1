#!/bin/sh
# build.sh PACKAGE ARCHITECTURE OUTPUT [TOOLCHAIN]: a static program for Linux, the same to the byte wherever it is
# built: with the toolchain that go.mod names (the go command fetches it) unless it is told of another, without this machine's paths,
# and without what the builder's environment would change. VERSION and REVISION say what it is.
set -eu
package=${1:?package} architecture=${2:?architecture} output=${3:?output}

GOTOOLCHAIN=${4:-$(sed -n 's/^toolchain //p' go.mod)}
export GOTOOLCHAIN GOWORK=off GOFLAGS= GOEXPERIMENT= GOFIPS140=off
export CGO_ENABLED=0 GOOS=linux GOARCH="$architecture" GOAMD64=v1 GOARM64=v8.0

flags="-s -w" tags=
case $package in
# docs/secret-hygiene.md says what the experiment is for. HTTP/1.1 is enough for AWS, Snowflake and the metrics; HTTP/2 would
# be 0.23 MB of the image.
./sidecar) flags="$flags -X main.release=${VERSION:-} -X main.revision=${REVISION:-}" GOEXPERIMENT=runtimesecret tags=nethttpomithttp2 ;;
# minicore, a native library that the driver unpacks and loads, is nothing for a static binary on a
# read-only root.
./consumer) tags=minicore_disabled ;;
esac
exec go build -trimpath -buildvcs=false -tags "$tags" -ldflags "$flags" -o "$output" "$package"
