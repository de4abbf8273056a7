# Everything a person or CI does with the project. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

# uv installs in half a minute what takes pip six, but does not read pip's settings: hand it pip's own wheel folder.
FIND_LINKS = $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null || true)
UV = $(VENV)/bin/uv pip
UV_FLAGS = $(foreach place,$(FIND_LINKS),--find-links $(place))

.PHONY: help install serve test test-all demo loadtest format lint check lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with everything in it, pinned by requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@echo "==> Making $(VENV) (half a minute on a fast line; once)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@echo "==> Installing the pinned packages"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) install $(UV_FLAGS) -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) install --quiet --no-deps -e .
	@touch $@
	@echo "==> Ready: $(VENV)/bin/titlebout"

loadtest: $(STAMP) ## Load a running server (TITLEBOUT_URL) and fail if its SLO is not kept
	@$(VENV)/bin/python -m loadtests.run

lock: ## Pin the newest versions that pyproject.toml admits
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) compile --quiet --upgrade $(UV_FLAGS) --all-extras --group dev --python-version 3.11 \
		--no-emit-find-links --no-emit-index-url --no-annotate --no-header -o requirements.lock pyproject.toml
	@# A wheel folder may carry the CPU build, whose local version exists nowhere else.
	@sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements.lock
