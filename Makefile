# make demo: the main job, on real weights and images. make test: the tests. make docs: the site, in site/.
# Each sets itself up.
PYTHON ?= python3
BIN := .venv/bin
# What is never imported need not be compiled either.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
# A process a core; a file stays in one of them, where its tests share what they made.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test test-slow check docs dist-check bounds-check clean

demo: .venv/.demo
	$(BIN)/adaptune demo

test: .venv/.dev
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-fail-under=90

test-slow: .venv/.dev
	$(PYTEST) -m slow

check: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYTEST) -q

# Its gallery is run on one core; what came of a script is kept in build/gallery until it changes.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# Wheel and sdist, built and each installed where nothing else is.
dist-check: .venv/bin/python
	$(PIP) build
	$(BIN)/python .ci/check_distributions.py

# The lowest versions that pyproject.toml allows, without extras: installed where nothing else is, and tried.
bounds-check: .venv/bin/python
	$(PIP) uv
	$(BIN)/python .ci/lower_bounds.py

clean:
	rm -rf .venv demo site build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/bin/python
	@echo "installing into .venv: PyTorch is large, this takes a few minutes the first time"
	$(PIP) -e '.[demo]'
	@touch $@

.venv/.docs: pyproject.toml | .venv/bin/python
	@echo "installing into .venv: PyTorch is large, this takes a few minutes the first time"
	$(PIP) -e '.[docs]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "installing into .venv: PyTorch is large, this takes a few minutes the first time"
	$(PIP) -e '.[dev]'
	@touch $@ .venv/.demo
