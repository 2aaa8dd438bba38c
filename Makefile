# Everything that people and CI run. Needs make and Python 3.11 or newer, nothing else; what else is
# needed goes into .venv, with the versions and hashes of requirements/, and is installed again when they change.

PYTHON ?= python3
BIN := .venv/bin
INPUTS := pyproject.toml requirements/build.txt requirements/service.txt requirements/dev.txt
# Tests start hundreds of processes; without bytecode each of them compiles the program again.
export PYTHONDONTWRITEBYTECODE :=
TESTS := $(BIN)/python -m tests.run

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-console pictures test-pythons check bench mutants soak lock clean

help:
	@echo "make demo    the whole journey against the simulator, on a throw-away database"
	@echo "make test    the tests, on SQLite and on a real PostgreSQL, but for those that take long"
	@echo "make test-all  those that take long, too: many seeds, kills, fleets, the wheel; needs Debian's packages faketime, nginx-light, pgbouncer, prometheus and systemd"
	@echo "make test-console  a browser walks through the console; needs Debian's packages chromium and nginx-light"
	@echo "make pictures  the README's pictures of the console, made again; needs the package chromium"
	@echo "make test-pythons  the tests on Python 3.13 and 3.14; needs root and Debian's package debootstrap"
	@echo "make check   format, lint, types, the rules of who may import whom, and retired words"
	@echo "make mutants  changed rules of the sync core, and the unit test that kills each"
	@echo "make lock    the files of requirements/, from pyproject.toml and the versions of constraints.txt"
	@echo "make bench   measurements;  make soak   the long tests;  make clean   remove what was made"

demo: .venv/runtime.stamp
	@$(BIN)/order-sync demo

test: .venv/dev.stamp
	@echo "make test: three to four minutes on two free cores; left out are long tests (make test-all),"
	@echo "the console in a browser (make test-console), soaks and measurements (make soak, make bench)"
	@$(TESTS) -n 2 --dist worksteal

test-all: .venv/dev.stamp
	@ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || \
	  { echo "libfaketime was not found: install it (on Debian and Ubuntu the package faketime)" >&2; exit 1; }
	@PATH="$$PATH:/usr/sbin"; command -v pgbouncer >/dev/null || \
	  { echo "pgbouncer was not found: install it (on Debian and Ubuntu the package pgbouncer)" >&2; exit 1; }
	@PATH="$$PATH:/usr/sbin"; command -v nginx >/dev/null || \
	  { echo "nginx was not found: install it (on Debian and Ubuntu the package nginx-light)" >&2; exit 1; }
	@command -v promtool >/dev/null || \
	  { echo "promtool was not found: install it (on Debian and Ubuntu the package prometheus)" >&2; exit 1; }
	@command -v systemd-analyze >/dev/null || \
	  { echo "systemd-analyze was not found: install it (on Debian and Ubuntu the package systemd)" >&2; exit 1; }
	@echo "make test-all: the long tests that make test leaves out; about twenty minutes on two free cores"
	@$(TESTS) -n 2 --dist worksteal -m "long and not soak and not bench and not console"

test-console: .venv/dev.stamp
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	  echo "no browser was found: install Chromium (on Debian and Ubuntu the package chromium)" >&2; exit 1
	@PATH="$$PATH:/usr/sbin"; command -v nginx >/dev/null || \
	  { echo "nginx was not found: install it (on Debian and Ubuntu the package nginx-light)" >&2; exit 1; }
	@$(TESTS) -v -m console tests/console

pictures: .venv/dev.stamp
	@$(TESTS) -m console tests/console/test_pages.py -k pictures
	@mkdir -p docs/images
	@for name in overview order; do for scheme in light dark; do \
	  cp build/screenshots/readme-$$name-$$scheme.png docs/images/$$name-$$scheme.png; done; done

test-pythons:
	@tests/pythons.sh

check: .venv/dev.stamp
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tests.words

bench: .venv/dev.stamp
	@$(BIN)/python -m tests.bench

mutants: .venv/dev.stamp
	@$(BIN)/python -m tests.mutants

soak: .venv/dev.stamp
	@$(TESTS) -n 2 -v -m soak

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-annotate --custom-compile-command "make lock" -c constraints.txt

lock: .venv/dev.stamp
	@$(COMPILE) requirements/build.in -o requirements/build.txt
	@$(COMPILE) pyproject.toml -o requirements/service.txt
	@$(COMPILE) pyproject.toml --extra oidc --extra postgres --extra distributed -o requirements/image.txt
	@$(COMPILE) pyproject.toml --all-extras -o requirements/dev.txt

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/created.stamp:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: install a newer one, or name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module: install it (on Debian and Ubuntu the package python3-venv)" >&2; exit 1; }
	@echo "making .venv" >&2
	@$(PYTHON) -m venv --clear .venv
	@touch $@

INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.venv/runtime.stamp: $(INPUTS) | .venv/created.stamp
	@echo "installing what the service needs (a minute, once)" >&2
	@$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/service.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.stamp: $(INPUTS) | .venv/created.stamp
	@echo "installing what the tests need (two minutes, once)" >&2
	@$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/dev.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@ .venv/runtime.stamp
