# `make` alone lists what there is to do.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO ?= cargo

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: servers
servers: ## Installs the servers that tests and the demo need into .servers
	@scripts/servers

.PHONY: test
test: servers ## Runs every test
	$(CARGO) test --workspace

.PHONY: lint
lint: ## Checks the format, and clippy with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# Built without naming packages, as tests are, so that dependencies are compiled once for both.
.PHONY: demo
demo: servers ## Two clusters on this machine, replicating until Ctrl-C (ONCE=1: ends by itself)
	@$(CARGO) build --bin rhio --bin demo
	@$(CARGO) run --quiet --bin demo -- $(if $(filter 1 yes true,$(ONCE)),--once)

.PHONY: bench
bench: servers ## Measures speed beside NATS's own replication
	$(CARGO) run --release -p rhio-bench

.PHONY: clean
clean: ## Removes what was built and the installed servers
	$(CARGO) clean
	rm -rf .servers
