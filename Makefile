# `make` alone lists what there is to do.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO ?= cargo

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: servers
servers: ## Installs the servers that tests and the demo need into .servers
	@scripts/servers

.PHONY: demo-servers
demo-servers:
	@scripts/servers demo

.PHONY: browser
browser:
	@scripts/servers browser

.PHONY: test
test: servers browser ## Runs every test
	$(CARGO) test --workspace --doc
	@scripts/nextest run --workspace

# T is a part of its name, such as T=random or T=power_cut::readers. What it prints is shown, and it runs once.
.PHONY: test-one
test-one: servers ## Runs the tests whose names contain T=name, and shows what they print
	@scripts/nextest run --workspace --no-capture --retries 0 -E 'test($(or $(T),$(error which one? make test-one T=name)))'

# RHIO_CRASH_SEED=… makes the same choices again.
.PHONY: soak
soak: servers ## Crashes and power cuts at random for SECONDS=600 each
	RHIO_CRASH_SECONDS=$(or $(SECONDS),600) $(CARGO) test --workspace --test crash random -- --nocapture --test-threads=1
	$(CARGO) test --workspace --test buckets soak -- --ignored

.PHONY: chart
chart: servers ## Checks the Helm chart with helm, Kubernetes' schemas, promtool, and rhio on what it renders
	@[ -n "$$RHIO_BIN" ] || $(CARGO) build --bin rhio
	@scripts/chart

.PHONY: image-check
image-check: ## Lints the Dockerfile and the workflows, and looks at what a build would get
	@scripts/image

.PHONY: fuzz
fuzz: ## Fuzzes one TARGET=applier for SECONDS=60; their names are in fuzz/src/lib.rs
	fuzz/run $(or $(TARGET),applier) $(or $(SECONDS),60)

.PHONY: lint
lint: ## Checks the format, and clippy with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

.PHONY: deny
deny: ## Checks where dependencies come from, their licences and versions (ARGS=advisories: known holes)
	@scripts/deny $(or $(ARGS),bans licenses sources)

# Built without naming packages, as tests are, so that dependencies are compiled once for both.
.PHONY: demo
demo: demo-servers ## Two clusters on this machine, replicating until Ctrl-C (ONCE=1: ends by itself)
	@$(CARGO) build --bin rhio --bin demo
	@$(CARGO) run --quiet --bin demo -- $(if $(filter 1 yes true,$(ONCE)),--once)

.PHONY: bench
bench: demo-servers ## Measures speed beside NATS's own replication and rclone (ARGS=--quick, ARGS=--help)
	@$(CARGO) build --release --bin rhio --bin bench
	@$(CARGO) run --quiet --release --bin bench -- $(ARGS)

.PHONY: clean
clean: ## Removes what was built and the installed servers
	$(CARGO) clean
	rm -rf .servers
