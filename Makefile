# Targets of this repository; `make` alone lists them.
GO       ?= go
HOME_DIR ?= ./var
LABEL    := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
VERSIONS := 1.0 2.0

.DEFAULT_GOAL := help
.PHONY: help build run test race lint bench bench-log bench-ngword bench-deploys smoke echo-server fuzz generate clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(VERSIONS:%=bin/kms-%) bin/kmsctl ## build kmsctl and the server versions into bin/

# Go knows best what changed, so these always ask it.
.PHONY: bin/kmsctl bin/kms-smoke bin/kms-bench bin/kms-bench-log bin/kms-bench-ngword $(VERSIONS:%=bin/kms-%)
bin/kmsctl bin/kms-smoke bin/kms-bench bin/kms-bench-log bin/kms-bench-ngword: bin/%:
	@$(GO) build -ldflags "-X main.binaryVersion=$(LABEL)" -o $@ ./cmd/$*
$(VERSIONS:%=bin/kms-%): bin/kms-%:
	@$(GO) build -ldflags "-X main.label=$*.0+$(LABEL)" -o $@ ./versions/v$(subst .,_,$*)

run: build ## bring up a whole KMS in ./var (HOME_DIR=...), with a chat page; Ctrl-C stops it
	@.ci/install run
	@exec bin/kmsctl up --home $(HOME_DIR)

test: build ## everything, on both stores and both IRC servers, nothing skipped; installs what it needs
	@.ci/install test
	@.ci/with-mariadb .ci/test

race: ## what needs no other program, with the race detector
	$(GO) test -race ./...

lint: ## gofmt, go vet, staticcheck
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "gofmt would change: $$bad"; exit 1; }
	@$(GO) vet ./...
	@$(GO) tool staticcheck ./...

bench: build bin/kms-bench ## a whole KMS beside a bare floor, Nchan and tornado, ten minutes; BENCH=guild,world,idle,joins
	@.ci/install bench
	@code=0; bin/kms-bench --builds bin --only "$(BENCH)" $(BENCH_FLAGS) || code=1; \
	$(GO) test -run '^$$' -bench . -benchmem ./runtime/... ./versions/... || code=1; exit $$code

bench-log: build bin/kms-bench-log ## the message log, resume, two linked IRC servers and a noisy tenant, one JSON line per figure; BENCH=sqlite,mariadb,resume,linked,fairness
	@.ci/install test
	@.ci/with-mariadb bin/kms-bench-log --builds bin --only "$(BENCH)" $(BENCH_FLAGS)

bench-ngword: bin/kms-bench-ngword ## the NG-word filter and other libraries, one JSON line per figure; KMS_NGWORD_CASES=FILE adds cases
	@bin/kms-bench-ngword $(BENCH_FLAGS)

bench-deploys: build bin/kms-smoke ## swaps between two builds under load, one JSON line per figure; SWAPS=200 CLIENTS=1000
	@.ci/install run
	@bin/kms-smoke --builds bin --bench-deploys --swaps $(or $(SWAPS),200) --clients $(or $(CLIENTS),1000)

smoke: build bin/kms-smoke ## the whole story on real parts in under a minute; STORE=sqlite|mysql IRCD=inspircd|ngircd
	@.ci/install run
	@if [ "$(STORE)" = mysql ]; then .ci/install test && .ci/with-mariadb bin/kms-smoke --builds bin --store mysql --ircd "$(IRCD)"; \
	else bin/kms-smoke --builds bin --ircd "$(IRCD)"; fi

echo-server: ## a WebSocket echo on the UA's upgrader and reader, for outside test suites; ADDR=127.0.0.1:9001
	@$(GO) run ./runtime/hub/echo $(or $(ADDR),127.0.0.1:9001)

fuzz: ## every fuzz target for FUZZTIME (10s)
	@.ci/fuzz $(or $(FUZZTIME),10s)

generate: ## the plugin contract's Go code; needs protoc
	@mkdir -p bin/protoc && $(GO) build -o bin/protoc/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@cd runtime/plugin/pb && PATH="$(CURDIR)/bin/protoc:$$PATH" protoc --go_out=. --go_opt=paths=source_relative \
		--go-grpc_out=. --go-grpc_opt=paths=source_relative kms.proto

clean: ## remove bin/
	rm -rf bin
