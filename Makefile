# CocoER on Triton. `make` lists the targets and variables; every target can be run again.

##  PYTHON=python3    the interpreter that .venv is made with, 3.10 to 3.12
PYTHON ?= python3
##  PIP_FLAGS=        more flags for pip, such as "--extra-index-url https://download.pytorch.org/whl/cpu" (PyTorch without CUDA)
PIP_FLAGS ?=
##  WORKERS=2         of make test and test-full: processes; servers are waited for, so more than there are cores are of use
WORKERS ?= 2
##  SEED=1            of make fuzz: which files
SEED ?= 1
##  DEVICE=cuda       of make gpu-report: cuda, or cpu to try the script without a GPU
DEVICE ?= cuda
##  PORT=8080         of make web: where the page is, on this machine
PORT ?= 8080
##  TRITON=           of make conformance: HTTP address of a server that runs already, as in localhost:8000
TRITON ?=
##  PORTS=            of make conformance: its ports of gRPC and metrics, as in 8001,8002 (the next two after HTTP's)
PORTS ?=
##  BACKENDS=         of make conformance: a directory of backends for the servers that it starts
BACKENDS ?=
##  TOLERANCE=        of make conformance: of logits (1e-4; 2e-2 where the server's build is not FP32)
TOLERANCE ?=

VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
RUN := $(VENV)/bin/python
TOOLS := .cache/tools
# Every package has its hash in a lock file; nothing else is installed.
LOCKED = --require-hashes --no-deps $(PIP_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help setup setup-batch setup-openvino setup-dev demo web engines serve test test-unit test-pythons test-full conformance fuzz soak lint format bench ordeal gpu-report \
	lock audit clean

help:  ## List the targets and variables
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo; echo "Variables, as in make setup PYTHON=python3.12:"
	@sed -n 's/^##  //p' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"Python 3.10 to 3.12 is needed, $(PYTHON) is {v[0]}.{v[1]}; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.setup: requirements.lock requirements-torch-cpu.lock requirements-torch-cuda.lock setup.cfg pyproject.toml client/pyproject.toml tools/checkout.py tools/install_torch.py | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about a minute) ..."
	@$(PIP) install --quiet $(LOCKED) -r requirements.lock
	@$(RUN) tools/install_torch.py $(PIP_FLAGS)
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable ./client --editable .
	@touch $@

$(VENV)/.setup-batch: requirements-batch.lock $(VENV)/.setup
	@echo "Installing Ray ..."
	@$(PIP) install --quiet $(LOCKED) -r requirements-batch.lock
	@touch $@

$(VENV)/.setup-openvino: requirements-openvino.lock $(VENV)/.setup
	@echo "Installing OpenVINO ..."
	@$(PIP) install --quiet $(LOCKED) -r requirements-openvino.lock
	@touch $@

$(VENV)/.setup-dev: requirements-dev.lock tools/prometheus.py $(VENV)/.setup-batch $(VENV)/.setup-openvino
	@echo "Installing what the tests need ..."
	@$(PIP) install --quiet $(LOCKED) -r requirements-dev.lock
	@$(RUN) -m tests.tensorrt_api
	-@$(RUN) tools/prometheus.py  # where there is neither Prometheus nor apt, two test modules say so
	@touch $@

$(TOOLS)/.setup: requirements-tools.lock
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip --disable-pip-version-check install --quiet $(LOCKED) -r requirements-tools.lock
	@touch $@

setup: $(VENV)/.setup  ## Install everything that building, serving and asking need into .venv

setup-batch: $(VENV)/.setup-batch  ## The same, and Ray, for client/batch.py

setup-openvino: $(VENV)/.setup-openvino  ## The same as setup, and OpenVINO, for --precision bf16

setup-dev: $(VENV)/.setup-dev  ## The same, and what the tests and linters need

engines: setup  ## Build the models from checkpoints/ (random weights if there are none)
	$(RUN) export/build_engines.py --synthetic

demo: setup  ## Build what is missing, serve it, send the sample image through it, stop the server
	@$(RUN) -m serving.demo

web: setup  ## Build what is missing, serve it with a page and a REST interface in front, until Ctrl-C (PORT)
	@$(RUN) -m serving.web --port $(PORT)

serve: engines  ## Serve model_repository on this machine until Ctrl-C
	$(VENV)/bin/tritonserver --model-repository model_repository

test: setup-dev  ## All tests, with real servers, in two processes (WORKERS)
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-unit: setup-dev  ## The tests that need neither a server nor the network, in two processes
	$(RUN) -m pytest tests/unit -n 2

test-pythons: setup-dev  ## The client's wheel in each Python 3.10 to 3.14 that is there, with the newest of what it needs
	CLIENT_PYTHONS="3.10 3.11 3.12 3.13 3.14" $(RUN) -m pytest -v -rs tests/serving/test_client_wheel.py

test-full: setup-dev  ## All tests, at full size where make test takes the smaller form
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --full

conformance: setup-dev  ## The serving tests against a server that runs (TRITON), with other backends (BACKENDS), or with this machine's
	$(RUN) -m pytest -p tests.conformance tests/serving $(if $(TRITON),--triton=$(TRITON)) $(if $(PORTS),--triton-ports=$(PORTS)) \
		$(if $(BACKENDS),--backends=$(BACKENDS)) $(if $(TOLERANCE),--tolerance=$(TOLERANCE))

fuzz: setup-dev  ## A million mutated files against a real server, 10,000 in a process that checks its memory (20 minutes); SEED=2 for others
	$(RUN) -m pytest -rP tests/unit/test_fuzz_decoding.py tests/serving/test_hostile_requests.py -k "mutated_files" --fuzz-inputs=1000000 --fuzz-seed=$(SEED)

soak: setup-dev  ## Ten minutes of mixed traffic, five each of tight deadlines and of crowds of all sizes, and overload, against a real server
	$(RUN) -m pytest -rP tests/serving/test_load.py tests/serving/test_robustness.py -k "soak or overload or deadlines or random_sizes" --soak-seconds=600

lint: setup-dev  ## Check style and types: ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup-dev  ## Format the code, and repair what ruff can repair
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: setup  ## Measure this machine (about half an hour); writes benchmarks/results
	$(RUN) benchmarks/run.py

ordeal: setup-batch  ## Both commands about 5,000 images each, while their server is killed, overloaded and exchanged (by hand; long)
	$(RUN) -m benchmarks.ordeal --command infer
	$(RUN) -m benchmarks.ordeal --command batch

gpu-report: setup  ## Measure a GPU (8 minutes and its engines' build); DEVICE=cpu tries the script without one
	$(RUN) benchmarks/run.py --gpu --device $(DEVICE)

lock: $(TOOLS)/.setup  ## Write the lock files anew, from requirements*.in
	$(TOOLS)/bin/python tools/lock.py

audit: $(TOOLS)/.setup  ## Look up known vulnerabilities of everything that is locked (asks pypi.org)
	@for lock in requirements.lock requirements-torch-cuda.lock requirements-batch.lock requirements-openvino.lock requirements-tensorrt.lock requirements-serve.lock requirements-web.lock requirements-dev.lock requirements-tools.lock; do \
		echo "$$lock:"; $(TOOLS)/bin/python -m pip_audit --strict --require-hashes --disable-pip --progress-spinner=off -r $$lock || exit 1; done

clean:  ## Remove the environment, caches and outputs (weights and engines stay)
	rm -rf $(VENV) .cache outputs .pytest_cache .mypy_cache .ruff_cache *.egg-info client/*.egg-info client/build client/dist
