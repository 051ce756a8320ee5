# Go and a C compiler are all that is needed.
GO       ?= go
GOLANGCI := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BUF      := GOFLAGS= $(GO) run github.com/bufbuild/buf/cmd/buf@v1.50.0

.PHONY: all demo test test-dbt matrix test-browser test-bigquery test-emulator test-googlesql test-bigquery-live test-vault test-s3 soak soak-privacy damaged-consent prove check bench bench-collector bench-models bench-sync scale fuzz consent-vectors lint crawlers golden proto guestbook clean

# Build both programs into bin/. The collector is static: no cgo.
all:
	$(GO) build -trimpath -o bin/sluis ./cmd/sluis
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/sluis-collector ./cmd/sluis-collector

# See the whole product work. ONCE=1 ends by itself, and fails if a promise is broken.
# WAREHOUSE=bigquery works in BigQuery's stead with an emulator of it, which needs Python.
demo: all
ifeq ($(WAREHOUSE),bigquery)
	$(GO) run ./sql/bigquery/emulator/with bin/sluis demo --bigquery demo $(if $(ONCE),--once)
else
	bin/sluis demo $(if $(ONCE),--once)
endif

# Canary data through the whole path, then a scan of every byte written. WORKSPACE=… tries a copy of your configuration.
prove: all
	bin/sluis prove $(if $(WORKSPACE),--workspace '$(WORKSPACE)')

# All tests, with the race detector.
test:
	$(GO) test -race -timeout 60m ./...

# The compatibility matrix: real SDKs, unchanged, send to a running `sluis up`; what landed is compared with what was sent.
# Needs Node.js, Python and Chromium. SDK=… runs those whose name matches.
matrix:
	cmd/sluis/testdata/sdk/install
	$(GO) test -count=1 -tags sdk -timeout 30m -run TestSDKs -v ./cmd/sluis $(if $(SDK),-sdk '$(SDK)')

# The script, the demo's page and the page of the models in a real browser; needs Debian's package chromium. Pictures of the page are below bin/_artifacts.
test-browser:
	@mkdir -p bin
	$(GO) test -count=1 -tags browser -timeout 20m ./collector/snippet
	$(GO) test -count=1 -tags browser -timeout 10m -artifacts -outputdir bin -run InChromium -v ./cmd/sluis ./sql/runner/docs

# Driver, landing, models, syncer and demo against a BigQuery emulator (needs Python), and all SQL before GoogleSQL
# (a slow build).
ON_BIGQUERY = test -count=1 -tags bigquery -timeout 60m -run 'OnBigQuery|TestDriver|TestValues|TestSetup|TestLargeResult' \
	./sql/bigquery ./collector/bigquery ./sql/runner ./sync ./cmd/sluis
test-bigquery: test-emulator test-googlesql
test-emulator:
	$(GO) $(ON_BIGQUERY)
test-googlesql:
	cd sql/googlesql && $(GO) test ./...

# The models under real dbt, of both generations: each table is what `sluis models run` makes. Needs Python and npm.
test-dbt: all
	.ci/dbt

# The destination file against a real S3 server, which takes two minutes to build the first time.
test-s3:
	$(GO) test -count=1 -tags s3 -timeout 20m ./plugins/file

# The keyring in a real Vault, which takes minutes to build.
test-vault:
	$(GO) test -count=1 -timeout 60m -tags vault -run TestRealVault -v ./consent/seal/vault

# The same in a project of your own that is for tests alone: its datasets sluis, sluis_models and sluis_sync are removed.
LOCATION ?= EU
test-bigquery-live:
	@test -n "$(PROJECT)" || { echo "usage: make test-bigquery-live PROJECT=my-test-project [LOCATION=EU]" >&2; exit 2; }
	SLUIS_TEST_BIGQUERY_PROJECT=$(PROJECT) SLUIS_TEST_BIGQUERY_LOCATION=$(LOCATION) $(GO) $(subst -timeout 60m,-timeout 6h -p 1,$(ON_BIGQUERY))

# Everything that can fail, until it has: the program killed under load KILLS times, each byte of a segment damaged,
# each call of the disk failing in each way, a disk that is really full; the collector, BigQuery's stand-in and the
# connections between them killed ROUNDS times; and a sync's process, plugin, warehouse or destination killed, cut off or
# stopped CRASHES times. An hour. With DIR=… the first goes on where it was interrupted.
soak: KILLS ?= 2000
soak: ROUNDS ?= 200
soak: CRASHES ?= 600
soak:
	$(if $(DIR),mkdir -p $(DIR) && SLUIS_SOAK_DIR=$(abspath $(DIR))) SLUIS_KILLS=$(KILLS) $(GO) test -count=1 -timeout 120m -run TestKilledCollectorLosesNothing -v ./cmd/sluis
	SLUIS_THOROUGH=1 $(IN_MEMORY) $(GO) test -count=1 -timeout 60m -run 'TestDiskFaultAtEveryCall|TestEveryByteOfASegment' -v ./collector
	$(GO) test -count=1 -tags fulldisk -run TestReallyFullDisk -v ./collector
	SLUIS_ROUNDS=$(ROUNDS) $(GO) test -race -count=1 -timeout 60m -run Killed -v ./collector/bigquery
	SLUIS_CRASHES=$(CRASHES) $(GO) test -count=1 -timeout 120m -run TestKilledAnywhere -v ./sync

# What the privacy rests on, at full size: 16 goroutines seal a million values each, without a nonce twice; ten million damaged
# consent strings; a million pseudonyms are carried over to another key.
soak-privacy:
	SLUIS_SEALS=1000000 SLUIS_SEAL_KILLS=200 $(GO) test -race -count=1 -timeout 60m -run TestNonces -v ./consent/seal
	$(MAKE) damaged-consent
	SLUIS_ROTATE=1000000 $(GO) test -count=1 -timeout 60m -run TestRotationKeepsJoins -v ./cmd/sluis

# Consent strings damaged at random, ten times DAMAGED in all: no decoder panics or grants what was not there.
DAMAGED ?= 1000000
damaged-consent:
	$(GO) test -count=1 -timeout 60m -run TestDamaged -v ./consent/tcf -tcf.damaged $$((4 * $(DAMAGED)))
	$(GO) test -count=1 -timeout 60m -run TestDamaged -v ./consent/gpp -gpp.damaged $$((4 * $(DAMAGED)))
	$(GO) test -count=1 -timeout 60m -run TestDamaged -v ./consent/cmp -cmp.damaged $$((2 * $(DAMAGED)))

# Temporary files of tests in memory, where that can be: those of damage need no disk that keeps them.
IN_MEMORY = $(if $(wildcard /dev/shm/.),TMPDIR=/dev/shm GOTMPDIR=$(or $(TMPDIR),/tmp))

# What a change must pass.
check: lint test
	$(GO) vet ./...
	test -z "$$(gofmt -l . | tee /dev/stderr)"

# Speeds, side by side with a reference where there is one.
bench:
	$(GO) test -run '^$$' -bench . -benchtime 1s ./collector/... ./consent/... ./sync ./plugins/host ./plugins/postgres ./sql/runner

# The collector under load beside references, in one run: some ten minutes. ROUNDS=1 is quicker and less certain.
bench-collector: all
	$(GO) run ./cmd/internal/bench $(if $(ROUNDS),-rounds $(ROUNDS))

# The syncer on the embedded warehouse: the plugin boundary, PostgreSQL behind it, a first run of SIZE rows to files and to PostgreSQL,
# and of 1 and 10 million rows that were sent before a plan of 0.1 % changes and its apply, beside the disk, DuckDB and COPY in one run.
bench-sync:
	$(GO) run ./cmd/internal/benchsync -rows $(SIZE)

# The models on the embedded warehouse: a full build, its tests, and a build after 1 % more. DIR=… keeps what landed for the next time.
SIZE ?= 1000000
bench-models:
	$(GO) run ./cmd/internal/benchmodels -events $(SIZE) $(if $(DIR),-dir '$(DIR)')

# Calculate the tables of SCALE.md anew.
scale:
	$(GO) run ./cmd/internal/scale SCALE.md

# Each fuzzer for FUZZTIME. What it finds it writes to testdata/fuzz, where `make test` tries it again.
FUZZTIME ?= 20s
FUZZ ?= ./...
fuzz:
	@set -e; for pkg in $$($(GO) list $(FUZZ)); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(IN_MEMORY) $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s $$pkg; \
	  done; done

# The decoders of consent strings against the IAB's own encoders: random strings, made anew. Needs Node.js.
SEED ?= $(shell date +%s)
VECTORS := consent/testdata/vectors
consent-vectors:
	cd $(VECTORS) && npm ci --silent --no-audit --no-fund --ignore-scripts
	@mkdir -p bin
	node $(VECTORS)/tcf.mjs $(SEED) 2500 >bin/tcf.jsonl
	node $(VECTORS)/gpp.mjs $(SEED) 1500 >bin/gpp.jsonl
	$(GO) test -count=1 -v -run TestAgainstTheEncoderOfTheIAB ./consent/tcf -tcf.vectors $(abspath bin/tcf.jsonl)
	$(GO) test -count=1 -v -run TestAgainstTheEncoderOfTheIAB ./consent/gpp -gpp.vectors $(abspath bin/gpp.jsonl)

# All modules must be tidy: those of sql/googlesql and of the third party need this one, and so go stale when this one's requirements change.
lint:
	$(GO) mod tidy -diff
	cd sql/googlesql && $(GO) mod tidy -diff
	cd $(GUESTBOOK) && $(GO) mod tidy -diff
	$(GOLANGCI) run

# Take the list of crawlers anew from where it is kept; then read the difference, and run the tests of collector/visitor:
# none of its patterns may find a browser of a person. Needs npm.
CRAWLERS ?= 1.60.0
crawlers:
	set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	npm pack --silent --pack-destination "$$dir" crawler-user-agents@$(CRAWLERS); tar -xzf "$$dir"/*.tgz -C "$$dir"; \
	cd collector/visitor; $(GO) run gen.go "$$dir/package/crawler-user-agents.json" $(CRAWLERS)

# Write the golden files anew; then read the difference.
golden:
	$(GO) test ./collector ./sql/runner -update

# Generate the protocol's code.
proto:
	cd plugins/proto && $(BUF) lint && $(BUF) breaking --against destination/v1/testdata/released.binpb && $(BUF) generate

# The module of a third party that tests build: as `sluis destinations new` writes it now, and tidy.
GUESTBOOK := cmd/sluis/testdata/guestbook
guestbook:
	dir=$$(mktemp -d) && $(GO) run ./cmd/sluis destinations new --sdk ../../../.. --dir $$dir/guestbook guestbook && cp $$dir/guestbook/* $(GUESTBOOK)/ && rm -rf $$dir
	cd $(GUESTBOOK) && $(GO) mod tidy

clean:
	rm -rf bin
