# One word a chore. Each sets up what it needs: python3 (3.10 or later) is all you bring.
#   make test VENV=none PYTHON=/path/to/python   uses an environment that you already have
.DEFAULT_GOAL := help
.PHONY: help demo test check parity docs

VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch torchvision
OUT ?= demo

ifeq ($(VENV),none)
PY := $(PYTHON)
READY :=
else
PY := $(VENV)/bin/python
READY := $(VENV)/ready
endif

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet $(TORCH)
	$(VENV)/bin/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: $(READY) ## explain photos with the embedded network, offline, into ./demo
	$(PY) -m torchbcos.cli explain docs/photos --out $(OUT)

test: $(READY) ## run the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2

check: $(READY) ## lint, types, import law
	$(PY) -m ruff check src tests recipes
	$(PY) -m mypy
	PYTHONPATH=src $(PY) -c 'import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())'

parity: $(READY) ## compare with the official package, a line a model
	$(PY) -m pip install --quiet -e '.[parity]'
	$(PY) tests/parity.py

docs: $(READY) ## build the reference from docstrings
	$(PY) docs/build.py
