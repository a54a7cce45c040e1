#!/usr/bin/env bash
# base-image.sh go|python: print the name of an image to build from: the public one, or, where no registry
# can be reached, a stand-in made of what this machine has. GO_IMAGE and PYTHON_IMAGE say which to take.
set -euo pipefail

kind=${1:?go or python}
case $kind in
go) chosen=${GO_IMAGE:-} public=golang:1.26 ;;
python) chosen=${PYTHON_IMAGE:-} public=python:3.11-slim ;;
*)
	echo "usage: $0 go|python" >&2
	exit 2
	;;
esac
if [ -n "$chosen" ]; then
	echo "$chosen"
	exit
fi
if docker image inspect "$public" >/dev/null 2>&1 || timeout 300 docker pull -q "$public" >/dev/null 2>&1; then
	echo "$public"
	exit
fi

certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

missing() {
	echo "$public cannot be pulled, and a stand-in needs $*" >&2
	exit 1
}

# settings VARIABLE=VALUE...: those that have a value, as arguments of docker import. How this machine
# reaches its package registries is part of the stand-in, so that no Dockerfile has to know.
settings() {
	for setting in "$@"; do
		if [ -n "${setting#*=}" ]; then
			printf '%s\n' -c "ENV $setting"
		fi
	done
}

import() {
	mapfile -t arguments
	tar -C "$root" -c . | docker import "${arguments[@]}" -m "stand-in for $public" - "$image" >/dev/null
}

# The toolchain on a userland of busybox: all that go build without cgo asks for.
make_go() {
	command -v busybox >/dev/null || missing "busybox (Debian: busybox-static)"
	mkdir -p "$root"/{bin,tmp,root,go,etc/ssl/certs,usr/local/go}
	chmod 1777 "$root/tmp"
	cp "$(command -v busybox)" "$root/bin/busybox"
	for applet in $(busybox --list); do
		[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
	done
	cp "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
	tar -C "$(go env GOROOT)" -c --exclude=./test --exclude=./api --exclude=./doc . | tar -C "$root/usr/local/go" -x --no-same-owner
	settings PATH=/usr/local/go/bin:/bin GOPATH=/go GOTOOLCHAIN=local \
		"GOPROXY=$(go env GOPROXY)" "GOSUMDB=$(go env GOSUMDB)" "GONOSUMDB=$(go env GONOSUMDB)" \
		"HTTP_PROXY=${HTTP_PROXY:-}" "HTTPS_PROXY=${HTTPS_PROXY:-}" "NO_PROXY=${NO_PROXY:-}" | import
}

# Debian's Python, on Debian's smallest root.
make_python() {
	command -v debootstrap >/dev/null || missing "debootstrap (a Debian package)"
	[ "$(id -u)" = 0 ] || missing "root, for debootstrap"
	local mirror
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
	debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip \
		"$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root" "$mirror" >"$root.log" 2>&1 || {
		tail -5 "$root.log" >&2
		exit 1
	}
	rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
	cp "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
	settings PATH=/usr/local/bin:/usr/bin:/bin PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
		"PIP_INDEX_URL=${PIP_INDEX_URL:-}" \
		"HTTP_PROXY=${HTTP_PROXY:-}" "HTTPS_PROXY=${HTTPS_PROXY:-}" "NO_PROXY=${NO_PROXY:-}" | import
}

inputs=$({
	cat "$0" "$certificates"
	[ "$kind" != go ] || go env GOVERSION GOPROXY
} | sha256sum | cut -c 1-12)
image=snowkey-stand-in-$kind:$inputs
if ! docker image inspect "$image" >/dev/null 2>&1; then
	echo "$public cannot be pulled: making a stand-in of what this machine has" >&2
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	root=$work/root
	mkdir "$root"
	"make_$kind"
fi
echo "$image"
