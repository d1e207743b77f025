"""Make the inputs of ``starter.train`` from the data sets as they are published.

    python -m starter.convert --flickr8k FOLDER --imagenet-samples FOLDER --out FOLDER

writes OUT/flickr8k (``captions.jsonl``, images/) and OUT/imagenet-samples (``labels.jsonl``,
images/). The folders to read:

- Flickr8k: what Flickr8k_Dataset.zip and Flickr8k_text.zip hold, unpacked into one folder or into
  folders in it. The photos of the train and dev splits are converted; the test split is not used.
- ImageNet samples: a checkout of EliSchwartz/imagenet-sample-images, a photo for each class.

WordNet is used as it is published.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from starter.data import CAPTIONS, CLASSES, PHOTO_LIST, SAMPLE_LIST
from twinlens.search.errors import ImageError, SourceError, TwinlensError
from twinlens.search.images.decode import MAX_BYTES, decode
from twinlens.search.printable import printable

TOKENS = "Flickr8k.token.txt"
SPLITS = {"train": "Flickr_8k.trainImages.txt", "dev": "Flickr_8k.devImages.txt"}
#: The first is the published spelling.
PHOTO_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset")
_SAMPLE = re.compile(r"(n\d{8})_(.+)\.jpe?g", re.IGNORECASE)
#: Pixels, as in the training of the heads that ship: Flickr8k's photos are squashed to a square,
#: the samples keep their shape.
SIDE = 224
SHORT_SIDE = 256
QUALITY = 85
#: Bytes; the captions of Flickr8k have 3.4 MB.
MAX_TEXT = 64 << 20


def main() -> None:
    """Convert the data sets that are named; a mistake is one line and exit code 1."""
    options = _options()
    try:
        if options.flickr8k:
            convert_flickr8k(options.flickr8k, options.out / "flickr8k")
        if options.imagenet_samples:
            convert_samples(options.imagenet_samples, options.out / "imagenet-samples")
    except (TwinlensError, OSError) as error:
        raise SystemExit(f"error: {printable(str(error))}") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted; run it again to convert everything") from None


def convert_flickr8k(folder: Path, out: Path) -> None:
    """Write the photos of train and dev, squashed to 224×224, with five captions each.

    Raises:
        SourceError: a file is missing, or is not as published.
    """
    tokens = _find(folder, TOKENS)
    split_of: dict[str, str] = {}
    for split, name in SPLITS.items():
        path = _find(folder, name)
        for photo in filter(None, map(str.strip, _lines(path))):
            if photo in split_of:
                raise SourceError(f"{path} names {photo} again; a photo belongs to one split")
            if photo in {".", ".."} or re.search(r"[/\\:]", photo):
                raise SourceError(f"{path} names {photo}: not the name of a file")
            split_of[photo] = split
    if not split_of:
        raise SourceError(f"the lists {' and '.join(SPLITS.values())} in {folder} are empty")
    captions = _read_captions(tokens, split_of)
    photos = _find(folder, *PHOTO_FOLDERS)
    missing = [name for name in split_of if not (photos / name).is_file()]
    if missing:
        raise SourceError(
            f"{photos} lacks {len(missing):,} of {len(split_of):,} photos, {min(missing)} for one; "
            "unpack Flickr8k_Dataset.zip again"
        )
    rows = (
        (photos / name, {"captions": captions[name], "split": split_of[name]})
        for name in sorted(split_of)
    )
    _write(rows, len(split_of), folder, out, PHOTO_LIST, (SIDE, SIDE))


def convert_samples(folder: Path, out: Path) -> None:
    """Write one photo for each of the 1,000 classes, its shorter side 256 pixels at most.

    Raises:
        SourceError: a class is missing, or has two photos.
    """
    samples: dict[str, tuple[Path, str]] = {}
    for path in _entries(folder):
        found = _SAMPLE.fullmatch(path.name)
        if not (found and path.is_file()):
            continue
        wnid = found[1].lower()
        if wnid in samples:
            raise SourceError(f"{folder} has two photos of class {wnid}; keep one")
        samples[wnid] = path, found[2].replace("_", " ")
    if len(samples) != CLASSES:
        raise SourceError(
            f"{folder} has photos of {len(samples):,} classes (files like n01440764_tench.JPEG), "
            f"not of {CLASSES:,}; clone EliSchwartz/imagenet-sample-images again"
        )
    rows = (
        (path, {"wnid": wnid, "label": label}) for wnid, (path, label) in sorted(samples.items())
    )
    _write(rows, len(samples), folder, out, SAMPLE_LIST, None)


def _read_captions(path: Path, wanted: Iterable[str]) -> dict[str, list[str]]:
    """The captions of the photos ``wanted``: lines of ``NAME#NUMBER<tab>CAPTION``."""
    captions: dict[str, list[str]] = {name: [] for name in wanted}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, mark, _ = key.rpartition("#")
        if not (tab and mark and caption.strip()):
            raise SourceError(f"line {number} of {path} is not NAME#NUMBER<tab>CAPTION")
        if name in captions:
            captions[name].append(caption.strip())
    for name, own in captions.items():
        if len(own) != CAPTIONS:
            raise SourceError(f"{path} has {len(own)} captions of {name}, not {CAPTIONS}")
    return captions


def _write(
    rows: Iterable[tuple[Path, dict[str, Any]]],
    count: int,
    source: Path,
    out: Path,
    listing: str,
    size: tuple[int, int] | None,
) -> None:
    """Write the pictures one by one, then their list: what was interrupted has none."""
    if out.resolve() == source.resolve():
        raise SourceError(f"{out} is the folder to read; name another one as --out")
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / listing).unlink(missing_ok=True)
    partial = out / f"{listing}.partial"
    with partial.open("w", encoding="utf-8") as file:
        for path, row in tqdm(rows, total=count, desc=out.name, unit="photo"):
            image = f"images/{path.stem}.jpg"
            _read_picture(path, size).save(out / image, "JPEG", quality=QUALITY)
            file.write(json.dumps({"image": image} | row, ensure_ascii=False) + "\n")
    partial.replace(out / listing)
    print(f"{out / listing}: {count:,} photos")


def _read_picture(path: Path, size: tuple[int, int] | None) -> Image.Image:
    """A picture in ``size``, or else with a shorter side of ``SHORT_SIDE`` at most."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SourceError(f"{path} is over the limit of {MAX_BYTES:,} bytes")
        picture = decode(path.read_bytes(), target=SHORT_SIDE).image
    except ImageError as error:
        raise SourceError(f"{path}: {error}") from None
    factor = min(1.0, SHORT_SIDE / min(picture.size))
    width, height = (round(side * factor) for side in picture.size)
    return picture.resize(size or (width, height), Image.Resampling.BICUBIC)


def _find(folder: Path, *names: str) -> Path:
    """The file or folder of one of ``names`` in ``folder``, or up to two folders below."""
    _entries(folder)
    for name in names:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            for path in sorted(folder.glob(pattern)):
                if "__MACOSX" not in path.parts:  # macOS's half of a zip
                    return path
    raise SourceError(f"there is no {names[0]} in {folder}; unpack the data set there")


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder")
    return sorted(folder.iterdir())


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file() or path.stat().st_size > MAX_TEXT:
        raise SourceError(f"{path} is no text file of at most {MAX_TEXT >> 20} MB")
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from file
    except UnicodeDecodeError:
        raise SourceError(f"{path} is not UTF-8 text") from None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Make the inputs of starter.train from the data sets as they are published."
    )
    parser.add_argument(
        "--flickr8k",
        type=Path,
        help="folder with Flickr8k_Dataset.zip and Flickr8k_text.zip, unpacked",
    )
    parser.add_argument(
        "--imagenet-samples", type=Path, help="checkout of EliSchwartz/imagenet-sample-images"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args()
    if not (options.flickr8k or options.imagenet_samples):
        parser.error("name a data set: --flickr8k, --imagenet-samples or both")
    return options


if __name__ == "__main__":
    main()
