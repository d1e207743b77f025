"""Read, decode and encode pictures in batches of the encoder's size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from twinlens.search.errors import ImageError, reason_of
from twinlens.search.images.decode import decode
from twinlens.search.models.base import Encoder, Pixels, Rows
from twinlens.search.records import image_id

#: A name, and a function that reads the encoded bytes.
NamedImage = tuple[str, Callable[[], bytes]]


@dataclass(frozen=True, slots=True, eq=False)
class ReadPicture:
    """A picture that was read.

    Attributes:
        name: as it was given.
        id: the hash of its bytes, by which it would be stored.
        pixels: uint8 ``[side, side, 3]``, as the encoder takes them; ``None`` after an error.
        error: why it cannot be read.
    """

    name: str
    id: str = ""
    pixels: Pixels | None = None
    error: str = ""


def read_pictures(encoder: Encoder, images: Iterable[NamedImage]) -> Iterator[list[ReadPicture]]:
    """Read and decode images in parallel, in order, ``encoder.image_batch`` at a time.

    One batch is read ahead. An image that cannot be read has an error.
    """

    def read(image: NamedImage) -> ReadPicture:
        name, load = image
        try:
            data = load()
            decoded = decode(data, target=encoder.fingerprint.image_size)
            return ReadPicture(name, image_id(data), encoder.prepare(decoded.image))
        except (ImageError, OSError) as error:
            return ReadPicture(name, error=reason_of(error))

    source = iter(images)
    with ThreadPoolExecutor() as pool:

        def ahead() -> Iterator[ReadPicture]:
            return pool.map(read, list(islice(source, encoder.image_batch)))

        reading = ahead()
        while batch := list(reading):
            reading = ahead()
            yield batch


def encode_images(encoder: Encoder, images: Iterable[bytes]) -> Rows:
    """Decode and encode ``n`` images, at least one, as float32 unit rows ``[n, dim]``.

    No more than a batch of them is held in memory, if ``images`` is an iterator.

    Raises:
        ImageError: an image cannot be decoded.
    """
    side = encoder.fingerprint.image_size
    source = (encoder.prepare(decode(data, target=side).image) for data in images)
    batches = []
    while batch := list(islice(source, encoder.image_batch)):
        batches.append(encoder.images(np.stack(batch)))
    return np.concatenate(batches)
