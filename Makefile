# All tasks of this project; `make` alone lists them. Needs Python 3.11 or later.
PYTHON ?= python3
PORT ?= 8000
BUS ?= tcp://127.0.0.1:5556
CAMERA ?= 8100
BIN := .venv/bin
SOURCES := conftest.py hatch_build.py gateway ops tests publishers clients
LOCKS := requirements.lock requirements-build.lock
PACKAGES := pyproject.toml hatch_build.py publishers/python/pyproject.toml clients/python/pyproject.toml

# What is imported is compiled once, not by each of the hundreds of processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo camera test coverage simulate chaos upgrades fuzz autobahn bench bench-quick bench-peers unit pythons newest-aiohttp typescript dashboard screenshots notebooks publishers sources alerts systemd valkey proxies deployments lint format types models settings audit picture graph trace lock dist release-check clean

help: ## list the targets
	@echo "NeuroGraph gateway: make run starts it, make test tests it. PYTHON=python3.12 selects a Python."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/run ## start the gateway, with this machine's metrics and made-up events to look at (PORT=8000 BUS=tcp://127.0.0.1:5556)
	@$(BIN)/python ops/run.py --port $(PORT) --bus $(BUS)

demo: .venv/run ## the same, and print what a WebSocket client receives
	@$(BIN)/python ops/run.py --port $(PORT) --bus $(BUS) --demo

camera: .venv/run ## the same, and show a camera on a page (CAMERA=8100; INPUT= what ffmpeg reads)
	@$(BIN)/python ops/run.py --port $(PORT) --bus $(BUS) --camera $(CAMERA) --input="$(INPUT)"

test: .venv/$(if $(filter 1,$(TEST_FULL)),dev,test) ## run the tests; TEST_FULL=1 for all of them, in their full size, with coverage
	@ops/test.sh

coverage: .venv/dev ## run the tests about gateway/, and say how many lines and branches of each of its files they reach
	@ops/test.sh coverage

simulate: .venv/test ## run simulated worlds until one fails (SEEDS=100000), or repeat one (SEED=7)
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100000))

chaos: .venv/test ## kill processes and cut connections at random (SECONDS=180 SEED=7), of a cluster (CLUSTER=1 CLIENTS=500), or attack it with hostile peers (HOSTILE=1 WORKERS=2)
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),180) --workers $(or $(WORKERS),1) $(if $(CLUSTER),--cluster) $(if $(CLIENTS),--clients $(CLIENTS)) $(if $(HOSTILE),--hostile) $(if $(ONLY),--only $(ONLY)) $(if $(PAUSE),--pause $(PAUSE)) $(if $(SEED),--seed $(SEED))

upgrades: .venv/test ## upgrade a gateway again and again under load, and count what clients lose (CLIENTS=500 UPGRADES=20)
	@CLIENTS=$(or $(CLIENTS),500) UPGRADES=$(or $(UPGRADES),20) $(BIN)/pytest -q -s --timeout 3600 tests/integration/test_upgrade.py -k loses_no_event

fuzz: .venv/test ## send malformed frames and messages (CONNECTIONS=10000 SEED=7 ONLY=42); another client must lose nothing
	@$(BIN)/python -m tests.fuzz --connections $(or $(CONNECTIONS),10000) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

autobahn: .venv/dev ## run the Autobahn test suite against an echo of the gateway's sockets (WSTEST=wstest, which needs Python 2.7; CASES="1.* 7.*" for some)
	@$(BIN)/python -m tests.autobahn --wstest "$(or $(WSTEST),wstest)" $(if $(CASES),--cases $(foreach case,$(CASES),"$(case)"))

bench: .venv/dev ## compare the gateway with a bare loop in C (ROUNDS=3), and write docs/performance.md and .svg
	@$(BIN)/python -m ops.benchmarks --rounds $(or $(ROUNDS),3) --write

bench-quick: .venv/dev ## measure the main ratios, in under 2 minutes
	@$(BIN)/python -m ops.benchmarks --quick

bench-peers: .venv/dev ## compare the gateway with other servers that are installed (ROUNDS=3)
	@$(BIN)/python -m ops.benchmarks --peers --rounds $(or $(ROUNDS),3) --write

unit: .venv/test ## run the tests that need no gateway process
	@$(BIN)/pytest -q tests/unit

pythons: .venv/dev ## run the unit tests with each other Python that is on this machine, from 3.11 on (VERSIONS="3.13 3.14")
	@ops/pythons.sh "$(VERSIONS)"

newest-aiohttp: .venv/dev ## run the HTTP and WebSocket tests with the newest aiohttp that pyproject.toml allows
	@ops/newest_aiohttp.sh

typescript: .venv/test ## test the TypeScript client (needs Node 20 or later, and Chromium)
	@ops/typescript.sh

dashboard: .venv/dev ## build the dashboard into gateway/web/static, and test it (needs Node 20.19 or later, and Chromium)
	@ops/dashboard.sh

screenshots: .venv/dev ## take docs/dashboard-*.png of a running demo
	@ops/dashboard.sh screenshots

notebooks: .venv/notebook ## run the tutorial notebooks, the magics and the live widgets with real kernels (PART=magics)
	@$(BIN)/pytest -q -rs --numprocesses 2 --dist worksteal clients/python/notebooks $(if $(PART),-k $(PART))

publishers: .venv/dev ## run the publishers of six languages against a gateway, as far as their toolchains are there (LANGUAGES="c go")
	@$(BIN)/python -m publishers.conformance $(LANGUAGES)

sources: .venv/dev ## read what known publishers send, and write the tables of docs/decoders.md
	@$(BIN)/python -m ops.sources

proxies: .venv/proxies ## run proxies, browsers and HTTP clients with a gateway, and write the tables of docs/proxies.md (ONLY="nginx haproxy")
	@$(BIN)/python -m tests.proxies $(ONLY)

# They wait more than they work. How gateways balance their clients asks nothing more of the engine.
valkey: build/valkey ## run the tests of clusters with Valkey in place of Redis
	@REDIS_SERVER="$$(find $(abspath $<) -name valkey-server)" $(BIN)/pytest -q -rs --numprocesses 6 --dist worksteal -k "not with_tls and not balance" \
		tests/unit/cluster tests/integration/test_cluster*.py tests/integration/test_doctor_cluster.py

systemd: .venv/dev ## run the unit with a real systemd beside this machine's own: start, reload, upgrade, watchdog (needs root)
	@$(BIN)/pytest -q -rs --numprocesses 4 tests/integration/real_systemd.py

alerts: .venv/dev ## let each alert fire and resolve with real gateways, and compare the dashboard with what was done (needs Prometheus)
	@$(BIN)/python -m tests.alerts

deployments: .venv/dev ## check Dockerfile, compose file and manifests with hadolint, compose-go, kustomize and the schemas of Kubernetes (needs Go)
	@$(BIN)/python -m ops.deployments

lint: .venv/dev ## check style and formatting
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

format: .venv/dev ## format the code
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

types: .venv/dev ## check the types
	@$(BIN)/mypy

models: .venv/dev ## write the clients' models and codes from the gateway's
	@PYTHONPATH=. $(BIN)/python clients/python/generate_models.py
	@$(BIN)/python clients/typescript/scripts/models.py

settings: .venv/dev ## write ops/gateway.example.toml and the tables of docs/configuration.md from the model of the settings
	@$(BIN)/python -m ops.settings

audit: .venv/dev ## check the lock files, and the licences and known vulnerabilities of the dependencies
	@$(BIN)/python ops/audit.py

picture: .venv/dev ## record docs/demo.svg from a run of the demo
	@$(BIN)/python ops/picture.py

graph: ## draw docs/imports.svg: which folders of gateway/ import which
	@$(PYTHON) ops/graph.py

trace: .venv/dev ## print which files of gateway/ an event, a subscribe and a resume run through
	@$(BIN)/python ops/trace.py

lock: ## write the lock files (UPGRADE=1 for the newest versions)
	@PYTHON=$(PYTHON) ops/lock.sh $(if $(UPGRADE),--upgrade)

dist: .venv/dev ## build all that a release has in dist/: packages, checksums, and an SBOM (needs npm)
	@$(BIN)/python -m ops.dist

release-check: .venv/dev ## build all that a release has, and use it in empty environments as the documents say (needs npm, Chromium, a network)
	@ops/release_check.sh

clean: ## remove everything that was built
	@rm -rf .venv build dist clients/typescript/dist clients/typescript/node_modules clients/dashboard/node_modules publishers/node/node_modules publishers/*/build publishers/*/target .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment in three states: to run, to test, and to develop. The lock files agree on versions.
.venv/run: ops/setup.sh $(LOCKS) $(PACKAGES)
	@PYTHON=$(PYTHON) ops/setup.sh $(LOCKS)
	@touch $@

.venv/test: ops/setup.sh requirements-test.lock $(PACKAGES)
	@PYTHON=$(PYTHON) ops/setup.sh requirements-test.lock
	@touch $@ .venv/run

.venv/dev: ops/setup.sh requirements-dev.lock $(PACKAGES)
	@PYTHON=$(PYTHON) ops/setup.sh requirements-dev.lock
	@touch $@ .venv/test .venv/run

# What notebooks need on top, which takes longer to install than all else: only `make notebooks` does.
.venv/notebook: requirements-notebook.lock .venv/dev
	@echo "Adding what notebooks need …"
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement=$<
	@touch $@

# A proxy of 50 MB: only `make proxies` needs it.
.venv/proxies: requirements-proxies.lock .venv/dev
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement=$<
	@touch $@

# Beside .venv, as it brings a plugin for pytest.
build/valkey: requirements-valkey.lock .venv/dev
	@rm -rf $@
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps --target=$@ --requirement=$<
	@touch $@
