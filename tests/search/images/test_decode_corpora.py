"""Decode real files: of cameras, rotated, in new formats, and damaged."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import ROOT

from twinlens.search.errors import ImageError
from twinlens.search.images.decode import decode
from twinlens.search.images.formats import is_image_name

CORPORA = Path(os.environ.get("TWINLENS_CORPORA") or ROOT / "../shared/corpora").resolve()

pytestmark = pytest.mark.skipif(
    not (CORPORA / "odd").is_dir(), reason=f"no pictures in {CORPORA} (set TWINLENS_CORPORA)"
)


def small(path: Path, target: int | None = 224) -> np.ndarray:
    image = decode(path.read_bytes(), target=target).image
    return np.asarray(image.resize((32, 32), Image.Resampling.BOX), dtype=np.float32)


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_all_orientations_look_alike(name: str, orientation: int) -> None:
    upright = small(CORPORA / f"odd/exif/{name}_1.jpg")
    turned = small(CORPORA / f"odd/exif/{name}_{orientation}.jpg")
    assert np.abs(turned - upright).mean() < 2
    assert np.abs(turned[::-1] - upright).mean() > 20  # so that the line above can fail


def test_camera_files_are_scaled_and_have_exif() -> None:
    files = sorted((CORPORA / "camera").glob("*.jpg"))
    assert files
    for path in files:
        picture = decode(path.read_bytes(), target=224)
        assert 448 <= min(picture.image.size) < min(picture.width, picture.height)
        assert (picture.image.width > picture.image.height) == (picture.width > picture.height)
        assert picture.exif["camera"]
        assert np.abs(small(path) - small(path, target=None)).mean() < 1


def test_new_formats_decode_if_a_decoder_is_installed() -> None:
    decoded = set()
    for path in sorted((CORPORA / "odd/formats").iterdir()):
        # libavif rejects this file: malformed boxes
        if not is_image_name(path.name) or path.name.startswith("plum-blossom"):
            with pytest.raises(ImageError, match=r"twinlens\[(formats|jxl)\]|damaged AVIF"):
                decode(path.read_bytes())
            continue
        picture = decode(path.read_bytes(), target=224)
        decoded.add(picture.format)
        assert np.asarray(picture.image).std() > 5, f"{path.name} came out flat"
    assert decoded >= {"AVIF", "PNG", "WEBP"}


def test_damaged_files_decode_or_fail_quickly_with_a_reason() -> None:
    decoded, reasons = 0, []
    for path in sorted((CORPORA / "odd/broken").iterdir()):
        start = time.perf_counter()
        try:
            decode(path.read_bytes(), target=224)
            decoded += 1
        except ImageError as error:
            reasons.append(str(error))
        # A decompression bomb takes minutes; on a busy machine any file takes some seconds.
        assert time.perf_counter() - start < 60, path.name
    assert decoded
    assert reasons
    assert all(reason and "\n" not in reason and len(reason) < 200 for reason in reasons)
