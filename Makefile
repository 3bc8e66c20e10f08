# Two commands for a start: `make demo` and `make test`. Each sets up what it needs in .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo stop test lint format lock bench soak clean

BIN := .venv/bin
REQUESTS ?= 100000
HANDOVERS ?= 300
ARGS ?=

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## run examples/chat, deploy it under load and count the failures (REQUESTS=100000)
	@tools/setup run
	@tools/demo $(REQUESTS)

stop: ## stop what `make demo` left running (its data is kept)
	@cd examples/chat && ../../$(BIN)/gapless -y down

test: ## all tests (ARGS="-k name" for some)
	@tools/setup dev
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: ## style, types, layers, sizes
	@tools/setup dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/sizes.py src tests tools bench examples

format: ## put the code in order
	@tools/setup dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## renew requirements/*.txt from pyproject.toml, and the example's
	@tools/setup dev
	@tools/lock

bench: ## measure, beside what else there is (minutes)
	@tools/setup dev
	@$(BIN)/python -m bench $(ARGS)
	@$(BIN)/python -m bench.static

soak: ## hundreds of handovers under load (HANDOVERS=300; the better part of an hour)
	@tools/setup dev
	@$(BIN)/python -m bench.soak --handovers $(HANDOVERS) $(ARGS)

clean: ## remove what these commands made
	rm -rf .venv build dist bench/out .mypy_cache .ruff_cache .hypothesis .import_linter_cache
