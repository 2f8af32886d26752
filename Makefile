# make journey   the whole way on a simulated herbarium, from records to one named sheet (about 4 minutes on 2 cores)
# make test      install what is missing and run all tests
# make serve     the page with the journey's model, on a free port
# make lint      ruff and mypy
#
# On a machine without a GPU, spare yourself gigabytes of CUDA:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make journey

PYTHON ?= python3
BIN := .venv/bin
JOURNEY ?= journey
SHEETS ?= 1200
# One pip command for everything: torch and torchvision must be chosen together.
INSTALL = $(BIN)/pip install --quiet --constraint constraints.txt

.PHONY: journey test serve lint chromium java clean

journey: .venv/installed
	$(BIN)/taxakey sample $(JOURNEY)/herbarium --sheets $(SHEETS)
	$(BIN)/taxakey journey $(JOURNEY)/herbarium/archive.zip $(JOURNEY)/model --recipe scratch-small

test: .venv/installed-dev chromium java
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --durations=10

serve: .venv/installed
	@test -f $(JOURNEY)/model/bundle/manifest.json || { echo "There is no model yet: run 'make journey' first."; exit 2; }
	$(BIN)/taxakey serve $(JOURNEY)/model/bundle

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The browser tests drive Debian's Chromium; where it can't be installed they skip and say so.
chromium:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing chromium for the browser tests"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else echo "No chromium: the browser tests will be skipped (as root: apt-get install chromium)"; fi; }

# The tests of Spark need Java; where it can't be installed they skip and say so.
java:
	@command -v java >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Java for the tests of Spark"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openjdk-17-jre-headless >/dev/null; \
	  else echo "No Java: the tests of Spark will be skipped (as root: apt-get install openjdk-17-jre-headless)"; fi; }

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Python 3.11 or newer is needed (as root: apt-get install python3 python3-venv), or name one: make PYTHON=…"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo "Python's venv is missing (as root: apt-get install python3-venv)"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing (some minutes the first time)"
	$(INSTALL) --editable '.[all]'
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing with what the tests need (some minutes the first time)"
	$(INSTALL) --editable '.[all,dev]'
	@touch .venv/installed $@

clean:
	rm -rf .venv $(JOURNEY)
