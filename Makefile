# One command for each thing one does here; `make help` lists them.
#
# Each does its own set-up in .venv, from Python 3.11 and nothing else, and costs a moment when that is done.
# Variables: PYTHON (which Python makes .venv), VENV, TORCH (what to ask pip for, see README.md), CHROMIUM,
# SAE_LAB_CACHE (where models and activations are kept; the user's cache folder when it is not set).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:  # two phases side by side would fight for the cores

VENV ?= .venv
NOTEBOOK ?= notebooks/01-quickstart.ipynb
export VENV PYTHON TORCH

BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
PHASE := @bash tools/phase.sh
SOURCES := sae_lab tests tools notebooks benchmarks docs
# `make TORCH=...` asks for a torch, so it is looked at anew; otherwise the stamps decide.
ASKED := $(if $(TORCH),again)

.PHONY: help demo lab test test-fast lint format unit browser notebooks docs clean again

help:  ## Show this list
	@sed -nE 's/^([a-z-]+):.*  ## (.*)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -nE 's/^([a-z-]+):.*  ## (.*)/  make \1  \2/p' Makefile

demo: $(VENV)/.ready-demo  ## Run the quickstart notebook and write build/quickstart.html
	@$(BIN)/python tools/demo.py $(NOTEBOOK) --into build

lab: $(VENV)/.ready-demo  ## Open the quickstart notebook in JupyterLab
	@$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(NOTEBOOK)

test: lint docs unit browser notebooks  ## Run everything that CI runs

test-fast: $(VENV)/.ready-test  ## Run the quick unit tests, for the daily loop
	$(PHASE) "quick unit tests" $(PYTEST) tests --ignore tests/browser -p no:playwright -q -m "not slow"

lint: $(VENV)/.ready-test  ## Check style and types
	$(PHASE) "ruff: rules" $(BIN)/ruff check $(SOURCES)
	$(PHASE) "ruff: format" $(BIN)/ruff format --check $(SOURCES)
	$(PHASE) "mypy" $(BIN)/mypy

format: $(VENV)/.ready-test  ## Format the code and sort the imports
	@$(BIN)/ruff check --select I --fix --quiet $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

unit: $(VENV)/.ready-test  ## Run the unit tests
	$(PHASE) "unit tests" $(PYTEST) tests --ignore tests/browser -p no:playwright -q --durations=10

browser: $(VENV)/.ready-test  ## Run the widgets' tests in a real browser
	@CHROMIUM="$$(bash tools/chromium.sh)"; export CHROMIUM; \
		bash tools/phase.sh "browser tests" $(PYTEST) tests/browser -q --durations=5

notebooks: $(VENV)/.ready-test  ## Run every notebook and compare the cells that are marked for it
	$(PHASE) "notebooks" $(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout 300 --timeout 600 \
		-p no:playwright -q notebooks

docs: $(VENV)/.ready-test  ## Build the documentation into docs/_build/html; a warning is an error
	$(PHASE) "documentation" $(BIN)/python -m sphinx -b html -W --keep-going -q -j 1 docs docs/_build/html

clean:  ## Remove what was built; .venv and the caches of models and activations stay
	@rm -rf build dist docs/_build docs/_generated docs/reference docs/tutorials docs/methods docs/quickstart.ipynb .pytest_cache .ruff_cache .mypy_cache test-results
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(VENV)/.ready-demo: pyproject.toml constraints.txt tools/install.sh $(ASKED)
	@bash tools/install.sh . jupyterlab nbclient
	@touch $@

$(VENV)/.ready-test: pyproject.toml constraints.txt tools/install.sh $(ASKED)
	@bash tools/install.sh ".[test,docs,dev]"
	@touch $@ $(VENV)/.ready-demo  # all that the demo needs is among it
