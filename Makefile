# Everything that one does with this project; `make` alone lists it. Needs Python 3.11 or later.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
SOURCES := gateway ops tests publishers clients
LOCKS := requirements.lock requirements-build.lock
PACKAGES := pyproject.toml publishers/python/pyproject.toml clients/python/pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test simulate chaos fuzz bench bench-quick bench-peers unit typescript publishers lint format types models audit picture lock build clean

help: ## list what there is
	@echo "NeuroGraph gateway: make run starts it, make test tests it. PYTHON=python3.12 picks a Python."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/run ## start the gateway and a publisher of this machine's metrics (PORT=8000); Ctrl-C ends both
	@$(BIN)/python ops/run.py --port $(PORT)

demo: .venv/run ## the same, and print the events that a WebSocket client receives
	@$(BIN)/python ops/run.py --port $(PORT) --demo

test: .venv/dev ## run all tests
	@$(BIN)/pytest -rs --numprocesses logical --maxprocesses 4 --dist worksteal
	@ops/typescript.sh

simulate: .venv/dev ## run simulated worlds until one fails (SEEDS=100000), or one again (SEED=7)
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100000))

chaos: .venv/dev ## break real processes and links at random (SECONDS=180 SEED=7) and account for every event
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),180) $(if $(SEED),--seed $(SEED))

fuzz: .venv/dev ## send malformed frames and messages (CONNECTIONS=10000 SEED=7 ONLY=42) beside a client that must not notice
	@$(BIN)/python -m tests.fuzz --connections $(or $(CONNECTIONS),10000) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

bench: .venv/dev ## measure the gateway beside a bare loop in C (ROUNDS=3), and write docs/performance.md and .svg
	@$(BIN)/python -m ops.benchmarks --rounds $(or $(ROUNDS),3) --write

bench-quick: .venv/dev ## the main ratios, in under 2 minutes
	@$(BIN)/python -m ops.benchmarks --quick

bench-peers: .venv/dev ## the gateway beside other servers, as far as they are there (ROUNDS=3)
	@$(BIN)/python -m ops.benchmarks --peers --rounds $(or $(ROUNDS),3) --write

unit: .venv/dev ## run the tests that need no gateway process
	@$(BIN)/pytest -q tests/unit

typescript: .venv/dev ## test the TypeScript client (needs Node 20 or later, and Chromium)
	@ops/typescript.sh

publishers: .venv/dev ## run the publishers of six languages against a gateway, as far as their toolchains are there (LANGUAGES="c go")
	@$(BIN)/python -m publishers.conformance $(LANGUAGES)

lint: .venv/dev ## check style and formatting
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

format: .venv/dev ## put the code into its form
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

types: .venv/dev ## check the types
	@$(BIN)/mypy

models: .venv/dev ## write the clients' models of events from the gateway's
	@PYTHONPATH=. $(BIN)/python clients/python/generate_models.py

audit: .venv/dev ## look at the licences and known vulnerabilities of what this depends on
	@$(BIN)/python ops/audit.py

picture: .venv/dev ## draw docs/demo.svg from a run of the demo
	@$(BIN)/python ops/picture.py

lock: ## write the lock files (UPGRADE=1: with the newest versions)
	@PYTHON=$(PYTHON) ops/lock.sh $(if $(UPGRADE),--upgrade)

build: .venv/dev ## build wheel and source archive into dist/
	@$(BIN)/hatchling build

clean: ## remove all that was made
	@rm -rf .venv build dist clients/typescript/dist clients/typescript/node_modules publishers/node/node_modules publishers/*/build publishers/*/target .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two states of one environment: able to run, and able to develop. The lock files agree on versions.
.venv/run: ops/setup.sh $(LOCKS) $(PACKAGES)
	@PYTHON=$(PYTHON) ops/setup.sh $(LOCKS)
	@touch $@

.venv/dev: ops/setup.sh requirements-dev.lock $(PACKAGES)
	@PYTHON=$(PYTHON) ops/setup.sh requirements-dev.lock
	@touch $@ .venv/run
