# Each target does what its name says, on a fresh machine too: `make demo` and `make test` install what they need.
SHELL := /bin/bash
UV := $(shell command -v uv || echo .bootstrap/bin/uv)
PY := .venv/bin/python
export MUJOCO_GL ?= egl
# Without their bytecode, torch and lerobot take three times as long to import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test lint format bench docs lock clean

help:  ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

setup: .venv/.installed  ## Put the environment in .venv

demo: setup  ## Collect, convert, train, serve and evaluate a small policy on this machine (minutes)
	$(PY) scripts/demo.py

test: setup  ## Run the tests, in two processes of one thread each
	OMP_NUM_THREADS=1 $(PY) -m pytest tests --numprocesses 2 --dist loadfile

lint: setup  ## Check style, annotations and formatting
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

format: setup  ## Format the code
	$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

bench: setup  ## Measure the bake against lerobot's writer and against the bare encoder
	$(PY) scripts/bench_convert.py

docs: setup  ## Write the pages that are generated from the configs
	$(PY) scripts/make_docs.py

lock: $(UV)  ## Resolve the dependencies again into constraints.txt
	$(UV) pip compile --quiet --python-version 3.12 --all-extras --generate-hashes --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links pyproject.toml --output-file constraints.txt

clean:  ## Remove the environment
	rm -rf .venv .bootstrap

.venv/.installed: pyproject.toml constraints.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python 3.12 .venv
	$(UV) pip install --quiet --python .venv --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

.bootstrap/bin/uv:
	(python3 -m venv .bootstrap || PYENV_VERSION=system python3 -m venv .bootstrap) && .bootstrap/bin/pip install --quiet uv
