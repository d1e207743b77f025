# Two commands for newcomers: `make demo` and `make test`. Both work in a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
DEMO_DB := demo/demo.db
INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-lowest install upgrade check clean

demo: .venv/demo
	$(BIN)/twinlens ingest samples/photos --captions samples/captions.jsonl --model starter --db $(DEMO_DB)
	$(BIN)/python samples/demo.py $(DEMO_DB) demo/sheet.html

test: install demo .venv/generators
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

# It takes an older typer than ours, so it has an environment of its own.
.venv/generators: .venv/demo
	$(PYTHON) -m venv $@
	$@/bin/python $(INSTALL) openapi-python-client==0.29.1
	touch $@

# The newest versions that pyproject.toml allows; then run the tests.
upgrade: install
	$(BIN)/python $(INSTALL) --upgrade --upgrade-strategy eager -e '.[starter,dev]'
	head -1 constraints.txt > .venv/versions
	$(BIN)/python -m pip freeze --exclude-editable >> .venv/versions
	mv .venv/versions constraints.txt
	touch .venv/demo .venv/installed

# The lowest versions that pyproject.toml allows, in .venv/lowest, and the tests of what most of them do.
# Old versions warn beside new ones of what they need in turn. test_options.py needs other extras.
LOWEST := .venv/lowest
LOWEST_TESTS := tests/search/milvus tests/search/query tests/ingest/test_pipeline.py tests/cli/test_cli.py
test-lowest:
	$(PYTHON) -m venv .venv/uv
	.venv/uv/bin/python $(INSTALL) uv
	.venv/uv/bin/uv venv --quiet --clear --python $(PYTHON) $(LOWEST)
	.venv/uv/bin/uv pip compile --quiet --resolution lowest-direct --python $(LOWEST)/bin/python \
		--extra starter --extra serve --extra formats --extra watch --output-file $(LOWEST)/versions.txt pyproject.toml
	.venv/uv/bin/uv pip install --quiet --python $(LOWEST)/bin/python --constraint $(LOWEST)/versions.txt \
		-e '.[starter,serve,formats,watch]' pytest hypothesis cryptography
	$(LOWEST)/bin/python -m pytest -x -W ignore::DeprecationWarning --ignore tests/search/query/test_options.py $(LOWEST_TESTS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > /dev/null || $(BIN)/lint-imports --no-cache

clean:
	rm -rf .venv demo build *.egg-info
