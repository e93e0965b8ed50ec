# The few commands of this project; `make` alone lists them. What they need they set up first (scripts/setup).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(FLOTILLA_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/flotilla)
# RocksDB is compiled once per machine, not once per profile: every Cargo call links that archive.
export ROCKSDB_LIB_DIR := $(shell scripts/rocksdb-cache --path)
export ROCKSDB_STATIC := 1

# On a build machine every clone is new; what it compiled of others' crates stays warm beside the archive.
ifeq ($(CI),true)
export CARGO_TARGET_DIR := $(CACHE)/target-ci
export CARGO_INCREMENTAL := 0
TARGET_CI_MIB_MAX := 16384
endif

.PHONY: help setup run test verify check lint fix sim soak soak-raft teeth nemesis bench-sim exhaustive fuzz bench bench-raft bench-peers clean

help: # List the targets
	@awk -F ':.*# ' '/^[a-z-]+:.*# /{printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: # Install what a build needs (g++, libclang) and make RocksDB's archive, if missing
	@scripts/setup
ifeq ($(CI),true)
	@mkdir -p $(CARGO_TARGET_DIR)
	@if [ "$$(du -sm $(CARGO_TARGET_DIR) | cut -f1)" -gt $(TARGET_CI_MIB_MAX) ]; then rm -rf $(CARGO_TARGET_DIR); fi
endif

run: setup # Start a cluster of three stores and a placement driver on this machine
	cargo run --release --locked -p flotilla-cmd -- playground

test: setup # Run every test, the repository's own rules included
	@scripts/promtool >/dev/null
	@scripts/adya >/dev/null
	cargo test --workspace --locked

verify: check lint test # What every commit passes

check: setup # Compile everything, quickly
	cargo check --workspace --all-targets --locked

lint: setup # Check formatting, clippy, documentation, and dependencies (where cargo-deny is installed)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: skipped"; fi

fix: setup # Format, and apply what clippy can mend by itself; the only target that changes files
	cargo clippy --fix --allow-dirty --allow-staged --workspace --all-targets --locked
	cargo fmt --all

sim: setup # Replay one simulation seed with its full trace: make sim SEED=42
	cargo run --profile sim --locked -p flotilla-sim-cli -- run --seed $(or $(SEED),$(error say which: make sim SEED=42)) --trace

soak: setup soak-raft # Run new schedules of one Raft group, then new simulation seeds of clusters for a while: make soak MINUTES=10
	cargo run --profile sim --locked -p flotilla-sim-cli -- soak --minutes $(or $(MINUTES),10)

teeth: # Break the product's rules one by one, see that the simulator finds each, and write docs/teeth.md
	cargo run --profile sim --locked -p flotilla-sim-cli --features seeded_bugs -- teeth --page docs/teeth.md $(ARGS)

bench-sim: # Measure how many seeds of a large cluster run in a minute: make bench-sim ARGS='--seeds 20'
	cargo run --profile sim --locked -p flotilla-sim-cli -- bench $(ARGS)

soak-raft: # Run new schedules of one Raft group: make soak-raft SCHEDULES=1000000 RAFT_FIRST=5000000
	RAFT_SCHEDULES=$(or $(SCHEDULES),$(or $(MINUTES),10)00000) RAFT_FIRST=$(or $(RAFT_FIRST),2000000) \
		cargo test --release --locked -p flotilla-raft --test simulation short_schedules -- --nocapture

exhaustive: # Try all that can happen to a small Raft group, millions of worlds, in a few minutes
	RAFT_EXHAUSTIVE=1 cargo test --release --locked -p flotilla-raft --test exhaustive wide -- --nocapture

fuzz: # Let libFuzzer draw bytes for decoders and a Raft group: make fuzz TARGET=step SECONDS_EACH=60
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	@# What cargo-fuzz asks of the compiler is not stable; the product is never built so.
	cd fuzz && for target in $(or $(TARGET),raft_message wire_message frames step); do \
		mkdir -p found/$$target; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . --sanitizer none $$target found/$$target corpus/$$target \
			-- -max_total_time=$(or $(SECONDS_EACH),300) -max_len=400; \
	done

bench: setup # Measure, in release: raw keys and transactions, or make bench SUITE=quick
	for suite in $(or $(SUITE),quick txn); do cargo run --release --locked -p flotilla-cmd -- bench --suite $$suite || exit 1; done

bench-raft: # Measure the Raft core beside raft-rs, doing the same work in turns: make bench-raft ARGS=--quick
	cd tests/raft-bench && cargo run --release --locked -- --results ../../bench-results $(ARGS)

bench-peers: setup # Measure beside etcd, PostgreSQL and the bare disk, then our suites, and write docs/performance.md and the README's table: make bench-peers ARGS='--rounds 3'
	tests/peer-bench/setup
	cargo build --release --locked -p flotilla-cmd
	binary=$$(realpath $(or $(CARGO_TARGET_DIR),target))/release/flotilla && cd tests/peer-bench && cargo run --release --locked -- \
		--flotilla $$binary --results ../../bench-results --page ../../docs/performance.md --readme ../../README.md \
		--suites ycsb,tails,regions $(ARGS)

nemesis: setup # Kill, freeze and cut off real stores while a bank and lists are written, then judge both: make nemesis MINUTES=10
	FLOTILLA_NEMESIS_MINUTES=$(or $(MINUTES),10) cargo test --release --locked -p flotilla-tests --test process -- --exact nemesis::nemesis --nocapture

clean: # Remove what was built; RocksDB's archive stays
	cargo clean
