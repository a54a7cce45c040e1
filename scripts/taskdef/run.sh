#!/bin/sh
# Checks examples/taskdef with tools of others. cfn-lint reads the CloudFormation template. terraform, or HCL's own
# formatter where there is none, checks the formatting of the Terraform files. The types generated from the AWS
# provider's schema show whether it has the arguments that they use. With terraform and a way to its registry, the
# provider itself validates them as well.
#
# cfn-lint lives in a virtual environment under .cache, and so do the types. What the ECS API takes, and our own rules,
# are in internal/suite/taskdef, and need Go alone.
set -eu
cd "$(dirname "$0")/../.."

venv=.cache/taskdef-venv
provider=@cdktf/provider-aws@21.22.1
provider_sum=d1446ab6ac6526c6fab4b28a5ebefdd90c0ce56203949925d35a4d286c05cbbf
types=.cache/taskdef-provider
hclfmt=github.com/hashicorp/hcl/v2/cmd/hclfmt@v2.25.0

fail() {
	echo "taskdef: $*" >&2
	exit 1
}

command -v npm >/dev/null 2>&1 ||
	fail "npm not found: install Node.js with npm (Debian and Ubuntu: apt install npm)"
scripts/venv.sh "$venv" scripts/taskdef/requirements.txt

# Only the types, and the provider's version: the whole package unpacks to 400 MB.
if [ "$(cat "$types/sum" 2>/dev/null)" != "$provider_sum" ] || [ ! -e "$types/package.json" ]; then
	echo "taskdef: fetching $provider"
	rm -rf "$types"
	mkdir -p "$types"
	archive=$(npm pack --silent --pack-destination "$types" "$provider") || fail "npm could not fetch $provider"
	echo "$provider_sum  $types/$archive" | sha256sum --check --quiet || fail "$provider is not what was pinned"
	tar -xzf "$types/$archive" -C "$types" --strip-components 2 --wildcards 'package/lib/*/index.d.ts'
	tar -xzf "$types/$archive" -C "$types" --strip-components 1 package/package.json
	rm "$types/$archive"
	echo "$provider_sum" >"$types/sum"
fi

broken=$(mktemp -d)
trap 'rm -rf "$broken"' EXIT

echo "taskdef: cfn-lint, and that it notices a property that does not exist"
"$venv/bin/cfn-lint" --version
"$venv/bin/cfn-lint" examples/taskdef/cloudformation.yaml
sed 's/StopTimeout:/StopTimeOut:/' examples/taskdef/cloudformation.yaml >"$broken/cloudformation.yaml"
"$venv/bin/cfn-lint" "$broken/cloudformation.yaml" >/dev/null && fail "cfn-lint takes StopTimeOut"

echo "taskdef: Terraform's arguments against the provider's types"
PROVIDER_TYPES=$PWD/$types go test -count=1 -run TestTerraform ./internal/suite/taskdef

sed 's/^  name /  name    /' examples/taskdef/terraform/main.tf >"$broken/main.tf"
if command -v terraform >/dev/null 2>&1; then
	echo "taskdef: terraform fmt, and that it notices a line out of place"
	terraform version | head -n 1
	terraform fmt -check -diff -recursive examples/taskdef/terraform
	terraform fmt -check "$broken" >/dev/null 2>&1 && fail "terraform fmt takes anything"
	# In a copy: init leaves its provider and a lock file beside what it reads.
	cp -r examples/taskdef/terraform "$broken/validate"
	if timeout 120 terraform -chdir="$broken/validate" init -backend=false -input=false >"$broken/init.log" 2>&1; then
		terraform -chdir="$broken/validate" validate
	else
		echo "taskdef: NOT CHECKED: terraform validate, since the provider cannot be had here:"
		sed -n 's/\x1b\[[0-9;]*m//g; s/^.*Error: /  /p' "$broken/init.log"
	fi
else
	echo "taskdef: no terraform here, so formatting by $hclfmt"
	for file in examples/taskdef/terraform/*.tf; do
		go run "$hclfmt" "$file" | diff -u "$file" - || fail "$file is not formatted"
	done
	go run "$hclfmt" "$broken/main.tf" | cmp -s "$broken/main.tf" - && fail "hclfmt takes anything"
	echo "taskdef: NOT CHECKED: terraform fmt and validate: install terraform for them"
fi
