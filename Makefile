# Flywheel: `make demo` runs the whole loop, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
export CGO_ENABLED ?= 0
export GOFLAGS ?= -mod=readonly
export GOTOOLCHAIN ?= local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X flywheel/internal/app.Version=$(VERSION)
TOOL := GOFLAGS=-mod=mod go tool -modfile=tools/go.mod
MODEL ?= local

.DEFAULT_GOAL := help
.PHONY: help demo dev build gen fmt lint test e2e bench check release local-model doctor

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

demo: build ## run the whole loop on a real model: MODEL=local (default), openai, anthropic or ollama
	@if [ "$(MODEL)" = local ]; then scripts/local-model; fi
	@bin/card-desk-demo --model $(MODEL)

dev: build ## run the server on .dev/ with debug logs
	bin/flywheel up --home .dev --log-level debug

build: ## build the binaries into bin/
	@go build -trimpath -ldflags '$(LDFLAGS)' -o bin/flywheel ./cmd/flywheel
	@go build -trimpath -ldflags '-s -w' -o bin/cards-server ./examples/card-desk/cards-server
	@go build -trimpath -ldflags '-s -w' -o bin/card-desk-demo ./examples/card-desk/demo

local-model: ## install the local model and its server into the cache (≈130 MB, once)
	@scripts/local-model

gen: ## write what is generated: OpenAPI, the reference of commands and errors
	go test ./internal/app -run 'TestOpenAPI|TestCommandReference|TestErrorReference' -update

fmt: ## format the sources
	@$(TOOL) gofumpt -l -w cmd internal spec client examples e2e bench

lint: ## formatting, vet and the linters
	@test -z "$$($(TOOL) gofumpt -l cmd internal spec client examples e2e bench | tee /dev/stderr)" || { echo 'run: make fmt'; exit 1; }
	@go vet ./...
	@$(TOOL) golangci-lint run ./...

test: ## unit, property, architecture and end-to-end tests
	@scripts/local-model || echo "local-model: not installed; its tests will say that they skip"
	go test -shuffle=on ./...

race: ## the tests again under the race detector
	@command -v $${CC:-cc} >/dev/null || { echo "race: there is no C compiler, which the race detector needs; skipped"; exit 0; }; \
	CGO_ENABLED=1 go test -race -short -shuffle=on ./internal/... ./client/... ./spec/...

e2e: build ## only the journeys of the real binary
	go test -count=1 ./e2e/...

bench: build ## measure what the README claims
	bench/run

check: lint test race ## everything that CI runs
	go mod verify >/dev/null
	@$(MAKE) --no-print-directory build

release: ## binaries for every platform, with checksums, in dist/
	@scripts/dist $(VERSION) '$(LDFLAGS)'
