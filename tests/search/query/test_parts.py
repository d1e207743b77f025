"""The parts of a query, and the messages for invalid ones."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.errors import ImageError, UsageError
from twinlens.search.models.base import Rows
from twinlens.search.query.embed import EmbeddingCache, embed, prepare_part
from twinlens.search.query.parts import (
    MAX_QUERY_TEXT,
    Id,
    Image,
    Not,
    Text,
    Vector,
    parse,
    read_image,
    several,
)


def one(part: Text | Image | Vector, encoder: ColourEncoder) -> Rows:
    """The row of a single part."""
    dim, cache = encoder.fingerprint.dim, EmbeddingCache()
    (row,) = embed(
        [prepare_part(part, lambda: encoder, {}, dim, cache, "texts")], lambda: encoder, dim, cache
    )
    return row


def test_a_string_is_a_text() -> None:
    assert parse("two dogs") == (Text("two dogs"),)


def test_a_picture_is_an_image() -> None:
    assert parse(image="cat.jpg") == (Image("cat.jpg"),)


def test_an_array_is_a_vector() -> None:
    values = np.ones(16)
    (part,) = parse(values)
    assert isinstance(part, Vector)
    assert part.values is values


@pytest.mark.parametrize("part", [Text("a"), Image("a.jpg"), Vector([1.0])])
def test_a_part_stays_as_it_is(part: object) -> None:
    assert parse(part)[0] is part


def test_a_query_must_not_be_empty() -> None:
    with pytest.raises(UsageError, match="give words or a picture"):
        parse()


@pytest.mark.parametrize("nothing", ["", "  ", "\n\t"])
def test_an_empty_text_is_rejected(nothing: str) -> None:
    with pytest.raises(UsageError, match="the query is empty"):
        parse(nothing)


def test_a_text_that_is_too_long_is_rejected() -> None:
    assert parse("a" * MAX_QUERY_TEXT)
    with pytest.raises(UsageError, match="longer than 10,000 characters"):
        parse("a" * (MAX_QUERY_TEXT + 1))


@pytest.mark.parametrize("query", [7, b"bytes", {"text": "a dog"}])
def test_other_types_are_rejected(query: object) -> None:
    with pytest.raises(UsageError, match=f"not {type(query).__name__}"):
        parse(query)


def test_text_and_picture_become_unit_rows(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    for part in (Text("red"), Image(paint("red"))):
        row = one(part, encoder)
        assert row.shape == (16,)
        assert row.dtype == np.float32
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)
        assert row.argmax() == list(COLOURS).index("red")


def test_whatever_holds_a_picture_gives_the_same_row(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    path = paint("blue")
    expected = one(Image(path), encoder)
    (entry,) = os.scandir(path.parent)
    read = io.BytesIO(path.read_bytes())
    read.seek(7)
    pixels = np.asarray(Pillow.open(path))
    data = path.read_bytes()
    with path.open("rb") as file:
        for source in (
            str(path),
            data,
            bytearray(data),
            Pillow.open(path),
            entry,
            read,
            file,
            pixels,
        ):
            np.testing.assert_array_equal(one(Image(source), encoder), expected)
    for query in (path, Pillow.open(path), read, pixels):
        np.testing.assert_array_equal(one(*parse(query), encoder), expected)


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"shape \[height, width\].*not \[4, 4, 2\]"),
        (np.zeros((0, 4), np.uint8), r"not \[0, 4\]"),
        (np.zeros(4, np.uint8), "for an embedding, use Vector"),
        (np.zeros((4, 4, 3)), "must be uint8, from 0 to 255, not float64"),
        (io.StringIO("text"), "must be binary: open it with mode 'rb'"),
    ],
)
def test_arrays_and_files_that_are_no_pictures(pixels: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_image(pixels)  # type: ignore[arg-type]


def test_grey_and_transparent_pixels() -> None:
    for shape, mode in (((2, 3), "L"), ((2, 3, 1), "L"), ((2, 3, 3), "RGB"), ((2, 3, 4), "RGBA")):
        image = Pillow.open(io.BytesIO(read_image(np.full(shape, 7, np.uint8))))
        assert (image.mode, image.size) == (mode, (3, 2))


def test_surrogates_in_a_text_are_replaced(encoder: ColourEncoder) -> None:
    # Surrogates come from terminals that are not UTF-8.
    assert one(Text("red \udcff"), encoder).argmax() == list(COLOURS).index("red")


def test_a_vector_is_normalised(encoder: ColourEncoder) -> None:
    row = one(Vector([3.0, 4.0] + [0.0] * 14), encoder)
    np.testing.assert_allclose(row, [0.6, 0.8] + [0.0] * 14, rtol=1e-6)
    assert row.dtype == np.float32


@pytest.mark.parametrize("size", [1e-30, 1e30, 1e300])
def test_a_vector_of_any_length_is_normalised(encoder: ColourEncoder, size: float) -> None:
    row = one(Vector(np.full(16, size)), encoder)
    np.testing.assert_allclose(row, np.full(16, 0.25), rtol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        np.ones(15),
        np.zeros(16),
        [float("nan")] * 16,
        [float("inf")] * 16,
        [],
        "words",
        None,
        [[1.0], [1.0, 2.0]],
        [1j] * 16,
    ],
    ids=repr,
)
def test_an_invalid_vector_is_rejected(encoder: ColourEncoder, values: object) -> None:
    with pytest.raises(UsageError, match="a query vector must have 16 finite numbers"):
        one(Vector(values), encoder)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the picture .*/none\.jpg does not exist"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(UsageError, match=r"the picture .* does not exist"):
        read_image("no\0such.jpg")


def test_a_folder_is_not_a_picture(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


def test_a_broken_picture_is_an_image_error(encoder: ColourEncoder) -> None:
    with pytest.raises(ImageError):
        one(Image(b"these are not pixels"), encoder)


def test_another_type_is_not_a_picture() -> None:
    with pytest.raises(UsageError, match="not list"):
        read_image([1, 2, 3])  # type: ignore[arg-type]


def test_a_pillow_image_keeps_its_pixels() -> None:
    image = Pillow.new("RGBA", (3, 2), (1, 2, 3, 4))
    assert Pillow.open(io.BytesIO(read_image(image))).getpixel((0, 0)) == (1, 2, 3, 4)


def test_text_must_be_a_string() -> None:
    with pytest.raises(UsageError, match="the text of a query must be a string, not int"):
        Text(5)  # type: ignore[arg-type]


def test_not_must_not_be_empty() -> None:
    with pytest.raises(UsageError, match="Not is empty"):
        Not(" ")


def test_an_invalid_picture_is_named(encoder: ColourEncoder, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost")
    with pytest.raises(ImageError, match=rf"^{tmp_path}/hosts: not an image"):
        one(Image(tmp_path / "hosts"), encoder)


@pytest.mark.parametrize("query", ["abc", b"abc", Text("abc"), 7, None])
def test_a_batch_must_be_a_list(query: object) -> None:
    with pytest.raises(UsageError, match="several queries must be a list, not one"):
        several(query)
    assert several(np.ones((2, 16)))[1].shape == (16,)


def test_every_kind_of_part_searches_a_collection(
    either: twinlens.Index, encoder: ColourEncoder, photos: Path
) -> None:
    either.ingest(photos)
    (blue,) = encoder.texts(["all blue"])
    stored = either.search("a red picture", limit=1)[0].id
    for part, colour in (
        ("a red picture", "red"),
        (Text("a green picture"), "green"),
        (Image(photos / "yellow.png"), "yellow"),
        (Vector(blue), "blue"),
        (blue, "blue"),
        ([Text("a red picture"), Image(photos / "blue.png", 3), Not("all red")], "blue"),
    ):
        assert Path(either.search(part, limit=1)[0].path).stem == colour
    assert stored not in {hit.id for hit in either.search(Id(stored))}
    many = either.search_many(["all white", [Image(photos / "black.png")]], limit=1)
    assert [Path(hits[0].path).stem for hits in many] == ["white", "black"]
