"""The wheel and the sdist: what they hold, and that a user's own modules do not get in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT

#: A script that ingests and searches, with whatever modules stand beside it.
SCRIPT = """
import sys
import search, ingest, server
assert all(module.MINE for module in (search, ingest, server))
import twinlens
with twinlens.open("own.db", model="starter") as index:
    report = index.ingest(sys.argv[1])
    hits = index.search("a lighthouse by the sea", limit=1)
print(twinlens.__file__, report.images, hits[0].path)
"""


@pytest.fixture(scope="module")
def setuptools() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    settings: dict[str, Any] = project["tool"]["setuptools"]
    return settings


def test_what_the_tests_install_is_what_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    pinned = {canonicalize_name(name): v for name, _, v in (one.partition("==") for one in lines)}
    extras = project["optional-dependencies"]
    wanted = [Requirement(one) for one in project["dependencies"]]
    for extra in ("starter", "dev", "test", "server-test", *Requirement(extras["test"][0]).extras):
        wanted += [Requirement(one) for one in extras[extra]]
    wrong = [
        str(one)
        for one in wanted
        if one.name != "twinlens"
        and not one.specifier.contains(pinned.get(canonicalize_name(one.name), "0"))
    ]
    assert wrong == []


def folder_of(package: str, folders: dict[str, str]) -> Path:
    """The folder of a package, by the longest entry of ``package-dir`` that it lies in."""
    known = max((one for one in folders if f"{package}.".startswith(f"{one}.")), key=len)
    return ROOT / folders[known] / package[len(known) :].strip(".").replace(".", "/")


def test_every_package_is_listed(setuptools: dict[str, Any]) -> None:
    listed = {folder_of(one, setuptools["package-dir"]) for one in setuptools["packages"]}
    there = {
        path.parent
        for folder in set(setuptools["package-dir"].values())
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert {path.resolve() for path in there} == {path.resolve() for path in listed}


def test_no_file_of_a_package_is_left_out(setuptools: dict[str, Any]) -> None:
    packed = {
        path.resolve()
        for name, globs in setuptools["package-data"].items()
        for one in globs
        for path in folder_of(name, setuptools["package-dir"]).glob(one)
    }
    for folder in setuptools["package-dir"].values():
        files = {path.resolve() for path in (ROOT / folder).rglob("*") if path.is_file()}
        code = {path for path in files if path.suffix in (".py", ".pyc")}
        assert files - code - packed == set()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of a checkout, and the wheel that is built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    checkout = folder / "checkout"
    files = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--", "twinlens", "search", "ingest",
         "tests", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"],
        check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        if not (ROOT / name).exists() or (ROOT / name).is_symlink():
            continue  # a checkout without links, as on Windows
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    build(checkout, "sdist", folder)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    build(source, "wheel", folder)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def build(source: Path, kind: str, target: Path) -> None:
    """Build an sdist or a wheel with setuptools, as pip and ``python -m build`` do."""
    code = f"import setuptools.build_meta as b, sys; b.build_{kind}(sys.argv[1])"
    run([sys.executable, "-c", code, str(target)], source)


def run(command: list[str], folder: Path, **environ: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_installs_nothing_but_twinlens(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"twinlens"}
    for name in ("search/errors.py", "ingest/pipeline.py", "search/models/data/starter.safetensors",
                 "server/app.py", "py.typed", "__main__.py"):  # fmt: skip
        assert f"twinlens/{name}" in names


def test_the_licence_of_the_heads_comes_with_them(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = wheel.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        fields = Parser().parsestr(wheel.read(metadata).decode(), headersonly=True)
    licence = "search/models/data/LICENSE.starter"
    assert fields["License-Expression"] == "Apache-2.0 AND CC0-1.0 AND LicenseRef-starter-heads"
    assert fields.get_all("License-File") == ["LICENSE", licence]
    assert {name.partition(".dist-info/licenses/")[2] for name in names} >= {"LICENSE", licence}
    assert {f"twinlens/{licence}", "twinlens/search/models/data/MODEL_CARD.md"} <= set(names)


def test_the_sdist_has_the_model_card_and_no_tests(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert "search/models/data/MODEL_CARD.md" in names
    assert not [name for name in names if name.startswith("tests")]


@pytest.mark.parametrize("own", ["packages", "modules"])
def test_a_wheel_works_beside_modules_of_the_same_names(
    built: tuple[Path, Path], tmp_path: Path, own: str
) -> None:
    python = fresh_environment(tmp_path / "venv", built[1])
    project = tmp_path / "project"
    for name in ("search", "ingest", "server"):
        path = project / (f"{name}/__init__.py" if own == "packages" else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("MINE = True\n")
    (project / "main.py").write_text(SCRIPT)
    photos = str(ROOT / "samples" / "photos" / "places")
    printed = run([str(python), "main.py", photos], project)
    where, images, found = printed.splitlines()[-1].split()
    assert Path(where).is_relative_to(tmp_path / "venv")
    assert int(images) == len(list(Path(photos).glob("*.jpg")))
    assert Path(found).is_file()
    said = run([str(python), "-m", "twinlens", "info", "--db", "own.db", "--json"], project)
    assert f'"images": {images}' in said
    said = run([str(python), "-m", "twinlens", "info", "--db", "own.db"], project)
    assert "starter is for trying and research, not for commercial use" in said


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel; its dependencies are those of the tests' environment."""
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], ROOT)
    python = folder / "bin" / "python"
    site = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                    ROOT).strip())  # fmt: skip
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    # Dependencies only: a .pth line adds a folder, but does not run that folder's own .pth files,
    # so that the editable install of the checkout stays out.
    dependencies = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    return python
