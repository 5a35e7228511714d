# `make demo` and `make test` work on a fresh clone: each creates .venv, installs the pinned packages and runs.
# They need Python 3.11 or 3.12, and a C++ compiler. For a CPU-only torch (200 MB, not gigabytes) on Linux:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
STAMP := .venv/installed
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder --durations 20
SOURCES := $(sort $(dir $(wildcard genie_gym/*.py agents/*.py experiments/*.py)))

.PHONY: help install demo test long compat hostile lint check format docs clean
help:
	@echo "make demo     play each latent action of the shipped world; write out/demo.png and out/demo.gif"
	@echo "make test     run the test suite without the slow tests (those: $(BIN)/pytest -m slow)"
	@echo "make long     play the shipped world for 10,000 steps under each held action (minutes)"
	@echo "make compat   run the programs of docs/compatibility.md, each in an environment of its own (minutes, network)"
	@echo "make hostile  attack the page's server beside a player who is timed (minutes, of an idle machine)"
	@echo "make lint     run ruff format, ruff and mypy without changing a file"
	@echo "make check    run make lint and the fast tests, before each commit"
	@echo "make format   let ruff rewrite the files"
	@echo "make docs     build the pages of docs/ as HTML in build/docs"
	@echo "make install  create .venv only"
	@echo "make clean    remove .venv, builds and caches"

install: $(STAMP)

# torch is installed first and alone, so that pip takes the pinned release in its CPU build when an index offers one.
# -qq: pip prints errors only.
$(STAMP): pyproject.toml setup.cfg constraints.txt
	@echo "Installing into .venv (minutes the first time)"
	@echo "Without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu spares 5 GB of torch for CUDA"
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv --clear .venv
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) -e ".[dev]"
	@touch $@

demo: $(STAMP)
	$(BIN)/genie-gym demo

test: $(STAMP)
	$(PYTEST)

long: $(STAMP)
	$(PYTEST) --dist load -m long_play

compat: $(STAMP)
	$(BIN)/python -m pytest tests/compat/snippets.py
	$(BIN)/python -m experiments.lib.readme_tables

hostile: $(STAMP)
	$(BIN)/python -m pytest -m hostile

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(SOURCES)

check: lint
	$(PYTEST) -q -m "not slow and not long_play and not hostile and not pipeline"

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
