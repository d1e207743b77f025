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
	$@/bin/python $(INSTALL) openapi-python-client==0.29.1 || echo "without openapi-python-client, its tests are skipped"
	touch $@

# The newest versions that pyproject.toml allows; then run the tests.
upgrade: install
	$(BIN)/python $(INSTALL) --upgrade --upgrade-strategy eager -e '.[starter,dev]'
	head -1 constraints.txt > .venv/versions
	$(BIN)/python -m pip freeze --exclude-editable >> .venv/versions
	mv .venv/versions constraints.txt
	touch .venv/demo .venv/installed

# The lowest versions that pyproject.toml allows, in .venv/lowest, and all tests that need no server.
# What they need in turn is new, so that old versions warn of what it has replaced, and Ray's of
# processes that it leaves to Python. Schemathesis and LangChain's own tests do not work with all of
# the lowest versions.
LOWEST := .venv/lowest
EXTRAS := starter formats jxl raw openvino watch remote plot bulk serve mcp cluster langchain map
EMPTY :=
COMMA := ,
LOWEST_TOOLS := pytest pytest-xdist hypothesis cryptography 'moto[server]' httpx tifffile pyyaml
test-lowest:
	$(PYTHON) -m venv .venv/uv
	.venv/uv/bin/python $(INSTALL) uv
	.venv/uv/bin/uv venv --quiet --clear --python $(PYTHON) $(LOWEST)
	.venv/uv/bin/uv pip compile --quiet --resolution lowest-direct --python $(LOWEST)/bin/python \
		$(addprefix --extra ,$(EXTRAS)) --output-file $(LOWEST)/versions.txt pyproject.toml
	.venv/uv/bin/uv pip install --quiet --python $(LOWEST)/bin/python --constraint $(LOWEST)/versions.txt \
		-e '.[$(subst $(EMPTY) ,$(COMMA),$(EXTRAS))]' $(LOWEST_TOOLS)
	$(LOWEST)/bin/python -m pytest -n auto -W ignore::DeprecationWarning -W ignore::FutureWarning \
		-W ignore::pytest.PytestUnraisableExceptionWarning \
		--ignore tests/project --ignore tests/server/test_openapi.py \
		--ignore tests/integrations/test_langchain_standards.py tests

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > /dev/null || $(BIN)/lint-imports --no-cache

clean:
	rm -rf .venv demo build *.egg-info
