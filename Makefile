# Two commands do everything on a fresh machine with Python 3.11 or later: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test test-slow lint bounds bench house clean
.DEFAULT_GOAL := demo

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	touch $@

demo: $(VENV)/.installed
	$(BIN)/xsphere demo --out demo-output

# the quick tier: each assertion in at least one cheap form
test test-slow: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.developing
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup -m "not slow"

# the tier `slow`, and the random examples of Hypothesis in their full number
test-slow: $(VENV)/.developing
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup -m "slow or hypothesis" \
		--hypothesis-profile thorough

# the oldest versions that pyproject.toml allows, then the newest, each layer once
bounds:
	$(PYTHON) .ci/lowest.py > .lowest.txt
	grep ^torch .lowest.txt > .newest.txt
	for kind in lowest newest; do \
		$(PYTHON) -m venv --clear $(VENV)-$$kind && \
		$(VENV)-$$kind/bin/python -m pip install --quiet --upgrade "pip>=25.1" && \
		$(VENV)-$$kind/bin/python -m pip install --quiet --constraint .$$kind.txt --editable . pytest hypothesis && \
		$(VENV)-$$kind/bin/python -m pytest -W default tests/test_smoke.py || exit 1; \
	done

lint: $(VENV)/.developing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.developing
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# lines, module changes, private parts of others: figures to read
house: $(VENV)/.developing
	$(BIN)/python .ci/house.py

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest .lowest.txt .newest.txt demo-output
