# Targets for developers; `make` alone lists them.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
ARGS ?=

# The environment may configure the registry that pip uses, but not what it installs where.
PIP_KEEP := PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_CERT PIP_CLIENT_CERT \
	PIP_TRUSTED_HOST PIP_PROXY PIP_CACHE_DIR PIP_NO_CACHE_DIR PIP_DEFAULT_TIMEOUT PIP_TIMEOUT \
	PIP_RETRIES PIP_CONFIG_FILE PIP_KEYRING_PROVIDER
unexport $(filter-out $(PIP_KEEP),$(filter PIP_%,$(.VARIABLES))) PYTHONHOME PYTHONPATH
# Without bytecode every process would compile all of it again, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo rehearse-demo up test test-late test-browser pictures drills soak chaos check audit sbom format \
	bench bench-loss fuzz docs schemas asyncapi openapi typescript monitoring lock release-check release-corpus

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' \
		| awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

install: $(INSTALLED) ## create .venv with the locked dependencies and the orderly command

demo: $(INSTALLED) ## replay 1,000 real baskets and reconcile every cent; stays on a terminal (ARGS=--no-keep: not)
	@$(VENV)/bin/orderly demo $(ARGS)

rehearse-demo: $(INSTALLED) ## rehearse the demo's orders under three changed rules, and write docs/rehearsal.md
	@$(PY) -m dev.demo.rehearse --write $(ARGS)

up: $(INSTALLED) ## run the whole stack until Ctrl-C (ARGS="--api-port 9000", ARGS=--observability for Prometheus)
	@exec $(VENV)/bin/orderly up $(ARGS)

# More at a time than a small machine has cores, because many tests wait. They are handed out one by
# one, but for groups that share a server.
test: $(INSTALLED) ## run the tests, five at a time (ARGS="-k name" for some, one at a time)
	@$(PY) -m pytest $(or $(ARGS),-n 5 --dist loadgroup --no-loadscope-reorder)

# On a fast machine, tests that do not wait for what comes later seldom fail.
test-late: $(INSTALLED) ## run the tests with all late that they have to wait for
	@$(PY) -m pytest --late 0.4 $(or $(ARGS),-n 5 --dist loadgroup --no-loadscope-reorder)

test-browser: $(INSTALLED) ## test the console in Chromium, which must be installed
	@command -v chromium >/dev/null || { echo 'Chromium is needed: apt-get install chromium.' >&2; exit 1; }
	@$(PY) -m pytest tests/integration/api/test_console_in_browser.py $(ARGS)

pictures: $(INSTALLED) ## take the pictures of docs/console.md in Chromium
	@$(PY) -m dev.pictures

drills: $(INSTALLED) ## restore servers to earlier times, cause failures, see alerts, and recover, as operators do
	@$(PY) -m pytest -m drill $(ARGS)

soak: $(INSTALLED) ## run the long versions of tests and properties, which take minutes each
	@$(PY) -m pytest -m soak $(ARGS)
	@$(PY) -m pytest tests/unit/orders --hypothesis-profile soak

release-check: $(INSTALLED) ## say whether this checkout may be released after another (FROM=tag, commit or folder)
	@$(PY) -m dev.release --from "$(FROM)" $(ARGS)

release-corpus: $(INSTALLED) ## check that release-check refuses breaking changes and allows harmless ones
	@$(PY) -m pytest -m soak tests/integration/dev/test_release_corpus.py $(ARGS)

chaos: $(INSTALLED) ## run random faults under load, and check every promise (ARGS="--long", "--seed N --seconds N")
	@$(PY) -m dev.chaos $(ARGS)

check: $(INSTALLED) ## check formatting, lint, strict types and import rules
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-logo

audit: $(INSTALLED) ## look up known vulnerabilities of the locked packages; needs the network
	@$(PY) requirements/audit.py

sbom: $(INSTALLED) ## write the image's bill of materials in CycloneDX's format to sbom.json
	@$(PY) requirements/sbom.py sbom.json

format: $(INSTALLED) ## format the code and apply automatic lint fixes
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

bench: $(INSTALLED) ## run the benchmarks, beside their baselines (ARGS="catch-up" for one)
	@for part in $(if $(ARGS),"$(ARGS)",commands cold appends catch-up freshness journal lists reads loss \
		load long-log power-cut standby webhooks bursts shoppers cached-orders \
		peers costs drain metrics-cost console rehearsal); do \
		$(PY) -m dev.bench $$part || exit 1; done

bench-loss: $(INSTALLED) ## benchmark durability: late writers, killed projectors, no lost event
	@$(PY) -m dev.bench loss $(ARGS)

fuzz: $(INSTALLED) ## fuzz the API with requests generated from its OpenAPI document
	@$(PY) -m pytest -m "" tests/integration/api/test_fuzzing.py $(ARGS)

docs: $(INSTALLED) ## generate docs/lifecycle.md from the rules
	@$(PY) -m contracts.lifecycle

schemas: $(INSTALLED) ## generate event schemas, stored shapes and consumers' types; rejects breaking changes
	@$(PY) -m contracts.event_schemas
	@$(PY) -m contracts.consumer_types
	@$(PY) -m contracts.stored_shapes

asyncapi: $(INSTALLED) ## generate contracts/asyncapi.json; rejects breaking changes
	@$(PY) -m contracts.asyncapi_document

# Needs Node.js and packages from the npm registry. A test checks that the types of the events fit the document, and
# another one runs the clients' generators, once this has installed them.
typescript: ## generate TypeScript types of events and API clients, compile them, and validate asyncapi.json; needs Node.js
	@for folder in contracts/typescript contracts/typescript/api; do ( cd $$folder \
		&& npm ci --ignore-scripts --no-audit --no-fund --loglevel=error \
		&& npm run --silent generate && npm run --silent check ) || exit 1; done

openapi: $(INSTALLED) ## record examples, generate contracts/openapi.json and docs/contracts; rejects breaking changes
	@$(PY) -m contracts.record_examples
	@$(PY) -m contracts.openapi_document
	@$(PY) -m contracts.service_documents

monitoring: $(INSTALLED) ## generate Grafana's dashboards, and the alerts in the form of the Prometheus Operator
	@$(PY) -m dev.monitoring

lock: $(INSTALLED) ## upgrade and lock all dependencies of requirements/*.in
	@$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv
	@for name in runtime embedded dev; do \
		$(VENV)/lock/bin/uv pip compile --quiet --upgrade --universal --generate-hashes \
			--python-version 3.11 --no-emit-index-url --no-emit-find-links \
			--custom-compile-command "make lock" \
			requirements/$$name.in -o requirements/$$name.txt || exit 1; done

# Created from scratch each time, so that it has the locked packages and no others. Modules are
# compiled when they are first imported: most never are.
$(INSTALLED): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
		'Python 3.11 or newer is needed: install it, or name one with make PYTHON=python3.12.' >&2; \
		exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo \
		'Python has no venv module: install it (on Debian and Ubuntu: apt install python3-venv).' >&2; \
		exit 1; }
	@echo 'Installing into $(VENV) …'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install --quiet --no-compile --require-hashes -r requirements/dev.txt
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@
