# Everything here needs Go alone unless its line says otherwise.

GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ACTIONLINT    = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS   = -s -w -X main.release=$(VERSION) -X main.revision=$(REVISION)

# One way to build the packages, also where there is a C compiler: the first build is half of what a short stage takes.
export CGO_ENABLED = 0

# Compose v2 where there is one, docker-compose 1.29 elsewhere.
COMPOSE  ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.PHONY: help demo check test race test-long test-wrappers lint cross test-moto test-localstack test-fakesnow test-live test-live-local test-versions test-clients test-clients-all test-clients-table test-taskdef test-manifests test-faults test-faults-table fuzz-short bench bench-rotation fleetsim regression regression-figures scan-memory dashboard docs tidy-check vulnerabilities build release test-release image rotate e2e test-kubernetes clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## rotate a key while queries run, all on this machine, and print a table
	go run ./internal/tools/demo

check: ## what takes under a minute: formatting, vet, and tests that start no process and do not sleep
	@unformatted=$$(gofmt -l consumer internal shared sidecar) && [ -z "$$unformatted" ] || { echo "run gofmt -w on: $$unformatted" >&2; exit 1; }
	go vet ./...
	go test -short ./...

# Packages tested at a time: twice the processors, since many tests wait more than they calculate.
TEST_PACKAGES = $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))

test: ## every test that needs only Go; of long rows of like cases, one in ten
	go test -timeout 30m -p $(TEST_PACKAGES) ./...

race: ## tests of what runs at the same time, with the race detector; needs a C compiler
	CGO_ENABLED=1 go test -race -timeout 30m -p $(TEST_PACKAGES) ./...

test-long: ## every case of which make test tries some, and random events at full length; takes 6 minutes
	go test -timeout 30m ./sidecar/internal/rotate -long
	go test -timeout 30m ./shared/snowkey -run 'RandomEvents|Repeated|AroundActivation|SmallPool' -long
	go test -timeout 30m ./sidecar ./sidecar/internal/decrypt -run 'KilledAtRandom|WrappedText' -long

test-wrappers: ## the Go helper under tracing wrappers, golang-migrate and gosnowflake 1
	cd internal/suite/wrappers && go test ./...

lint: ## vet, formatting, golangci-lint and actionlint, built from source at their pinned versions
	go vet -tags e2e,clients,faults,fleetsim,kubernetes,release ./...
	go run $(GOLANGCI_LINT) run ./...
	cd internal/suite/wrappers && go vet ./... && go run $(GOLANGCI_LINT) run ./...
	cd internal/suite/kubernetes/upstream && go vet -trimpath ./...
	go run $(ACTIONLINT) -shellcheck= -pyflakes=

# $(call vet-for,SYSTEM,ARCHITECTURE), and likewise build-for, which links what go vet has compiled. The tags e2e and
# faults are for Linux.
vet-for = GOOS=$(1) GOARCH=$(2) CGO_ENABLED=0 go vet -tags clients,fleetsim,release ./...
build-for = GOOS=$(1) GOARCH=$(2) CGO_ENABLED=0 go build ./sidecar/... ./consumer ./shared/...

# macOS is vetted for one architecture: no file of ours differs for the other, and without a build cache go vet compiles
# for minutes.
cross: ## build for macOS and Windows, and vet, tests included
	$(call vet-for,windows,amd64)
	$(call build-for,windows,amd64)
	$(call vet-for,darwin,arm64)
	$(call build-for,darwin,arm64)
	$(call build-for,darwin,amd64)

test-moto: ## the SSM cases against moto, an emulator; needs Python 3.10 with venv
	scripts/against.sh moto go test -count=1 -p 1 -v ./internal/local/localssm ./sidecar/internal/ssm

test-localstack: ## the SSM cases and the sidecar's commands against LocalStack, an emulator; needs Python 3.10 with venv
	scripts/against.sh localstack sh -c 'go test -count=1 -p 1 -v ./internal/local/localssm ./sidecar/internal/ssm && go test -count=1 -v ./sidecar -run Commands_'

test-fakesnow: ## the Go helper's cases and Python's connector against fakesnow, an emulator; needs Python 3.10 with venv
	scripts/against.sh fakesnow sh -c "go test -count=1 -v ./shared/snowkey -run '^Test(Rotation|Open|Close|Tables)_' && \
		go test -count=1 -v -tags clients ./internal/suite/clients -run Fakesnow_"

test-live: ## try everything with real accounts, and write docs/live.md, which says how
	go run ./internal/suite/live -write docs/live.md

test-live-local: ## test-live with LocalStack and the local Snowflake, up to Fargate; needs Python 3.10 with venv
	scripts/venv.sh .cache/bench-venv scripts/bench/requirements.txt
	PATH="$(CURDIR)/.cache/bench-venv/bin:$$PATH" scripts/against.sh localstack scripts/against.sh fakesnow \
		go test -count=1 -timeout 20m ./internal/suite/live -run Trial_ $(LIVE_FLAGS)

test-versions: ## the helper with each release of gosnowflake 2, and SSM with the newest AWS SDK; VERSIONS=newer: those newer than go.mod's
	scripts/versions.sh $(VERSIONS)

test-clients: ## examples/clients as their users run them; needs Python 3.11 with venv, Node 20, npm, a JDK 17, Maven
	scripts/clients/install.sh
	go test -count=1 -tags clients ./internal/suite/clients

test-clients-all: ## every client of docs/clients.md, also the slow ones (Airflow, Rust); ROWS=slow runs those alone
	scripts/clients/install.sh all
	go test -count=1 -timeout 20m -tags clients ./internal/suite/clients -run Matrix -rows $(or $(ROWS),all)

test-clients-table: ## test-clients-all, and write its table into docs/clients.md
	scripts/clients/install.sh all
	go test -count=1 -timeout 20m -tags clients ./internal/suite/clients -run Matrix -rows all -write

test-taskdef: ## the CloudFormation and Terraform examples against tools that are not ours; needs Python with venv, npm
	scripts/taskdef/run.sh

test-manifests: ## the manifests for Kubernetes, as the real kustomize builds them; in BUILT, if it names a directory
	scripts/manifests/run.sh $(BUILT)

test-faults: ## what consumers and operators see when something breaks; needs strace, and Linux that lets it have namespaces
	go test -count=1 -timeout 40m -parallel 6 -tags faults -v ./internal/suite/faults

test-faults-table: ## the same, and its table in docs/operations.md
	go test -count=1 -timeout 40m -parallel 6 -tags faults -v ./internal/suite/faults -write

# $(call fuzz,TEST,INPUTS,PACKAGE): inputs for about four seconds. They are counted, as Go 1.26 sometimes takes the
# end of a timed run for a failure: https://go.dev/issue/75804
fuzz = go test -run '^$$' -fuzz '^$(1)$$' -fuzztime $(or $(FUZZ_TIME),$(2)) -fuzzminimizetime 1s $(3)

fuzz-short: ## each fuzz test for about four seconds; FUZZ_TIME=10m for longer
	$(call fuzz,FuzzParse,10000x,./sidecar/internal/decrypt)
	$(call fuzz,FuzzReadings,40000x,./sidecar/internal/decrypt)
	$(call fuzz,FuzzParse,20000x,./shared/keyfile)
	$(call fuzz,FuzzParseStatus,240000x,./shared/keyfile)
	$(call fuzz,FuzzRead_Socket,8000x,./shared/keyfile)
	$(call fuzz,FuzzServe_IgnoresWhatAReaderSends,2000x,./sidecar/internal/keysocket)
	$(call fuzz,FuzzParseAccount,120000x,./shared/identity)
	$(call fuzz,FuzzParseHost,80000x,./shared/identity)
	$(call fuzz,FuzzLoad,80000x,./sidecar/internal/config)
	$(call fuzz,FuzzKeys,8000x,./sidecar/internal/config)
	$(call fuzz,FuzzFile,20000x,./sidecar/internal/connections)
	$(call fuzz,FuzzParseName,24000x,./sidecar/internal/ssm)
	$(call fuzz,FuzzAnswer,8000x,./sidecar/internal/ssm)
	$(call fuzz,FuzzAnswer,1200x,./sidecar/internal/snowflake)
	$(call fuzz,FuzzParseName,24000x,./sidecar/internal/snowflake)
	$(call fuzz,FuzzRequest,24000x,./sidecar/internal/metrics)
	$(call fuzz,FuzzJWT,36000x,./internal/local/localsnowflake)
	$(call fuzz,FuzzForward,12000x,./internal/local/localsnowflake)

bench: ## the sidecar beside what you would pick instead, as tables in docs/performance.md; needs Python with venv, openssl; takes 7 minutes
	scripts/bench/run.sh

bench-rotation: ## what a rotation does to queries, as a table in docs/performance.md; takes 25 minutes
	go run ./internal/perf/benchrotation -write docs/performance.md

regression: ## sizes, allocations and instructions against the last release's; needs valgrind, and Linux on amd64
	go run ./internal/perf/regression

regression-figures: ## measure the same, and accept it: the diff of internal/perf/regression/figures.txt is for the reviewer
	go run ./internal/perf/regression -update

fleetsim: ## fleets of 10,000 and 100,000 sidecars on simulated time, as tables and plots in docs/; takes 10 minutes
	go test -count=1 -timeout 40m -tags fleetsim -run TestFleets -v ./sidecar/internal/fleetsim -write

scan-memory: ## the copies of a key in the sidecar's memory, as a table in docs/secret-hygiene.md; needs root
	go test -count=1 -v ./sidecar -run Copies -update

dashboard: ## draw the Grafana dashboard from a real Prometheus, docs/dashboards/grafana.svg; needs prometheus, Python with venv; three minutes
	scripts/dashboard/run.sh

docs: ## write settings and licences from the code into README.md, docs/ and licenses/
	go test -count=1 ./sidecar/internal/config -run TestDocumentation -update
	go run ./internal/tools/licenses

tidy-check: ## fail when go.mod or go.sum are not as go mod tidy would have them
	go mod tidy -diff
	go mod verify
	cd internal/suite/wrappers && go mod tidy -diff && go mod verify
	cd internal/suite/kubernetes/upstream && go mod tidy -diff && go mod verify

vulnerabilities: ## govulncheck, with a database that comes as a Go module
	scripts/vulnerabilities.sh

build: ## static binaries in bin/
	CGO_ENABLED=0 GOEXPERIMENT=runtimesecret go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./sidecar
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./consumer

release: ## dist/: the sidecar for amd64 and arm64, its SBOMs, licences and checksums; the same commit, the same bytes
	VERSION='$(VERSION)' REVISION='$(REVISION)' scripts/release/release.sh dist

test-release: ## make release twice, from two directories and build caches, compare, and check what it made
	go test -count=1 -timeout 20m -tags release -v ./internal/suite/release

image: ## the sidecar's image, and its compressed size; needs Docker
	VERSION='$(VERSION)' REVISION='$(REVISION)' scripts/containers/with-engine.sh scripts/containers/image.sh

rotate: ## a new key in the running docker compose stack; the consumers' lines show it arrive
	$(COMPOSE) kill -s HUP localcloud

e2e: ## the docker compose stack on a real engine, with every bad volume; needs Docker and root
	VERSION='$(VERSION)' REVISION='$(REVISION)' COMPOSE='$(COMPOSE)' scripts/containers/with-engine.sh scripts/containers/e2e.sh

test-kubernetes: ## the images as a pod on a real kubelet, and the manifests in Kubernetes' own code; needs root, Docker, containerd
	VERSION='$(VERSION)' REVISION='$(REVISION)' scripts/kubernetes/run.sh

clean: ## remove what was built
	rm -rf bin dist .cache
