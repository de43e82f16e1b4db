# The targets need Python 3.11+ (with venv and pip) and make. They install everything else into $(VENV).

PYTHON ?= python3
VENV ?= .venv
EXIT ?= 0
PYTEST_ARGS ?= -q -n auto --dist loadfile --no-loadscope-reorder
BIN = $(VENV)/bin
# The demo needs a tenth of the packages. It uses the environment of the other targets if that is ready.
DEMO_VENV ?= $(if $(wildcard $(VENV)/.ready),$(VENV),.venv-demo)

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types migrations docs dist release-check lock messages screenshots clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required. Choose one with: make PYTHON=python3.12")'

.venv-demo/.ready: requirements-demo.lock
	@$(CHECK_PYTHON)
	@echo "Installing the $$(grep -c '==' $<) packages of the demo into .venv-demo, once …"
	@$(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/python -m pip install --disable-pip-version-check --no-compile --require-hashes -r $< \
		| awk '/^(Collecting|Processing) / { parts = split($$2, path, "/"); print "  " path[parts]; fflush() } /^Installing/ { print "Unpacking …"; fflush() }'
	@.venv-demo/bin/python -c 'import celery, django, environ, jsonschema_rs, pydantic'  # pip failed if one is missing
	@touch $@

$(VENV)/.ready: requirements.lock
	@$(CHECK_PYTHON)
	@echo 'Installing the dependencies into $(VENV), once. This can take two minutes …'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

demo: $(DEMO_VENV)/.ready  ## Run the example project without any server; EXIT=1 stops when everything is delivered
	@$(DEMO_VENV)/bin/python manage.py demo $(if $(filter-out 0,$(EXIT)),--exit)

test: $(VENV)/.ready  ## Run all tests, on every database and broker that answers
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: lint types migrations docs  ## Run every check except the tests: lint, types, migrations, docs

lint: $(VENV)/.ready  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready  ## Check types
	$(BIN)/mypy

migrations: $(VENV)/.ready  ## Check that no migration is missing
	$(BIN)/python manage.py makemigrations --check --dry-run

docs: $(VENV)/.ready  ## Build the documentation into site/, with warnings as errors
	$(BIN)/python -m mkdocs build --strict

dist: $(VENV)/.ready  ## Build the sdist and the wheel into dist/
	$(BIN)/python -m build

release-check: $(VENV)/.ready  ## Run the release checklist: version, changelog, tag, packages, upgrade; it changes only dist/
	@$(BIN)/python .ci/release_check.py

lock:  ## Update requirements.lock and requirements-demo.lock (needs uv)
	$(COMPILE) --group dev --upgrade -o requirements.lock
	$(COMPILE) --group demo --constraint requirements.lock -o requirements-demo.lock

COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url

screenshots: $(VENV)/.ready  ## Take the pictures of the admin for the documentation (needs Chromium)
	SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/browser/test_screenshots.py tests/browser/test_sandbox.py

messages: $(VENV)/.ready  ## Update and compile the German catalogue (needs the GNU gettext tools)
	cd evermuse_outbox && $(abspath $(BIN))/python -m django makemessages --locale de --no-wrap --no-location --no-obsolete
	cd evermuse_outbox && $(abspath $(BIN))/python -m django compilemessages --locale de

clean:  ## Remove everything that the targets have created
	rm -rf $(VENV) .venv-demo build dist site var .pytest_cache .ruff_cache .mypy_cache .hypothesis
