# Two commands: `make repro` runs the audit, `make test` the test suite.  Each first makes .venv if it has to.

PYTHON ?= python3
VENV := .venv
# A process a core, each with one thread: tests are many and small.
PYTEST := OMP_NUM_THREADS=1 python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE  # else every stage would compile the library again as it starts

.NOTPARALLEL:  # two recipes would fill one .venv at once
.PHONY: repro studies plots docs test fast coverage check faults verify audit-dependencies clean

repro: $(VENV)/installed       ## run whatever of the audit is not up to date
	leakgauge report

studies: $(VENV)/studies       ## when the attack fails, what stops it, what it costs: an hour on two cores
	cd studies && dvc repro
	@echo "studies/metrics/report.html holds the results"

test: $(VENV)/tests            ## lint, types and every test
	$(MAKE) check
	$(PYTEST)

fast: $(VENV)/tests            ## the tests that take seconds
	$(PYTEST) -m "not slow"

coverage: $(VENV)/tests        ## the share of branches that these reach, and the lines that they do not
	$(PYTEST) -m "not slow" --cov=leakgauge --cov=stages --cov-branch --cov-report=term-missing:skip-covered

faults: $(VENV)/tests          ## twenty kills at random moments, full disks, damaged files: minutes
	LEAKGAUGE_KILLS=20 python -m pytest -v tests/faults

plots: dvc_plots/vega.js       ## dvc_plots/index.html, all plots on one page that needs no network
	dvc plots show

dvc_plots/vega.js: $(VENV)/plots
	mkdir -p dvc_plots
	python -c "import pathlib, vl_convert as v; pathlib.Path('$@').write_text(v.javascript_bundle(), encoding='utf-8')"

docs: $(VENV)/tests            ## the documentation, into .docs/index.html
	NO_MKDOCS_2_WARNING=1 mkdocs build

check: $(VENV)/tests
	ruff check .
	ruff format --check .
	mypy

verify:                        ## hash DVC's cache, which DVC itself trusts; remove what FAILED, `dvc repro` makes it anew
	cd "$$(dvc cache dir)/files/md5" && find . -type f | \
	sed -E 's|^\./(..)/([0-9a-f]+)(.*)|\1\2  \1/\2\3|' | md5sum --quiet --check

audit-dependencies: $(VENV)/installed   ## known vulnerabilities of what is installed; it asks the network, so it is no test
	pip install --quiet --disable-pip-version-check pip-audit
	pip list --disable-pip-version-check --format=freeze --exclude-editable | sed 's/+.*//' | \
	pip-audit --strict --disable-pip --no-deps --requirement /dev/stdin || \
	{ echo "a vulnerability, or no answer from the database of vulnerabilities: see above" >&2; exit 1; }

clean:                         ## remove the environment and unfinished work, never results
	rm -rf $(VENV) .partial

# Each in one go: pip resolves all versions once, and what it would compile on one core is compiled on all.
EXTRA :=
$(VENV)/studies: EXTRA := [studies]
$(VENV)/tests: EXTRA := [test]
$(VENV)/plots: EXTRA := [plots]
$(VENV)/installed $(VENV)/studies $(VENV)/tests $(VENV)/plots: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leakgauge needs Python >= 3.11")'
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.$(EXTRA)'
	python -m compileall -q -q -j 0 -x '/tests?/' $(VENV)/lib || true  # templates of code compile to nothing
	touch $(VENV)/installed $@
