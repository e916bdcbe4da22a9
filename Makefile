# Two commands do everything: `make book` and `make test`. `make help` lists the rest.
.PHONY: book test lab labs bench clean help setup
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
LABS := $(wildcard labs/src/*.py)

book: setup ## set up what is needed and build the site into _build/html
	@$(BIN)/python -m stackkit.book.build

test: book ## prove it: style, library, built site, labs
	@echo "== style, layers, pairs"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/python -m stackkit.book.labs --check $(LABS)
	@echo "== library and book"
	@$(BIN)/python -m pytest
	@echo "== labs, run again and compared with what is stored"
	@$(BIN)/python -m pytest --nbval labs --nbval-current-env --nbval-cell-timeout=300 \
	  --nbval-sanitize-with tests/book/nbval_sanitize.cfg

lab: setup ## open your own copy of the labs, in my-labs/, in JupyterLab
	@$(BIN)/python -m stackkit.book.my_labs

labs: setup ## for maintainers: run the labs and store their notebooks
	@$(BIN)/python -m stackkit.book.labs $(LABS)

bench: ## measure against peers on this machine; writes benchmarks/results/
	@$(PYTHON) stackkit/book/setup_env.py bench
	@$(BIN)/python -m benchmarks

setup:
	@$(PYTHON) stackkit/book/setup_env.py

clean: ## remove the built site; leaves .venv and my-labs alone
	@rm -rf _build

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14
