# Two commands: `make repro` runs the audit, `make test` the test suite.  Each first makes .venv if it has to.

PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test fast check clean

repro: $(VENV)/installed       ## run whatever of the audit is not up to date
	dvc repro
	@echo "metrics/report.html holds the results; dvc metrics show and dvc plots show show more"

test: $(VENV)/installed        ## lint, types and every test
	$(MAKE) check
	python -m pytest

fast: $(VENV)/installed        ## the tests that take seconds
	python -m pytest -m "not slow"

check: $(VENV)/installed
	ruff check .
	ruff format --check .
	mypy

clean:                         ## remove the environment and unfinished work, never results
	rm -rf $(VENV) .partial

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leakgauge needs Python >= 3.11")'
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@
