# CocoER on Triton. `make` lists the targets; every one can be run again.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# More flags for pip, for instance the index of PyTorch's CPU builds: PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_FLAGS ?=
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo engines serve test lint bench clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"Python 3.10 to 3.12 is needed, $(PYTHON) is {v[0]}.{v[1]}; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.setup: requirements.txt setup.cfg pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about a minute) ..."
	@$(PIP) install --quiet $(PIP_FLAGS) -r requirements.txt
	@$(PIP) install --quiet $(PIP_FLAGS) --no-deps --editable .
	@touch $@

$(VENV)/.setup-dev: requirements-dev.txt $(VENV)/.setup
	@echo "Installing what the tests need ..."
	@$(PIP) install --quiet $(PIP_FLAGS) -r requirements-dev.txt
	@$(PIP) install --quiet $(PIP_FLAGS) --no-deps insightface==2.1
	@touch $@

setup: $(VENV)/.setup  ## Install everything that building, serving and asking need into .venv

setup-dev: $(VENV)/.setup-dev  ## The same, and what the tests and linters need

engines: setup  ## Build engines from checkpoints/ (random weights if there are none)
	$(RUN) export/build_engines.py --synthetic

demo: setup  ## Build what is missing, serve it, send the sample picture through it, stop the server
	@$(RUN) -m serving.demo

serve: engines  ## Serve model_repository on this machine until Ctrl-C
	$(VENV)/bin/tritonserver --model-repository model_repository

test: setup-dev  ## All tests, with a real server
	$(RUN) -m pytest

lint: setup-dev  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: setup  ## Measure this machine (about 15 minutes); writes benchmarks/results
	$(RUN) benchmarks/run.py

clean:  ## Remove the environment, caches and outputs (weights and engines stay)
	rm -rf $(VENV) .cache outputs .pytest_cache .mypy_cache .ruff_cache *.egg-info
