# Everything a newcomer needs. Each target does its own set-up; on Debian 12 as root or with sudo.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
ARGS ?=
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11
CORPUS ?= ../shared/conformance

.PHONY: help demo test unit lint lab conformance bench soak lock clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.ready: requirements.lock requirements-build.lock pyproject.toml
	@python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  $(SUDO) apt-get update -qq && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv; }
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.ready ## a small mail world on this machine plays a story, in two minutes (ARGS=--once)
	$(BIN)/mailcanary demo $(ARGS)

test: lint ## everything: unit, contract, and the lab of real servers
	tests/lab/install.sh prometheus browser
	MAILCANARY_LAB=required $(BIN)/python -m pytest -n 4 --dist worksteal --reruns 1 $(ARGS)

unit: $(VENV)/.ready ## the fast part of the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit tests/contract $(ARGS)

lint: $(VENV)/.ready ## ruff, mypy strict, and the three floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

lab: $(VENV)/.ready ## real servers on loopback, left running, with a config to try things by hand
	tests/lab/install.sh
	$(BIN)/python -m tests.lab.world

conformance: $(VENV)/.ready ## public test data: one line a set (CORPUS=folder)
	$(BIN)/python -m tests.conformance --corpus $(CORPUS)

bench: $(VENV)/.ready ## figures as ratios beside their goals (ARGS=probe, store, headers, ...)
	tests/lab/install.sh bench
	@[ -d .cache/node/node_modules/mailauth ] || ! command -v npm >/dev/null || \
	  npm install --silent --no-audit --no-fund --prefix .cache/node mailauth@4
	$(BIN)/python -m tests.bench $(ARGS)

soak: $(VENV)/.ready ## the full forms of the guarantees (ARGS="G5 N=300")
	tests/lab/install.sh
	$(BIN)/python -m tests.guarantees $(ARGS)
	[ -n "$(ARGS)" ] || HYPOTHESIS_PROFILE=full $(BIN)/python -m pytest -n 2 --dist worksteal tests/unit

lock: ## pin every dependency again, with hashes and without an index address
	$(BIN)/pip install --quiet uv
	$(COMPILE) pyproject.toml --all-extras -o requirements.lock
	printf 'setuptools\nwheel\n' | $(COMPILE) - -c requirements.lock -o requirements-build.lock

clean: ## the environment and every cache
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
