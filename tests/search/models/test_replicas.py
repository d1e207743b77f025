"""Encode with several copies of an encoder: the same rows as one gives, in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from support.colours import SIDE, ColourEncoder

from twinlens.search.models.replicas import ReplicatedEncoder


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_rows_come_back_in_order_whatever_the_batch(count: int) -> None:
    copies = [ColourEncoder() for _ in range(3)]
    replicated = ReplicatedEncoder(copies)
    pixels = np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    words = [f"a red thing, number {number}" for number in range(count)]

    np.testing.assert_array_equal(replicated.images(pixels), ColourEncoder().images(pixels))
    np.testing.assert_array_equal(replicated.texts(words), ColourEncoder().texts(words))
    assert sum(copy.images_seen for copy in copies) == count


def test_every_copy_gets_a_share() -> None:
    copies = [ColourEncoder() for _ in range(3)]
    ReplicatedEncoder(copies).images(np.zeros((9, SIDE, SIDE, 3), dtype=np.uint8))
    assert [copy.images_seen for copy in copies] == [3, 3, 3]


def test_the_batch_size_is_the_sum_of_the_copies() -> None:
    assert ReplicatedEncoder([ColourEncoder(), ColourEncoder()]).image_batch == 8
