"""Joining modules into one script."""

from __future__ import annotations

import re

import pytest

from twinlens.server.assets import Assets
from twinlens.server.bundle import bundle_modules, bundle_sheets


def test_modules_are_joined_in_the_order_of_their_imports() -> None:
    files = {
        "page/main.js": 'import { a as one, $ } from "./a.js";\n'
        'import {\n  b,\n} from "../b.js";\n\n$(one, b());\n',
        "page/a.js": '// Says a.\nimport { b } from "../b.js";\n\nexport const a = b();\n'
        "export class $ {}\n",
        "b.js": "/**\n * Counts.\n */\nexport async function b() {}\nlet hidden = 1;\n",
    }
    script = bundle_modules(files, "page/main.js")
    assert [line for line in script.splitlines() if line.startswith("// ")] == [
        "// b.js", "// page/a.js", "// page/main.js"
    ]  # fmt: skip
    assert "const { a: one, $ } = module1;" in script
    assert "const { b, } = module0;" in script
    assert "return { a, $ };" in script
    assert "async function b() {}" in script
    assert "Counts" not in script
    assert not re.search(r"^(import|export)", script, re.MULTILINE)


@pytest.mark.parametrize(
    "source",
    [
        'import * as b from "./b.js";',
        'import b from "./b.js";',
        "export default 1;",
        "export let a = 1;",
        "export { a };",
        "await a();",
    ],
)
def test_other_forms_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"^a\.js cannot be joined"):
        bundle_modules({"a.js": f"{source}\n", "b.js": ""}, "a.js")


def test_circles_are_refused() -> None:
    files = {"a.js": 'import { b } from "./b.js";', "b.js": 'import { a } from "./a.js";'}
    with pytest.raises(ValueError, match=r"circle: a\.js → b\.js → a\.js"):
        bundle_modules(files, "a.js")


def test_sheets_of_a_page_become_one() -> None:
    link = '  <link rel="stylesheet" href="/static/{}">\n'
    page = "<head>\n" + link.format("a.css") + link.format("b.css") + "</head>\n"
    joined, sheet = bundle_sheets(page, {"a.css": "a {}\n", "b.css": "b {}\n"}, "all.css")
    assert joined == "<head>\n" + link.format("all.css") + "</head>\n"
    assert sheet == "a {}\n\nb {}\n"
    assert bundle_sheets("<head></head>", {}, "all.css") == ("<head></head>", "")


def test_every_page_names_versioned_files_that_exist() -> None:
    assets = Assets.read()
    pages = [name for name in assets.files if name.endswith(".html")]
    assert len(pages) == 3 * len(assets.languages) + 1
    for name in pages:
        text = assets.files[name].data.decode()
        files = re.findall(r'(?:href|src)="/static/([^"#]+)', text)
        assert len(files) >= 3
        for file in files:
            version, _, path = file.partition("/")
            assert version == assets.version
            assert path in assets.files
