# What a newcomer types. `make help` lists it.
.DEFAULT_GOAL := help
.PHONY: help build tools up down env test e2e mutation faults bench lint vuln clean

# The race detector needs a C compiler; without one the tests run without it.
RACE := $(if $(shell command -v gcc || command -v clang),-race)
BUILD := CGO_ENABLED=0 go build -buildvcs=false -ldflags "-s -w"

help: ## list the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-7s %s\n", $$1, $$2}'

build: bin/hypercache bin/pulumi-resource-hypercache ## the node program and the local cloud's provider, into bin/

# go build knows best what is up to date.
.PHONY: bin/hypercache bin/pulumi-resource-hypercache
bin/hypercache:
	@echo "building bin/hypercache"
	@$(BUILD) -o $@ ./node/cmd/hypercache
bin/pulumi-resource-hypercache:
	@echo "building bin/pulumi-resource-hypercache"
	@$(BUILD) -o $@ ./infra/provider/cmd/pulumi-resource-hypercache

tools: ## the Pulumi CLI and its Go language host, into bin/, where no usable pulumi is on PATH
	@scripts/build-tools.sh

up: ## a cluster on this machine: pulumi up -s local, then its health
	@scripts/local-up.sh

down: ## take the cluster on this machine away
	@scripts/local-down.sh

env: ## print the environment for pulumi by hand: eval the output of make -s env
	@bash -c 'source scripts/pulumi-env.sh && for v in PATH PULUMI_HOME PULUMI_BACKEND_URL PULUMI_CONFIG_PASSPHRASE \
		PULUMI_SKIP_UPDATE_CHECK PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION GOFLAGS CGO_ENABLED; do \
		printf "export %s=%q\n" "$$v" "$${!v}"; done'

# What builds the SDKs of the clouds. With the race detector they take five minutes and 2.5 GB to compile, for programs that start no
# goroutine; without it lint and the end-to-end tests need the same. By hand: go test -race ./infra/aws ./infra/azure.
CLOUD_SDKS = hypercache/infra hypercache/infra/aws hypercache/infra/azure

test: ## every test that needs nothing but Go, and those that need redis-server and serf where they are installed
	@{ command -v redis-server && command -v serf; } >/dev/null || echo 'redis-server or serf is missing: comparisons with them are skipped; scripts/install-test-deps.sh'
	go test $(RACE) -timeout 20m $(filter-out $(CLOUD_SDKS),$(shell go list ./...))
	CGO_ENABLED=0 go test $(CLOUD_SDKS)
	go test -run Knockouts ./node/sim ./node/replica ./node/replica/sim
	cd tools && go test ./...

# The node's end-to-end tests, by name: their packages' other tests belong to make test.
NODE_E2E_FILES = $(shell grep -rl --include=*_test.go '^//go:build e2e' node)
NODE_E2E = $(shell grep -ho '^func Test[A-Za-z0-9]*' $(NODE_E2E_FILES) | cut -c6- | paste -sd'|')
NODE_E2E_DIRS = $(addprefix ./,$(sort $(dir $(NODE_E2E_FILES))))

# What boots single VMs or asks the programs of a VM: cloud-init, systemd.
LAB_E2E_DIRS = ./provisioning/... ./infra/cloudtest/fabric ./infra/cloudtest/awscloud ./infra/cloudtest/azurecloud

e2e: build tools ## real Pulumi, real nodes, real clients, VMs of both clouds as containers; installs what is missing
	scripts/install-test-deps.sh
	bash -c 'source scripts/pulumi-env.sh && go test -tags "e2e localonly" -p 1 -count=1 -timeout 25m -v ./infra/e2e/... ./infra/policy'
	go test -tags e2e -p 1 -count=1 -timeout 10m $(LAB_E2E_DIRS)
	go test -tags e2e -count=1 -timeout 15m -v -run '^($(NODE_E2E))$$' $(NODE_E2E_DIRS)

mutation: build tools ## show that the checks of the clouds' tests can fail; about twenty minutes for each cloud
	scripts/install-test-deps.sh
	bash -c 'source scripts/pulumi-env.sh && go test -tags "e2e localonly mutation" -count=1 -timeout 50m -v \
		-run TestMutations ./infra/e2e'

MINUTES ?= 10
faults: ## break a cluster of real processes for MINUTES (10) while clients write, and say what was lost; needs root
	go run ./scripts/faults -minutes $(MINUTES) $(FAULTS)

bench: build ## compare with redis-server, side by side
	scripts/bench.sh

lint: ## format, vet, staticcheck, errcheck, module files, layout, shell scripts
	@scripts/lint.sh

vuln: ## known vulnerabilities in what we build from; asks the Go vulnerability database
	cd tools/lint && go build -o ../../bin/govulncheck golang.org/x/vuln/cmd/govulncheck
	bin/govulncheck ./...

clean: ## remove what was built; a running cluster stays (make down takes it away)
	rm -rf bin
