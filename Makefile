# Each target does its own set-up in .venv; only git, make and Python >= 3.11 are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests wait for the disk and for processes a third of the time: one worker more than processors,
# up to four.
WORKERS = $(shell $(BIN)/python -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')

.PHONY: help install quickstart test test-slow test-gpu check format lint types bench results settings docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

install: $(STAMP)  ## set up .venv with the tested versions

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,chem]'
	@touch $@

quickstart: install  ## pretrain on real data, see the masks and the few-label results
	$(BIN)/anymae quickstart --overwrite

test: install  ## the tests that every change must pass
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-slow: install  ## long fuzzing and kill tests
	$(BIN)/python -m pytest -m slow --timeout 3600

test-gpu: install  ## the same promises on a GPU, where one is
	$(BIN)/python -m pytest -m gpu --timeout 600

check: install format lint types test  ## format, lint, types, tests

format: install
	$(BIN)/ruff format --check src tests benchmarks

lint: install
	$(BIN)/ruff check src tests benchmarks

types: install
	$(BIN)/mypy

bench: install  ## time and memory against the direct way; says what got slower
	$(BIN)/python benchmarks/bench.py

results: install  ## make docs/results.md from the records in results/
	$(BIN)/python -m anymae.benchmark results docs/results.md

settings: install  ## make docs/settings.md from the code
	$(BIN)/python -m anymae.reference docs/settings.md

docs: install  ## build the pages of docs/ as a site in site/
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:  ## remove what the targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist site quickstart
