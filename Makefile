# `make` alone prints this menu. Everything is built with one profile, --release, and from Cargo.lock.

CARGO := cargo
PROFILE := --release --locked
# Not by `cargo run`: for one package it chooses other features and builds everything again.
BIN := $(or $(CARGO_TARGET_DIR),target)/release
DIR ?=
QUICK ?=

.DEFAULT_GOAL := help
.PHONY: help setup build test test-containers demo up bench bench-scale bench-peers lint doc book clean

help: ## Print this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: RabbitMQ, Redis, clients for the tests (fast when nothing is)
	@.ci/setup

build: ## Build all programs into target/release
	$(CARGO) build $(PROFILE) --workspace --bins

test: setup build ## Run all tests, on private RabbitMQ and Redis servers
	$(CARGO) test $(PROFILE) --workspace

test-containers: build ## Test Dockerfile and docker-compose.yml in a Docker of our own (Linux, as root; pulls no image)
	@.ci/setup containers
	@tests/containers/run

demo: setup build ## Run a real job on a private system: checksums of a folder's files (DIR=…, default: this repository)
	@$(BIN)/taskyard-yard demo $(if $(DIR),--dir "$(DIR)")

up: setup build ## Start a private system and keep it until Ctrl-C
	@$(BIN)/taskyard-yard up

bench: setup build ## Measure throughput and latency on this machine
	@$(BIN)/taskyard-bench

bench-scale: setup build ## Measure how the cost grows with payloads, tasks under way, workers, waiting tasks (QUICK=1: fewer)
	@$(BIN)/taskyard-bench scale $(if $(QUICK),--quick)

bench-peers: setup build ## Measure Celery, Dramatiq, Taskiq and BullMQ beside it (QUICK=1: few tasks, to see that it works)
	@.ci/setup peers
	@$(BIN)/taskyard-bench peers $(if $(QUICK),--quick)

lint: ## Check formatting, and clippy without a warning
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --workspace --all-targets -- -D warnings

doc: ## Build the documentation of all crates, without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(PROFILE) --workspace --no-deps

book: ## Build the documentation for people into target/book/html, without a warning
	@.ci/setup book
	@rm -rf target/book && mkdir -p target/book/src
	@cp -r README.md ARCHITECTURE.md CHANGELOG.md LICENSE-* docs target/book/src/
	@sed -e 's|](\([a-z]\)|](docs/\1|' -e 's|](\.\./|](|' docs/SUMMARY.md > target/book/src/SUMMARY.md
	@target/tools/bin/mdbook build docs 2> target/book/log; cat target/book/log; \
		! grep -Eq 'WARN|ERROR|rror:' target/book/log && test -f target/book/html/index.html

clean: ## Remove everything that was built
	$(CARGO) clean
