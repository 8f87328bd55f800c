# The tools are pinned and run from the module proxy: nothing has to be installed.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.8.0

MODULES  := . e2e
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME ?= 30s
SIMTIME  ?= 1m
GOVULNDB ?= https://vuln.go.dev

# One binary without cgo; the race detector needs it.
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: build demo test simulate e2e interop chaos race bench bench-log lint vuln fuzz clean help

build: ## build bin/lodge
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/lodge ./cmd/lodge

demo: ## lodge an attestation in a real log and a real registry, again and again
	@cd e2e && go run ./demo

test: ## run all tests that need Go alone: unit, script, and end to end on Rekor v2 and registries
	go test ./...
	@$(MAKE) --no-print-directory simulate SIMTIME=20s SEED=1
	@$(MAKE) --no-print-directory e2e

# What a test prints is shown where it is run in its own folder.
simulate: ## run N schedules of faults (SEED: from that one on, else random), or as many as SIMTIME (1m, 60m) holds, on all cores
	@cd deliver && go test -count=1 -timeout=0 -run='^TestSimulation$$' $(if $(N),-sim.n=$(N),-sim.time=$(SIMTIME)) -sim.from=$(or $(SEED),0)

# A result is never taken from the cache: go does not see that it depends on lodge and servers.
e2e: ## run the end-to-end tests on Rekor v2 and registries
	cd e2e && go test -count=1 -timeout=30m $$(go list ./... | grep -v -e /interop -e /chaos)

interop: ## run the end-to-end tests on Rekor v1 (needs MariaDB or MySQL, and Redis) and with cosign
	cd e2e && go test -count=1 -timeout=30m ./interop/...

chaos: ## run the tests that kill, cut and fill everything, lodge too (need PostgreSQL, and root for a small disk; SHORT=1: a part of them)
	cd e2e && go test -count=1 -timeout=30m $(if $(SHORT),-short) ./chaos/...

race: ## run the unit and script tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race ./...

bench: ## measure the store, and delivery to a real log, written to bench/RESULTS.md (POSTGRES=address of an empty database adds PostgreSQL)
	go run ./bench $(if $(POSTGRES),-postgres $(POSTGRES)) > bench/RESULTS.md.new
	cd e2e && go test -count=1 -timeout=1h ./bench -bench.rounds=5 -bench.count=4096 -bench.out=$(CURDIR)/bench/RESULTS.md.new
	mv bench/RESULTS.md.new bench/RESULTS.md

bench-log: ## measure following a log of a million entries, written to bench/log/RESULTS.md
	go run ./bench/log > bench/log/RESULTS.md.new
	mv bench/log/RESULTS.md.new bench/log/RESULTS.md

lint: ## run golangci-lint on all modules, then vuln
	@for module in $(MODULES); do \
		echo "golangci-lint $$module"; \
		(cd $$module && go run $(GOLANGCI_LINT) run ./...) || exit 1; \
	done
	@$(MAKE) --no-print-directory vuln

# Without the database nothing can be checked; that is said, and no failure.
vuln: ## look for known vulnerabilities that can be reached, in all modules
	@for module in $(MODULES); do \
		echo "govulncheck $$module"; \
		out=$$(cd $$module && go run $(GOVULNCHECK) -db $(GOVULNDB) ./... 2>&1) && found=0 || found=1; \
		echo "$$out"; \
		case $$found$$out in \
			0*) ;; \
			*"fetching vulnerabilities"*) echo "NOT CHECKED: $(GOVULNDB) cannot be reached" ;; \
			*) exit 1 ;; \
		esac; \
	done

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@for package in $$(go list ./...); do \
		targets=$$(go test -list '^Fuzz' $$package) || { echo "$$targets"; exit 1; }; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) $$package || exit 1; \
		done; \
	done

clean: ## remove what build made
	rm -rf bin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
