"""On a full disk no half file is kept or served, requests are answered, and it is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="files cannot be limited here")

#: A limit of the size of files makes writes fail half-way, as a full disk does.
LIMITED = """
import gzip, io, json, logging, os, resource, sys, tarfile
from pathlib import Path
from PIL import Image

folder = Path(sys.argv[1])
log = io.StringIO()
logging.getLogger("twinlens.server").addHandler(logging.StreamHandler(log))

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def files():
    return sorted(path.name for path in folder.rglob("*") if path.is_file())
"""
RUN = (sys.executable, "-c")


def run(script: str, folder: Path) -> dict[str, object]:
    done = subprocess.run(
        [*RUN, LIMITED + script, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_thumbnail_is_made_but_not_cached(tmp_path: Path) -> None:
    found = run(
        """
from twinlens.search.records import image_id
from twinlens.server.media import Media

data = io.BytesIO()
Image.effect_noise((300, 300), 90).save(data, "PNG")
key = image_id(data.getvalue())
row = {"id": key, "path": "p", "paths": []}
media = Media(folder, read=lambda path: data.getvalue())
limit(1000)
first = media.thumbnail(row, 160, "JPEG").result().data
again = media.thumbnail(row, 160, "JPEG").result().data
full = [media.cached(key, 160, "JPEG") is None, files()]
limit(resource.RLIM_INFINITY)
media.thumbnail(row, 160, "JPEG").result()
print(json.dumps({
    "whole": [one.endswith(b"\\xff\\xd9") for one in (first, again)], "same": first == again,
    "full": full, "said": log.getvalue(), "later": media.cached(key, 160, "JPEG") == first,
}))
media.close()
""",
        tmp_path,
    )
    assert found["whole"] == [True, True]
    assert found["same"]
    assert found["full"] == [True, []]
    said = found["said"]
    assert isinstance(said, str)
    assert said.count("cannot cache thumbnails in") == 1
    assert str(tmp_path) in said
    assert found["later"], "the next one is cached when there is room"


def test_half_an_upload_is_not_kept(tmp_path: Path) -> None:
    found = run(
        """
from twinlens.search.records import image_id
from twinlens.server.media import Media

media = Media(folder)
data = os.urandom(5_000)
limit(1000)
try:
    media.store(data)
except OSError as error:
    reason = error.strerror
full = [media.has(image_id(data)), files()]
limit(resource.RLIM_INFINITY)
media.store(data)
print(json.dumps({"reason": reason, "full": full, "later": media.has(image_id(data))}))
media.close()
""",
        tmp_path,
    )
    assert found == {"reason": "File too large", "full": [False, []], "later": True}


def test_an_archive_that_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    found = run(
        """
import tempfile
from twinlens.ingest.sources import open_sources

scratch = folder / "scratch"
scratch.mkdir()
tempfile.tempdir = str(scratch)
for name in ("a.tar.gz", "b.tar"):
    with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = 3_000_000
        tar.addfile(info, io.BytesIO(bytes(3_000_000)))
limit(1_000_000)
items = [[item.uri, getattr(item, "reason", "")]
         for item in open_sources([folder / "a.tar.gz", folder / "b.tar"])]
print(json.dumps({"items": items, "scratch": list(map(str, scratch.iterdir()))}))
""",
        tmp_path,
    )
    scratch = tmp_path / "scratch"
    assert found["items"] == [
        [
            str(tmp_path / "a.tar.gz"),
            f"cannot be read: File too large in the temporary folder {scratch}: "
            "set TMPDIR to another one",
        ],
        [f"{tmp_path / 'b.tar'}!a.png", ""],
    ]
    assert found["scratch"] == []
