.DEFAULT_GOAL := help
.PHONY: help run test test-cgroup2 images image-rie lint types bench stop clean

help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: ## From a bare machine to a function that answers: images, registry, manager, an example deployed and invoked
	@scripts/with-engine .venv/bin/python scripts/run.py

test: ## Every check and every test
	@scripts/with-engine scripts/test

test-cgroup2: ## The tests of limits on control groups of version 2 alone, in a virtual machine (minutes)
	@scripts/provision
	@scripts/test-cgroup2

images: ## Build rie/python:3.11 and rie/provided:latest
	@scripts/with-engine .venv/bin/python scripts/images.py

image-rie: ## Build the image of the manager, rie:latest
	@scripts/with-engine .venv/bin/python scripts/images.py rie

lint: ## ruff and import-linter
	@scripts/provision venv
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/lint-imports

types: ## mypy --strict
	@scripts/provision venv
	@.venv/bin/mypy

bench: ## Measure the figures that the README quotes
	@scripts/with-engine .venv/bin/python -m bench

stop: ## End what `make run` or `make test` started and left running
	@scripts/provision stop

clean: stop ## Remove what was built here, except .venv and Docker's images
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
