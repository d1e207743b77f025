# Two commands for newcomers: `make demo` and `make test`. Both work in a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
DEMO_DB := demo/demo.db

.PHONY: demo test install check clean

demo: .venv/demo
	$(BIN)/twinlens ingest samples/photos --captions samples/captions.jsonl --model starter --db $(DEMO_DB)
	$(BIN)/python samples/demo.py $(DEMO_DB) demo/sheet.html

test: install demo
	$(BIN)/python -m pytest -n auto

install: .venv/installed

# What the demo needs; the tests add the rest.
.venv/demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[starter]'
	touch $@

.venv/installed: .venv/demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[starter,dev]'
	touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > /dev/null || $(BIN)/lint-imports --no-cache

clean:
	rm -rf .venv demo build *.egg-info
