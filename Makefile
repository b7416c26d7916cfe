# `make` alone prints this menu. Everything is built with one profile, --release, and from Cargo.lock.

CARGO := cargo
PROFILE := --release --locked
# Not by `cargo run`: for one package it chooses other features and builds everything again.
BIN := $(or $(CARGO_TARGET_DIR),target)/release
DIR ?=
QUICK ?=

.DEFAULT_GOAL := help
.PHONY: help setup build test demo up bench bench-peers lint doc clean

help: ## Print this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: RabbitMQ, Redis, clients for the tests (fast when nothing is)
	@.ci/setup

build: ## Build all programs into target/release
	$(CARGO) build $(PROFILE) --workspace --bins

test: setup build ## Run all tests, on private RabbitMQ and Redis servers
	$(CARGO) test $(PROFILE) --workspace

demo: setup build ## Run a real job on a private system: checksums of a folder's files (DIR=…, default: this repository)
	@$(BIN)/taskyard-yard demo $(if $(DIR),--dir "$(DIR)")

up: setup build ## Start a private system and keep it until Ctrl-C
	@$(BIN)/taskyard-yard up

bench: setup build ## Measure throughput and latency on this machine
	@$(BIN)/taskyard-bench

bench-peers: setup build ## Measure Celery, Dramatiq, Taskiq and BullMQ beside it (QUICK=1: few tasks, to see that it works)
	@.ci/setup peers
	@$(BIN)/taskyard-bench peers $(if $(QUICK),--quick)

lint: ## Check formatting, and clippy without a warning
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --workspace --all-targets -- -D warnings

doc: ## Build the documentation of all crates, without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(PROFILE) --workspace --no-deps

clean: ## Remove everything that was built
	$(CARGO) clean
