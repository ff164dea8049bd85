# Everything a user or a developer of voicepool types. `make help` lists it.

VOICEPOOL = .venv/bin/voicepool
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

# mkdocs-material says on every run that there will be an MkDocs 2 some day.
export NO_MKDOCS_2_WARNING = 1

.DEFAULT_GOAL = help
.PHONY: help run test test-compose test-cluster test-systemd test-asterisk check docs helm-golden lock images release bench chaos setup clean clean-cache

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

run: setup ## set up, start the whole pool on this machine, place a test call, keep serving (ONCE=1: end after the call)
	@$(VOICEPOOL) run $(if $(filter-out 0,$(ONCE)),--once)

test: setup ## set up, then run the tests, a quarter of an hour on two cores (LONG=1: those that take a minute each as well)
	@.venv/bin/pytest --asyncio-debug -n auto --maxprocesses 4 --dist loadfile --durations 25 \
		-m "not cluster and not compose and not systemd and not asterisk$(if $(filter-out 0,$(LONG)),, and not long)"

test-compose: setup ## the image and docker-compose.yml, for real; needs root or a container engine, and half an hour the first time
	@.venv/bin/pytest tests/deploy/compose -m compose

test-cluster: setup ## the Helm chart on a real Kubernetes control plane with simulated nodes; needs Go; half an hour the first time, then six minutes
	@.venv/bin/python -m tests.deploy.cluster.build
	@.venv/bin/pytest tests/deploy/cluster -m cluster

test-systemd: setup ## docs/debian.md typed into a booted Debian 12; needs root, debootstrap and systemd-container; a quarter of an hour the first time, then eight minutes
	@.venv/bin/pytest tests/deploy/systemd -m systemd

test-asterisk: setup ## a real Asterisk, set up as docs/asterisk.md says, before a pool; needs root and debootstrap (ASTERISK_SUITE=bullseye: 16.28)
	@.venv/bin/pytest tests/deploy/asterisk -m asterisk

check: ## lint, formatting, types, import rules, links of the documents: what any of them finds, all at once
	@scripts/setup --python-only
	@status=0; for tool in "ruff check" "ruff format --check" mypy lint-imports "mkdocs build --strict"; do \
		echo "== $$tool"; .venv/bin/$$tool || status=1; done; exit $$status

docs: ## the documentation as a site, in site/
	@scripts/setup --python-only
	@.venv/bin/mkdocs build --strict

helm-golden: setup ## write what follows from the chart's values and templates: its README and schema, the tests' golden files
	@.venv/bin/python scripts/helm_values.py
	@.venv/bin/python -m tests.deploy.helm.golden_files

lock: setup ## lock the versions of Python packages anew, as pyproject.toml allows: for developing, and for the image
	@$(LOCK) --extra dev --extra run pyproject.toml -o requirements.lock
	@cp requirements.lock requirements-image.lock  # the image gets the same versions
	@$(LOCK) pyproject.toml -o requirements-image.lock

release: setup ## make a release and check it: wheel, image, chart, in dist/ (IMAGES=0: without a container engine)
	@.venv/bin/python scripts/release.py $(if $(filter 0,$(IMAGES)),--no-images)

images: setup ## build the container image, as voicepool:latest and under its version, and its bill of materials in run/
	@version=$(or $(VERSION),$$($(VOICEPOOL) --version | cut -d ' ' -f 2)) && \
		docker build --tag voicepool:latest --tag "voicepool:$$version" --build-arg "VERSION=$$version" \
			--build-arg "REVISION=$(or $(REVISION),$$(git rev-parse HEAD))" . && \
		.venv/bin/python scripts/sbom.py voicepool:latest >run/sbom.cdx.json

bench: setup ## measure everything on two idle cores, 45 minutes; writes bench/RESULTS.md, results.json and pictures
	@.venv/bin/python -m bench all

chaos: setup ## ten minutes of calls and faults on a whole pool, and whether all holds (SECONDS=60 SEED=2)
	@.venv/bin/python -m bench chaos --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

setup: ## install what is missing: system packages, .venv, pjproject (PYTHON=python3.12 chooses the interpreter)
	@scripts/setup

clean: ## remove .venv, caches and run/, but not what was built in ~/.cache/voicepool
	rm -rf .venv run site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-cache: ## remove what was built in ~/.cache/voicepool: pjproject (minutes to make again), a control plane (half an hour)
	rm -rf $${XDG_CACHE_HOME:-$$HOME/.cache}/voicepool
