# `make demo` and `make test` work on a fresh clone: each makes .venv, installs what constraints.txt pins, and runs.
# Wanted: Python 3.11 and a C++ compiler. A CPU-only torch (200 MB, not gigabytes) on Linux:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/installed
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
SOURCES := $(sort $(dir $(wildcard genie_gym/*.py agents/*.py experiments/*.py)))

.PHONY: help install demo test check format docs clean
help:
	@echo "make demo    play a few seconds of the shipped world and write them to disk"
	@echo "make test    the test suite, without the slow ones (those: $(BIN)/pytest -m slow)"
	@echo "make check   ruff format, ruff, mypy, fast tests: before each commit"
	@echo "make format  let ruff rewrite what it can"
	@echo "make docs    the pages of docs/ as HTML, in build/docs"
	@echo "make install only make .venv;  make clean  remove it and the caches"

install: $(STAMP)

# torch first, by itself: the release that the constraints name, in the CPU build where pip is offered one.
# -qq: of pip, errors only.
$(STAMP): pyproject.toml setup.cfg constraints.txt
	@echo "Installing into .venv (minutes the first time)"
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv --clear .venv
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) -e ".[dev]"
	@touch $@

demo: $(STAMP)
	$(BIN)/genie-gym demo

test: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(SOURCES)
	$(PYTEST) -q -m "not slow and not pipeline"

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
