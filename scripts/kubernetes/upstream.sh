#!/usr/bin/env bash
# upstream.sh DIRECTORY: build there what internal/suite/kubernetes/upstream pins of Kubernetes, unless it is there already: the
# kubelet, and the program that checks manifests. The Go module proxy has the source. The first build takes seven minutes
# of a processor.
set -euo pipefail
directory=$(realpath -m "${1:?the directory to write in}")
cd "$(dirname "$0")/../../internal/suite/kubernetes/upstream"

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
mkdir -p "$directory"
export CGO_ENABLED=0

# make NAME FLAGS PACKAGE FILE...: a program that depends on these files of ours.
make() {
	local name=$1 flags=$2 package=$3 wanted
	shift 3
	wanted=$({
		go env GOVERSION
		cat "$@"
	} | sha256sum)
	if [ "$(cat "$directory/$name.sum" 2>/dev/null)" != "$wanted" ]; then
		echo "building $package"
		go build -trimpath -ldflags "-s -w $flags" -o "$directory/$name" "$package"
		echo "$wanted" >"$directory/$name.sum"
	fi
}

make kubelet "-X k8s.io/component-base/version.gitVersion=$version" k8s.io/kubernetes/cmd/kubelet go.mod go.sum
make upstream '' . go.mod go.sum ./*.go
