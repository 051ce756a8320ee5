# Go and a C compiler are all that is needed.
GO       ?= go
GOLANGCI := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BUF      := GOFLAGS= $(GO) run github.com/bufbuild/buf/cmd/buf@v1.50.0

.PHONY: all demo test test-bigquery check bench fuzz lint golden proto clean

# Build both programs into bin/. The collector is static: no cgo.
all:
	$(GO) build -trimpath -o bin/sluis ./cmd/sluis
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/sluis-collector ./cmd/sluis-collector

# See the whole product work. ONCE=1 ends by itself, and fails if a promise is broken.
demo: all
	bin/sluis demo $(if $(ONCE),--once)

# All tests, with the race detector.
test:
	$(GO) test -race ./...

# The driver and all models against a BigQuery emulator (needs Python), and all SQL before GoogleSQL (a slow build).
test-bigquery:
	$(GO) test -tags bigquery ./sql/bigquery/...
	$(GO) test -tags bigquery -run OnEmulator ./collector/bigquery
	$(GO) test -tags bigquery -run OnBigQuery ./sql/runner
	cd sql/googlesql && $(GO) test ./...

# What a change must pass.
check: lint test
	$(GO) vet ./...
	test -z "$$(gofmt -l . | tee /dev/stderr)"

# Speeds, side by side with a reference where there is one.
bench:
	$(GO) test -run '^$$' -bench . -benchtime 1s ./collector/... ./consent/... ./sync ./plugins/host ./sql/runner

# Each fuzzer for FUZZTIME.
FUZZTIME ?= 20s
fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

lint:
	$(GOLANGCI) run

# Write the golden files anew; then read the difference.
golden:
	$(GO) test ./collector ./sql/runner -update

# Generate the protocol's code; needs protoc-gen-go and protoc-gen-go-grpc in PATH.
proto:
	cd plugins/proto && $(BUF) lint && $(BUF) generate

clean:
	rm -rf bin
