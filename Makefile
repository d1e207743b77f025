# Two commands for newcomers: `make demo` and `make test`. Both work in a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
DEMO_DB := demo/demo.db
INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test install upgrade check clean

demo: .venv/demo
	$(BIN)/twinlens ingest samples/photos --captions samples/captions.jsonl --model starter --db $(DEMO_DB)
	$(BIN)/python samples/demo.py $(DEMO_DB) demo/sheet.html

test: install demo
	$(BIN)/python -m pytest -n auto

install: .venv/installed

# What the demo needs; the tests add the rest.
.venv/demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python $(INSTALL) --constraint constraints.txt -e '.[starter]'
	touch $@

.venv/installed: .venv/demo
	$(BIN)/python $(INSTALL) --constraint constraints.txt -e '.[starter,dev]'
	touch $@

# The newest versions that pyproject.toml allows; then run the tests.
upgrade: install
	$(BIN)/python $(INSTALL) --upgrade --upgrade-strategy eager -e '.[starter,dev]'
	head -1 constraints.txt > .venv/versions
	$(BIN)/python -m pip freeze --exclude-editable >> .venv/versions
	mv .venv/versions constraints.txt
	touch .venv/demo .venv/installed

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > /dev/null || $(BIN)/lint-imports --no-cache

clean:
	rm -rf .venv demo build *.egg-info
