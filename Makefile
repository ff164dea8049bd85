# Everything a user or a developer of voicepool types. `make help` lists it.

VOICEPOOL = .venv/bin/voicepool

.DEFAULT_GOAL = help
.PHONY: help run test check bench chaos setup clean clean-cache

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

run: setup ## set up, start the whole pool on this machine, place a test call, keep serving (ONCE=1: end after the call)
	@$(VOICEPOOL) run $(if $(filter-out 0,$(ONCE)),--once)

test: setup ## set up, then run the tests, half an hour at most (LONG=1: those that take a minute each as well)
	@.venv/bin/pytest --asyncio-debug $(if $(filter-out 0,$(LONG)),,-m "not long")

check: ## lint, formatting, types, import rules: what any of them finds, all at once
	@scripts/setup --python-only
	@status=0; for tool in "ruff check" "ruff format --check" mypy lint-imports; do \
		echo "== $$tool"; .venv/bin/$$tool || status=1; done; exit $$status

bench: setup ## measure everything on two idle cores, 45 minutes; writes bench/RESULTS.md, results.json and pictures
	@.venv/bin/python -m bench all

chaos: setup ## ten minutes of calls and faults on a whole pool, and whether all holds (SECONDS=60 SEED=2)
	@.venv/bin/python -m bench chaos --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

setup: ## install what is missing: system packages, .venv, pjproject (PYTHON=python3.12 chooses the interpreter)
	@scripts/setup

clean: ## remove .venv, caches and run/, but not the pjproject build in ~/.cache/voicepool
	rm -rf .venv run .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-cache: ## remove the pjproject build in ~/.cache/voicepool, which takes minutes to make again
	rm -rf $${XDG_CACHE_HOME:-$$HOME/.cache}/voicepool
