"""Images are resized as OpenCLIP resizes them, pixel for pixel, without torch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from twinlens.search.errors import ModelError
from twinlens.search.models.preprocess import INTERPOLATIONS, RESIZE_MODES, preparation

SIZES = [(32, 32), (33, 57), (100, 37), (3, 50), (50, 3), (1, 1), (500, 375), (31, 32), (225, 224)]
CONFIGS = [
    {"size": size, "resize_mode": mode, "interpolation": interpolation, "fill_color": fill}
    for mode, interpolation, size, fill in itertools.product(
        RESIZE_MODES, INTERPOLATIONS, (32, (32, 32), (24, 40), (41, 23), 224), (0, 7)
    )
]


def openclips(config: dict[str, Any]) -> Any:
    """OpenCLIP's own steps up to the last uint8 image."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import Compose, ToTensor

    steps = image_transform_v2(PreprocessCfg(**config), is_train=False).transforms
    return Compose([step for step in steps[:-1] if not isinstance(step, ToTensor)])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: "-".join(map(str, config.values())))
def test_every_pixel_is_openclips(config: dict[str, Any]) -> None:
    theirs, ours = openclips(config), preparation(config)
    random = np.random.default_rng(0)
    for width, height in SIZES:
        image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        expected = np.array(theirs(image))
        found = ours(image)
        assert (found.dtype, found.flags.writeable) == (np.uint8, True)
        np.testing.assert_array_equal(found, expected, err_msg=f"{width}×{height}")


def test_a_very_narrow_image_keeps_a_pixel() -> None:
    """OpenCLIP fails here: the shorter side rounds to 0."""
    prepared = preparation({"size": 32, "resize_mode": "longest"})(Image.new("RGB", (3, 900)))
    assert prepared.shape == (32, 32, 3)


def test_greyscale_becomes_rgb() -> None:
    assert preparation({"size": 8, "fill_color": 3})(Image.new("L", (5, 9))).shape == (8, 8, 3)


@pytest.mark.parametrize("wrong", [{"resize_mode": "stretch"}, {"interpolation": "lanczos"}])
def test_what_openclip_does_not_know_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="images cannot be resized"):
        preparation({"size": 8, **wrong})
