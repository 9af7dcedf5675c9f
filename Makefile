# Everything happens in .venv, which is made from hashed locks on first use. Needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.venv/run: requirements/run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Python 3.11 or newer is needed (PYTHON=... names one)."; exit 1)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: requirements/dev.lock .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

.PHONY: run
run: .venv/run  ## Start everything: PostgreSQL, API, worker (stop with Ctrl-C)
	@$(BIN)/multitude up

# Tests start our programs many times over; whoever keeps Python from storing what it has compiled waits for each.
test: export PYTHONDONTWRITEBYTECODE =

TIERS := unit db process slow
TIER ?=

.PHONY: test
test: .venv/dev  ## Format, lint, types, layers, tests, OpenAPI and migration drift: what CI runs (TIER=unit: of one tier)
	@test -z "$(filter-out $(TIERS),$(TIER))" || (echo "There is no tier $(TIER): choose from $(TIERS)."; exit 1)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist worksteal $(addprefix --tier ,$(TIER))

.PHONY: bench
bench: .venv/dev  ## Measure the marks side by side and print a table (needs wrk)
	$(BIN)/python -m bench

.PHONY: fix
fix: .venv/dev  ## Format, and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: migrate
migrate: .venv/run  ## Bring the database of DATABASE_URL up to date
	$(BIN)/multitude migrate

.PHONY: openapi
openapi: .venv/run  ## Write openapi/openapi.json anew
	$(BIN)/python -m openapi

.PHONY: lock
lock:  ## Write the locks anew from pyproject.toml (needs uv)
	for lock in serve: run:--extra=embedded dev:--extra=dev; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    $${lock#*:} pyproject.toml requirements/build.in -o requirements/$${lock%%:*}.lock; done

.PHONY: audit
audit: .venv/dev  ## Look up every pin among known vulnerabilities (DATABASE=all.zip: without a network)
	$(BIN)/python -m requirements.audit $(if $(DATABASE),--database $(DATABASE))

.PHONY: sbom
sbom: .venv/dev  ## Write what the service is made of to dist/ (CycloneDX, from the locks)
	mkdir -p dist
	for lock in serve run; do $(BIN)/cyclonedx-py requirements requirements/$$lock.lock --pyproject pyproject.toml \
	  --output-reproducible --output-file dist/sbom.$$lock.json || exit 1; done

# Where the image's Python comes from; `make pin` writes the digest behind it.
PYTHON_IMAGE := python:3.11-slim

.PHONY: pin
pin:  ## Pin the base image in the Dockerfile to the digest that its tag has now (needs docker and its registry)
	digest=$$(docker buildx imagetools inspect $(PYTHON_IMAGE) --format '{{.Manifest.Digest}}') && \
	  echo "$$digest" | grep -Eq '^sha256:[0-9a-f]{64}$$' && \
	  sed -i.before "s|^ARG PYTHON_IMAGE=.*|ARG PYTHON_IMAGE=$(PYTHON_IMAGE)@$$digest|" Dockerfile && rm Dockerfile.before

.PHONY: image
image:  ## Build the image `multitude`, from a base image that is pinned
	@grep -Eq '^ARG PYTHON_IMAGE=[^@]+@sha256:[0-9a-f]{64}$$' Dockerfile || \
	  (echo "The base image is not pinned by its digest: run make pin, look at what it changed, and commit that."; exit 1)
	docker build --tag multitude .

.PHONY: help
help:  ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile
