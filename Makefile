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

help: ## this list
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-20s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Try it

demo: ## rotate a key while queries run, all on this machine
	go run ./internal/tools/demo

rotate: ## a new key in the running docker compose stack: watch the consumers change over
	@[ -n "$$($(COMPOSE) ps -q localcloud 2>/dev/null)" ] || { \
		echo "make rotate: no stack runs here; start it with: docker compose up. A real key is rotated by: sidecar rotate" >&2; exit 1; }
	$(COMPOSE) kill -s HUP localcloud

##@ Build

build: ## static binaries in bin/
	CGO_ENABLED=0 GOEXPERIMENT=runtimesecret go build -trimpath -tags nethttpomithttp2 -ldflags '$(LDFLAGS)' -o bin/ ./sidecar
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./consumer

image: ## the sidecar's image, and its compressed size; needs Docker
	VERSION='$(VERSION)' REVISION='$(REVISION)' scripts/containers/with-engine.sh scripts/containers/image.sh

release: ## dist/: binaries for amd64 and arm64, SBOMs, licences, checksums; reproducible
	VERSION='$(VERSION)' REVISION='$(REVISION)' scripts/release/release.sh dist

clean: ## remove what was built
	rm -rf bin dist .cache

##@ Check a change

check: ## formatting, vet and quick tests, in under a minute
	@unformatted=$$(gofmt -l consumer internal shared sidecar) && [ -z "$$unformatted" ] || { echo "run gofmt -w on: $$unformatted" >&2; exit 1; }
	go vet ./...
	go test -short ./...

# Packages tested at a time: twice the processors, since many tests wait more than they calculate.
TEST_PACKAGES = $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))

test: ## every test that needs only Go
	go test -timeout 30m -p $(TEST_PACKAGES) ./...

lint: ## vet, golangci-lint and actionlint at their pinned versions
	go vet -tags e2e,clients,faults,fleetsim,kubernetes,release ./...
	go run $(GOLANGCI_LINT) run ./...
	cd internal/suite/wrappers && go vet ./... && go run $(GOLANGCI_LINT) run ./...
	cd internal/suite/kubernetes/upstream && go vet -trimpath ./...
	go run $(ACTIONLINT) -shellcheck= -pyflakes=

race: ## tests of what runs at the same time, with the race detector; needs a C compiler
	CGO_ENABLED=1 go test -race -timeout 30m -p $(TEST_PACKAGES) ./...

# $(call vet-for,SYSTEM,ARCHITECTURE), and likewise build-for, which links what go vet has compiled. The tags e2e and
# faults are for Linux.
vet-for = GOOS=$(1) GOARCH=$(2) CGO_ENABLED=0 go vet -tags clients,fleetsim,release ./...
build-for = GOOS=$(1) GOARCH=$(2) CGO_ENABLED=0 go build ./sidecar/... ./consumer ./shared/...

# macOS is vetted for one architecture: no file of ours differs for the other, and without a build cache go vet compiles
# for minutes.
cross: ## build and vet for macOS and Windows
	$(call vet-for,windows,amd64)
	$(call build-for,windows,amd64)
	$(call vet-for,darwin,arm64)
	$(call build-for,darwin,arm64)
	$(call build-for,darwin,amd64)

docs: ## write settings and licences from the code into the documents
	go test -count=1 ./sidecar/internal/config -run TestDocumentation -update
	go run ./internal/tools/licenses

tidy-check: ## fail if go mod tidy would change go.mod or go.sum
	go mod tidy -diff
	go mod verify
	cd internal/suite/wrappers && go mod tidy -diff && go mod verify
	cd internal/suite/kubernetes/upstream && go mod tidy -diff && go mod verify

vulnerabilities: ## govulncheck, with a database that comes as a Go module
	scripts/vulnerabilities.sh

##@ Test more

test-long: ## every case of which make test tries some; 6 minutes
	go test -timeout 30m ./sidecar/internal/rotate -long
	go test -timeout 30m ./shared/snowkey -run 'RandomEvents|Repeated|AroundActivation|SmallPool' -long
	go test -timeout 30m ./sidecar ./sidecar/internal/decrypt -run 'KilledAtRandom|WrappedText' -long

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
	$(call fuzz,FuzzParseAccount,120000x,./internal/identity)
	$(call fuzz,FuzzParseHost,80000x,./internal/identity)
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

test-wrappers: ## the Go helper under tracing wrappers, golang-migrate and gosnowflake 1
	cd internal/suite/wrappers && go test ./...

test-versions: ## the helper with each gosnowflake 2, and the newest AWS SDK; VERSIONS=newer: only newer ones
	scripts/versions.sh $(VERSIONS)

test-faults: ## break what is around the real programs; Linux with namespaces, strace
	go test -count=1 -timeout 40m -parallel 6 -tags faults -v ./internal/suite/faults

test-faults-table: ## test-faults, and its table in docs/operations.md
	go test -count=1 -timeout 40m -parallel 6 -tags faults -v ./internal/suite/faults -write

test-release: ## make release twice, and compare
	go test -count=1 -timeout 20m -tags release -v ./internal/suite/release

e2e: ## the docker compose stack, with every bad volume; needs Docker and root
	VERSION='$(VERSION)' REVISION='$(REVISION)' COMPOSE='$(COMPOSE)' scripts/containers/with-engine.sh scripts/containers/e2e.sh

test-kubernetes: ## a pod on a real kubelet; needs root, Docker, containerd
	VERSION='$(VERSION)' REVISION='$(REVISION)' scripts/kubernetes/run.sh

##@ Test with programs of others

test-clients: ## examples/clients as users run them; needs Python 3.11, Node 20, npm, a JDK 17, Maven
	scripts/clients/install.sh
	go test -count=1 -tags clients ./internal/suite/clients

test-clients-all: ## every client of docs/clients.md; ROWS=slow: the slow ones alone
	scripts/clients/install.sh all
	go test -count=1 -timeout 20m -tags clients ./internal/suite/clients -run Matrix -rows $(or $(ROWS),all)

test-clients-table: ## test-clients-all, and its table in docs/clients.md
	scripts/clients/install.sh all
	go test -count=1 -timeout 20m -tags clients ./internal/suite/clients -run Matrix -rows all -write

test-taskdef: ## CloudFormation and Terraform examples against others' tools; needs Python, npm
	scripts/taskdef/run.sh

test-manifests: ## the Kubernetes manifests as kustomize builds them; BUILT=DIRECTORY keeps them
	scripts/manifests/run.sh $(BUILT)

test-moto: ## SSM cases against moto; needs Python 3.10
	scripts/against.sh moto go test -count=1 -p 1 -v ./internal/local/localssm ./sidecar/internal/ssm

test-localstack: ## SSM cases and the commands against LocalStack; needs Python 3.10
	scripts/against.sh localstack sh -c 'go test -count=1 -p 1 -v ./internal/local/localssm ./sidecar/internal/ssm && go test -count=1 -v ./sidecar -run Commands_'

test-fakesnow: ## the Go helper and Python's connector against fakesnow; needs Python 3.10
	scripts/against.sh fakesnow sh -c "go test -count=1 -v ./shared/snowkey -run '^Test(Rotation|Open|Close|Tables)_' && \
		go test -count=1 -v -tags clients ./internal/suite/clients -run Fakesnow_"

test-live: ## everything with real accounts, into docs/live.md
	go run ./internal/suite/live -write docs/live.md

test-live-local: ## test-live with LocalStack and the local Snowflake; needs Python 3.10
	scripts/venv.sh .cache/bench-venv scripts/bench/requirements.txt
	PATH="$(CURDIR)/.cache/bench-venv/bin:$$PATH" scripts/against.sh localstack scripts/against.sh fakesnow \
		go test -count=1 -timeout 20m ./internal/suite/live -run Trial_ $(LIVE_FLAGS)

##@ Measure

bench: ## start and memory beside the alternatives, into docs/performance.md; 7 minutes, Python, openssl
	scripts/bench/run.sh

bench-rotation: ## a rotation and queries, into docs/performance.md; 25 minutes
	go run ./internal/perf/benchrotation -write docs/performance.md

fleetsim: ## fleets on simulated time, into docs/performance.md; 10 minutes
	go test -count=1 -timeout 40m -tags fleetsim -run TestFleets -v ./sidecar/internal/fleetsim -write

regression: ## sizes, allocations, instructions against the last release; needs valgrind, amd64
	go run ./internal/perf/regression

regression-figures: ## accept what regression measures, in figures.txt
	go run ./internal/perf/regression -update

scan-memory: ## copies of a key in memory, into docs/secret-hygiene.md; needs root
	go test -count=1 -v ./sidecar -run Copies -update

dashboard: ## docs/dashboards/grafana.svg, from a real Prometheus; needs prometheus, Python; 3 minutes
	scripts/dashboard/run.sh
