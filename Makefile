# Everything a person or CI does with the project. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

# The genuine server, to import from and to measure against: apart, because its pins are not ours.
MLFLOW_VENV := .venv-mlflow
MLFLOW_STAMP := $(MLFLOW_VENV)/.installed
MLFLOW_VERSION := 3.17.2

# What we train with, for the peers that load it.
SCIKIT_LEARN = $$(grep '^scikit-learn==' requirements.lock)

# Another peer of `make bench`.
MLSERVER_VENV := .venv-mlserver
MLSERVER_STAMP := $(MLSERVER_VENV)/.installed
MLSERVER_VERSION := 1.7.1

# py-spy looks into running processes; only `make profile` needs it.
PROFILE_VENV := .venv-profile
PROFILE_STAMP := $(PROFILE_VENV)/.installed

# KServe's client, to test against, apart for the same reason.
KSERVE_VENV := .venv-kserve
KSERVE_STAMP := $(KSERVE_VENV)/.installed
KSERVE_VERSION := 0.21.0

# And Triton's.
TRITON_VENV := .venv-triton
TRITON_STAMP := $(TRITON_VENV)/.installed
TRITON_VERSION := 2.73.0

# Looks for known vulnerabilities and writes the bill of materials: apart, so that it isn't a part of what it lists.
AUDIT_VENV := .venv-audit
AUDIT_STAMP := $(AUDIT_VENV)/.installed
PIP_AUDIT_VERSION := 2.10.1
CYCLONEDX_VERSION := 7.5.0

# uv installs in half a minute what takes pip six, but does not read pip's settings: hand it pip's own wheel folder.
FIND_LINKS = $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null || true)
# Two, because each starts a PostgreSQL and an S3 of its own. Each begins with half of the tests, so that those of one
# module seldom start its server twice, and takes over of the other's when it is through.
TEST_PROCESSES ?= 2
PYTEST = $(VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist worksteal -q
UV = $(VENV)/bin/uv pip
UV_FLAGS = $(foreach place,$(FIND_LINKS),--find-links $(place))
HASH_FLAGS := --quiet --no-deps --python-version 3.11 --generate-hashes --no-emit-find-links --no-emit-index-url --no-annotate --no-header

.PHONY: help install serve demo flips chaos test test-all tests lint rules types check format clean loadtest lock hashes audit mlflow-server kserve-client triton-client bench-tracking bench profile wrk-is-there

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with everything in it, pinned by requirements.lock

$(STAMP): requirements.lock requirements.hashes pyproject.toml
	@echo "==> Making $(VENV) (half a minute on a fast line; once)"
	@# Without pip inside, because Debian's venv can't bring it; pip from outside installs uv there just as well.
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv --without-pip $(VENV)
	@test -x $(VENV)/bin/uv || $(PYTHON) -m pip --disable-pip-version-check --python $(VENV)/bin/python install --quiet uv
	@echo "==> Installing the pinned packages"
	@# A file that has none of the hashes for its pin is refused. They stand apart from the pins because pip, which knows
	@# hashes for a whole installation only, reads requirements.lock as constraints (docs/decisions/0009).
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) install $(UV_FLAGS) -r requirements.lock --constraint requirements.hashes
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) install --quiet --no-deps -e .
	@touch $@
	@echo "==> Ready: $(VENV)/bin/titlebout"

serve: $(STAMP) ## Run Titlebout at http://127.0.0.1:8080 with two example models
	@$(VENV)/bin/titlebout serve --example

demo: $(STAMP) ## The tour: train, register, split, flip under load; fails if anything did not hold
	@$(VENV)/bin/titlebout demo

flips: $(STAMP) ## 200 alias flips under 16 connections; prints requests, failures and the slowest flip
	@$(VENV)/bin/python -m loadtests.flips

chaos: $(STAMP) ## Faults, restarts, outages and overload under load; CHAOS="--quick", "--only overload --seed 7", "--soak"
	@$(VENV)/bin/python -m loadtests.chaos $(CHAOS)

test: $(STAMP) ## Run the tests that need no server of their own (under two minutes)
	@$(PYTEST)

test-all: $(STAMP) ## Run the tests with real servers, S3, transformers and load
	@$(PYTEST) -m "e2e or slow"

lint: rules types ## Formatting, rules, types, and which package may import which

rules: $(STAMP)
	@$(VENV)/bin/ruff format --check --quiet . && echo "formatted"
	@$(VENV)/bin/ruff check --quiet . && echo "ruff: clean"
	@$(VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive gateway registry loaders tracking && echo "bandit: clean"
	@$(VENV)/bin/lint-imports --no-cache
	@! git grep -nE '^(<<<<<<<|>>>>>>>) ' && echo "no marks of a merge"

types: $(STAMP)
	@nice $(VENV)/bin/mypy

# All tests in one run, in which everything is started once. Types are looked at beside them, in the time that they leave.
check: rules ## What CI runs: `lint`, and the tests of `test` and `test-all`
	@$(MAKE) --no-print-directory --jobs=2 types tests

tests: $(STAMP)
	@$(PYTEST) -m "" --durations=25

format: $(STAMP) ## Format, and mend what can be mended by itself
	@$(VENV)/bin/ruff format --quiet .
	@$(VENV)/bin/ruff check --fix .

clean: ## Remove the environment, caches and the data folder
	rm -rf $(VENV) $(MLFLOW_VENV) $(KSERVE_VENV) $(TRITON_VENV) $(MLSERVER_VENV) $(PROFILE_VENV) $(AUDIT_VENV) sbom.cdx.json profiles data .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

loadtest: $(STAMP) ## Load a running server (TITLEBOUT_URL) and fail if its SLO is not kept
	@$(VENV)/bin/python -m loadtests.run

mlflow-server: $(MLFLOW_STAMP) ## Make .venv-mlflow with the genuine MLflow server, for imports and benchmarks

$(MLFLOW_STAMP): $(STAMP)
	@echo "==> Making $(MLFLOW_VENV) with mlflow $(MLFLOW_VERSION)"
	@test -x $(MLFLOW_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(MLFLOW_VENV)
	@VIRTUAL_ENV=$(CURDIR)/$(MLFLOW_VENV) $(UV) install --quiet $(UV_FLAGS) mlflow==$(MLFLOW_VERSION) 'psycopg2-binary>=2.9' \
		$(SCIKIT_LEARN)
	@touch $@
	@echo "==> Ready: $(MLFLOW_VENV)/bin/mlflow"

kserve-client: $(KSERVE_STAMP) ## Make .venv-kserve with KServe's own client, for tests

$(KSERVE_STAMP): $(STAMP)
	@echo "==> Making $(KSERVE_VENV) with kserve $(KSERVE_VERSION)"
	@test -x $(KSERVE_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(KSERVE_VENV)
	@VIRTUAL_ENV=$(CURDIR)/$(KSERVE_VENV) $(UV) install --quiet $(UV_FLAGS) kserve==$(KSERVE_VERSION)
	@touch $@
	@echo "==> Ready: $(KSERVE_VENV)/bin/python"

triton-client: $(TRITON_STAMP) ## Make .venv-triton with Triton's own HTTP client, for tests

$(TRITON_STAMP): $(STAMP)
	@echo "==> Making $(TRITON_VENV) with tritonclient $(TRITON_VERSION)"
	@test -x $(TRITON_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(TRITON_VENV)
	@VIRTUAL_ENV=$(CURDIR)/$(TRITON_VENV) $(UV) install --quiet $(UV_FLAGS) 'tritonclient[http]==$(TRITON_VERSION)'
	@touch $@
	@echo "==> Ready: $(TRITON_VENV)/bin/python"

bench-tracking: $(STAMP) $(MLFLOW_STAMP) ## Measure tracking and registry beside the genuine server; BENCH="--quick" for a short look
	@$(VENV)/bin/python -m loadtests.tracking $(BENCH)

bench: wrk-is-there $(STAMP) $(MLFLOW_STAMP) $(MLSERVER_STAMP) ## Measure predictions beside other servers (wrk); BENCH="--quick" for a short look
	@$(VENV)/bin/python -m loadtests.scoring $(BENCH)

profile: wrk-is-there $(STAMP) $(PROFILE_STAMP) ## Flame graphs of each of Titlebout's processes under load, in profiles/
	@$(VENV)/bin/python -m loadtests.scoring --rows logistic --beside echo --profile profiles $(BENCH)

wrk-is-there:
	@command -v wrk >/dev/null || { echo "wrk isn't installed. It is a package of Debian's and Ubuntu's: apt-get install wrk" >&2; exit 1; }

$(MLSERVER_STAMP): $(STAMP)
	@echo "==> Making $(MLSERVER_VENV) with MLServer $(MLSERVER_VERSION)"
	@test -x $(MLSERVER_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(MLSERVER_VENV)
	@# Its workers ask for an event loop that newer uvloops don't make unasked.
	@VIRTUAL_ENV=$(CURDIR)/$(MLSERVER_VENV) $(UV) install --quiet $(UV_FLAGS) mlserver==$(MLSERVER_VERSION) \
		mlserver-sklearn==$(MLSERVER_VERSION) $(SCIKIT_LEARN) 'uvloop<0.22'
	@touch $@
	@echo "==> Ready: $(MLSERVER_VENV)/bin/mlserver"

$(PROFILE_STAMP): $(STAMP)
	@test -x $(PROFILE_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(PROFILE_VENV)
	@VIRTUAL_ENV=$(CURDIR)/$(PROFILE_VENV) $(UV) install --quiet $(UV_FLAGS) 'py-spy>=0.4.1'
	@touch $@

audit: $(STAMP) $(AUDIT_STAMP) ## Hold what is installed to the lock, look for known vulnerabilities, write sbom.cdx.json
	@$(VENV)/bin/python .ci/audit.py
	@$(AUDIT_VENV)/bin/cyclonedx-py environment $(VENV)/bin/python --pyproject pyproject.toml --output-reproducible \
		--output-file sbom.cdx.json
	@echo "ok    sbom.cdx.json lists what is installed, with licences (CycloneDX)"

$(AUDIT_STAMP): $(STAMP)
	@test -x $(AUDIT_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(AUDIT_VENV)
	@VIRTUAL_ENV=$(CURDIR)/$(AUDIT_VENV) $(UV) install --quiet $(UV_FLAGS) pip-audit==$(PIP_AUDIT_VERSION) \
		cyclonedx-bom==$(CYCLONEDX_VERSION)
	@touch $@

lock: ## Pin the newest versions that pyproject.toml admits
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) compile --quiet --upgrade $(UV_FLAGS) --all-extras --group dev --python-version 3.11 \
		--no-emit-find-links --no-emit-index-url --no-annotate --no-header -o requirements.lock pyproject.toml
	@# A wheel folder may carry the CPU build, whose local version exists nowhere else.
	@sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements.lock
	@$(MAKE) --no-print-directory hashes

hashes: ## Take down the hashes of what requirements.lock pins, as after adding a pin by hand
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) compile $(HASH_FLAGS) -o requirements.hashes requirements.lock
	@# The wheel folder's own build is the pinned version too, with a hash that the index doesn't know.
	@for wheel in $(wildcard $(addsuffix /torch-*.whl,$(FIND_LINKS))); do \
		case "$$(basename $$wheel)" in "$$(sed -n 's/^torch==/torch-/p' requirements.lock)"[+-]*) ;; *) continue ;; esac; \
		hash="sha256:$$(sha256sum $$wheel | cut -d ' ' -f 1)"; \
		grep --quiet $$hash requirements.hashes || sed -i "s/^torch==.*/&\n    --hash=$$hash \\\\/" requirements.hashes; \
	done
