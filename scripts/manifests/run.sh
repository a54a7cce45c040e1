#!/bin/sh
# Lets the real kustomize build what examples/kubernetes is for: the overlays, and each component on one of them. The
# result has to follow the rules in internal/suite/manifests, as the files do. It needs Go alone.
#
# The first argument names a directory that keeps the result, for other checks; without one it is removed again.
set -eu
cd "$(dirname "$0")/../.."

kustomize=sigs.k8s.io/kustomize/kustomize/v5@v5.8.1

fail() {
	echo "manifests: $*" >&2
	exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
built=${1:-$work/built}
mkdir -p "$built" "$work/bin"
built=$(cd "$built" && pwd)
GOBIN=$work/bin go install "$kustomize" || fail "go could not build $kustomize"
cp -r examples/kubernetes "$work/kubernetes"

# build NAME DIRECTORY: what kustomize makes of a directory.
build() {
	"$work/bin/kustomize" build "$work/kubernetes/$2" >"$built/$1.yaml" 2>"$work/said" || fail "$2: $(cat "$work/said")"
	[ ! -s "$work/said" ] || fail "$2: $(cat "$work/said")" # such as that a field is deprecated
}

echo "manifests: overlays and components by kustomize $("$work/bin/kustomize" version)"
build eks-ec2 overlays/eks-ec2
build eks-fargate overlays/eks-fargate
for component in podmonitor openshift; do
	mkdir "$work/kubernetes/overlays/$component"
	cat >"$work/kubernetes/overlays/$component/kustomization.yaml" <<-END
		apiVersion: kustomize.config.k8s.io/v1beta1
		kind: Kustomization
		namespace: app
		resources: [../eks-ec2]
		components: [../../components/$component]
	END
	build "$component" "overlays/$component"
done
MANIFESTS_BUILT=$built go test -count=1 -run Built ./internal/suite/manifests

echo "manifests: that kustomize notices a patch for nothing"
sed 's/name: app-rotate/name: app-rotates/' examples/kubernetes/overlays/eks-fargate/resources.yaml >"$work/kubernetes/overlays/eks-fargate/resources.yaml"
"$work/bin/kustomize" build "$work/kubernetes/overlays/eks-fargate" >/dev/null 2>&1 && fail "kustomize takes a patch for nothing"
echo "manifests: all right"
