# make demo: the main job, on real weights and images. make test: the tests. Each sets itself up.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test test-slow check clean

demo: .venv/.demo
	$(BIN)/adaptune demo

test: .venv/.dev
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=90

test-slow: .venv/.dev
	$(BIN)/python -m pytest -m slow

check: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q

clean:
	rm -rf .venv demo

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/bin/python
	@echo "installing into .venv: PyTorch is large, this takes a few minutes the first time"
	$(PIP) -e '.[demo]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "installing into .venv: PyTorch is large, this takes a few minutes the first time"
	$(PIP) -e '.[dev]'
	@touch $@ .venv/.demo
