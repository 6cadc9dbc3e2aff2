# make demo     set up, then run the demo: the server and a small fleet of processes on an embedded Valkey
# make test     set up, then the tests, on that Valkey
# make check    lint, formatting and types
# make serve    the server        make bench    the benchmarks        make clean    remove what make made
# make generators   what makes clients from the HTTP document, for the tests to try
#
# PYTHON=…  the interpreter to build .venv with       ARGS=…  more arguments for demo, serve, bench, test
# JOBS=…    how many processes run the tests    EVENTLOG_TEST_REDIS=…  the server to run them on instead

VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
JOBS ?= 5
ARGS ?=

# Twice quiet: errors are shown, warnings about the local pip configuration are not.
PIP_INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# Each stamp is newer than the two files that decide what is installed, so setting up again is free.
# They live in the environment and vanish with it. The demo needs no test tools, hence two of them.
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
BENCH := $(VENV)/.installed-bench
DECIDES := pyproject.toml constraints.txt

.PHONY: help setup demo serve bench test check generators clean FORCE

help:
	@sed -n 's/^# \{0,1\}//p; /^$$/q' Makefile

setup: $(DEV)
	@echo "Ready: $(BIN)/eventlog"

# Ctrl-C is how the demo, the server and the benchmarks are meant to end: the shell lets the program
# finish its own way, and make does not call that an error.
RUN_UNTIL_INTERRUPTED = run() { trap : INT; "$$@"; status=$$?; [ $$status -eq 130 ] || return $$status; }; run

demo: $(RUNTIME)
	@$(RUN_UNTIL_INTERRUPTED) $(BIN)/eventlog demo $(ARGS)

serve: $(RUNTIME)
	@$(RUN_UNTIL_INTERRUPTED) $(BIN)/eventlog serve $(ARGS)

bench: $(RUNTIME) $(BENCH)
	@$(RUN_UNTIL_INTERRUPTED) $(BIN)/python -m benchmarks $(ARGS)

# `loadgroup` keeps tests that share a marked resource on one worker and spreads all others. There are more workers than
# cores because tests wait more than they work. Each worker, and each of the hundreds of programs that the tests start,
# would compile all it imports anew in an environment that keeps no bytecode; here it is kept.
test: export PYTHONDONTWRITEBYTECODE =
test: $(DEV)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# They make clients from our HTTP document, for the tests to try: without npm, or Java when it comes to it, fewer of them.
GENERATORS := $(VENV)/generators
generators: $(GENERATORS)/.installed

$(GENERATORS)/.installed: $(DEV)
	@$(BIN)/python -m venv $(GENERATORS)
	@$(GENERATORS)/bin/python -m pip install -qq --disable-pip-version-check openapi-python-client==0.29.1 \
	    openapi-generator-cli==7.26.0 python-dateutil urllib3 pydantic
	@npm install --silent --no-fund --no-audit --prefix $(GENERATORS) openapi-typescript@7.13.0 openapi-fetch@0.17.0 \
	    typescript@5.9.3 @types/node@20 || echo "Not to be had: testing without what npm brings." >&2
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find eventlog server tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEV): $(DECIDES) $(BIN)/python
	@echo "Installing eventlog and its development tools into $(VENV) …"
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $(RUNTIME) $@

$(RUNTIME): $(DECIDES) $(BIN)/python
	@echo "Installing eventlog into $(VENV) …"
	@$(PIP_INSTALL) -e '.[all]'
	@touch $@

# The benchmarks do without a rival that is not to be had, and say so.
$(BENCH): $(RUNTIME)
	@echo "Installing what the benchmarks compare with into $(VENV) …"
	@if $(PIP_INSTALL) -e '.[bench]'; then touch $@; else echo "Not to be had: measuring without." >&2; fi

# An environment knows its path by heart: one of ours that was copied or moved with its checkout would
# run the old checkout's code, so it is built anew. One that somebody else made is used as it is.
ifneq ($(shell cat $(VENV)/.home 2>/dev/null || echo '$(CURDIR)'),$(CURDIR))
$(BIN)/python: FORCE
endif

# A candidate must really run (some are mere launchers), be new enough, and be able to make environments.
$(BIN)/python:
	@trap 'rm -rf $(VENV); exit 130' INT TERM; \
	for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "Creating $(VENV) with $$("$$candidate" --version) …"; \
	        "$$candidate" -m venv --clear $(VENV) && printf '%s\n' '$(CURDIR)' > $(VENV)/.home && exit 0; \
	        rm -rf $(VENV); \
	        exit 1; \
	    fi; \
	done; \
	echo "eventlog needs Python 3.11 or newer with its venv module; found none as: $(CANDIDATES)." >&2; \
	echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13)," >&2; \
	echo "or name one: make PYTHON=/path/to/python3.12 $(or $(MAKECMDGOALS),setup)" >&2; \
	exit 1

FORCE:
