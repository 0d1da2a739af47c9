# Everything from a fresh checkout: `make demo` shows it within a minute, `make repro` computes all results, `make test` checks.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
DOCS := $(VENV)/.installed-docs

# Stages run as `python -m stages.x`; the environment's Python must come first.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo repro keep test bench lint format docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv with pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "wflib needs Python 3.11 or newer, but there is no $(PYTHON); name one: make PYTHON=python3.12 $(or $(MAKECMDGOALS),setup)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "wflib needs Python 3.11 or newer, but $(PYTHON) is $$("$(PYTHON)" --version 2>&1); name another: make PYTHON=python3.12 $(or $(MAKECMDGOALS),setup)" >&2; exit 1; }
	test -x $(VENV)/bin/pip || "$(PYTHON)" -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(DOCS): $(STAMP)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: $(STAMP) ## a small zoo, a flow, drawn networks and a page, in under a minute
	$(VENV)/bin/wflib demo

repro: $(STAMP) ## run every stage of the pipeline that is not up to date
	$(VENV)/bin/dvc repro

KEPT = reports/runs/$(RUN)
keep: ## keep the numbers of the run that stands in reports/: make keep RUN=mnist-normalized
	@test -n "$(RUN)" || { echo "name the run: make keep RUN=mnist-normalized" >&2; exit 1; }
	mkdir -p $(KEPT)/stages
	cp params.yaml reports/metrics.json reports/details.json reports/cost.json $(KEPT)/
	cp reports/stages/*.json $(KEPT)/stages/

# As many processes as cores, four at most: each loads torch. Plain `pytest` runs the same tests in one.
test: lint ## lint, then run the tests
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

bench: $(STAMP) ## measure speed, memory and quality per minute; needs the artifacts of `make repro`
	$(VENV)/bin/python -m pytest benchmarks/bench_alignment.py
	$(VENV)/bin/python -m pytest benchmarks/bench_zoo.py
	$(VENV)/bin/python -m pytest benchmarks/bench_velocity.py --benchmark-json=.benchmarks.json
	$(VENV)/bin/python -m benchmarks.norms reports/benchmarks/norms
	$(VENV)/bin/python -m benchmarks.quality reports/benchmarks/quality.csv
	$(VENV)/bin/python -m benchmarks.report .benchmarks.json reports/benchmarks/quality.csv reports/benchmarks
	rm -f .benchmarks.json

lint: $(STAMP) ## check style, formatting and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

format: $(STAMP) ## fix style and formatting where that can be done by a machine
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

docs: $(DOCS) ## build the documentation into site/, without a network, warnings as errors
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo "Open site/index.html"

clean: ## remove the environment and caches, but no results
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .benchmarks .hypothesis *.egg-info
	find wflib stages tests -name __pycache__ -type d -prune -exec rm -rf {} +
