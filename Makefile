# Two commands: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
# pip's words for torch; README, Installation, says how to take another build.
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: setup front demo test audit clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "segue needs Python 3.11 or newer: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The scripts of the pages again, after one of them was edited; nothing to do where none was.
front: setup
	$(BIN)/python hatch_build.py

demo: setup
	$(BIN)/segue demo

test: front
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	# Hundreds of commands start in the tests; where bytecode is not written, each would compile the package anew.
	$(BIN)/python -m compileall -q src
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# Asks a service on the network which installed packages have known weaknesses, and so is no part of `test`.
audit: setup
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --progress-spinner off --skip-editable

clean:
	rm -rf .venv
