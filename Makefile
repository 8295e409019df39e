# Shortcuts; each is one command that also works alone.
BIN := .venv/bin

.PHONY: install demo test lint format bench docs

install:  ## everything to develop with
	python3 -m venv .venv
	$(BIN)/pip install --quiet uv
	$(BIN)/uv sync --frozen --inexact --extra dev

demo:  ## the churn story; the server stays up
	$(BIN)/millpond demo

test:  ## all that must hold: tests, style, types, architecture
	$(BIN)/python -m pytest

lint:  ## the quick part of it
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format:
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench:  ## every speed claim, measured against its peer in one run
	for script in bench/bench_*.py; do $(BIN)/python $$script || exit 1; done
