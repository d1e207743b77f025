"""``python -m starter.convert``: from the published layouts to what ``starter.train`` reads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support import ROOT

Convert = Callable[..., Path]
NAMES = ["1_a.jpg", "2_b.jpg", "3_c.jpg"]


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Convert:
    """Runs the command; the folder that it wrote to."""
    monkeypatch.syspath_prepend(str(ROOT))
    from starter.convert import main

    def run(*arguments: str | Path) -> Path:
        out = tmp_path / "out"
        words = [str(one) for one in arguments]
        monkeypatch.setattr(sys, "argv", ["convert", *words, "--out", str(out)])
        main()
        return out

    return run


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    """Both zips of Flickr8k, unpacked beside each other, with three photos."""
    folder = tmp_path / "published"
    photos, texts = folder / "Flicker8k_Dataset", folder / "Flickr8k_text"
    photos.mkdir(parents=True)
    texts.mkdir()
    (folder / "__MACOSX" / "Flicker8k_Dataset").mkdir(parents=True)
    for name in NAMES:
        Image.new("RGB", (500, 333), "red").save(photos / name)
    lines = [f"{name}#{n}\tcaption {n} of {name} .\n" for name in NAMES for n in range(5)]
    # The published file has captions of a photo that is not there.
    lines += [f"2258277193_586949ec62.jpg.1#{n}\tsome people\n" for n in range(5)]
    (texts / "Flickr8k.token.txt").write_text("".join(lines))
    (texts / "Flickr_8k.trainImages.txt").write_text(f"{NAMES[2]}\n{NAMES[0]}\n")
    (texts / "Flickr_8k.devImages.txt").write_text(f"{NAMES[1]}\n")
    (texts / "Flickr_8k.testImages.txt").write_text("4_d.jpg\n")
    return folder


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A checkout of imagenet-sample-images: a photo for each of 1,000 classes."""
    folder = tmp_path / "imagenet-sample-images"
    folder.mkdir()
    (folder / "README.md").write_text("# samples")
    for n in range(1, 1000):
        Image.new("RGB", (4, 2)).save(folder / f"n{n:08}_hand-held_computer.JPEG", "JPEG")
    Image.new("RGB", (1000, 500)).save(folder / "n00001000_jack-o'-lantern.JPEG", "JPEG")
    return folder


def test_flickr8k_is_converted_to_what_the_training_reads(convert: Convert, flickr8k: Path) -> None:
    out = convert("--flickr8k", flickr8k) / "flickr8k"
    from starter.data import read_photos

    photos = read_photos(out)
    assert [(photo.path.name, photo.split) for photo in photos] == [
        ("1_a.jpg", "train"),
        ("2_b.jpg", "dev"),
        ("3_c.jpg", "train"),
    ]
    assert photos[1].captions == tuple(f"caption {n} of 2_b.jpg ." for n in range(5))
    with Image.open(photos[0].path) as image:
        assert (image.size, image.format) == ((224, 224), "JPEG")


def test_samples_are_converted_to_what_the_training_reads(convert: Convert, samples: Path) -> None:
    out = convert("--imagenet-samples", samples) / "imagenet-samples"
    from starter.data import read_nouns, read_samples

    read = read_samples(out)
    assert [sample.number for sample in read] == list(range(1000))
    assert (read[0].wnid, read[0].label) == ("n00000001", "hand-held computer")
    assert read[-1].label == "jack-o'-lantern"
    assert len(read_nouns(None, read)) == 1000
    with Image.open(read[0].path) as small, Image.open(read[-1].path) as large:
        assert (small.size, large.size) == ((4, 2), (512, 256)), "never scaled up"


def _without_a_photo(folder: Path) -> None:
    (folder / "Flicker8k_Dataset" / NAMES[0]).unlink()


def _with_a_damaged_photo(folder: Path) -> None:
    (folder / "Flicker8k_Dataset" / NAMES[0]).write_bytes(b"\xff\xd8\xff\xe0 no")


def _without_captions(folder: Path) -> None:
    (folder / "Flickr8k_text" / "Flickr8k.token.txt").unlink()


def _with_four_captions(folder: Path) -> None:
    path = folder / "Flickr8k_text" / "Flickr8k.token.txt"
    path.write_text(path.read_text().partition("\n")[2])


def _with_spaces_for_tabs(folder: Path) -> None:
    path = folder / "Flickr8k_text" / "Flickr8k.token.txt"
    path.write_text(path.read_text().replace("\t", " "))


def _with_captions_in_latin(folder: Path) -> None:
    (folder / "Flickr8k_text" / "Flickr8k.token.txt").write_bytes(b"1_a.jpg#0\tcaf\xe9\n")


def _with_a_path_in_a_split(folder: Path) -> None:
    (folder / "Flickr8k_text" / "Flickr_8k.devImages.txt").write_text("../2_b.jpg\n")


def _with_a_photo_in_two_splits(folder: Path) -> None:
    (folder / "Flickr8k_text" / "Flickr_8k.devImages.txt").write_text(f"{NAMES[0]}\n")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_without_a_photo, "lacks 1 of 3 photos, 1_a.jpg for one"),
        (_with_a_damaged_photo, "1_a.jpg: "),
        (_without_captions, "there is no Flickr8k.token.txt in "),
        (_with_four_captions, "has 4 captions of 1_a.jpg, not 5"),
        (_with_spaces_for_tabs, "line 1 of "),
        (_with_captions_in_latin, "is not UTF-8 text"),
        (_with_a_path_in_a_split, "names ../2_b.jpg: not the name of a file"),
        (_with_a_photo_in_two_splits, "names 1_a.jpg again; a photo belongs to one split"),
    ],
)
def test_what_is_not_as_published_is_one_line(
    convert: Convert, flickr8k: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    convert("--flickr8k", flickr8k)
    spoil(flickr8k)
    with pytest.raises(SystemExit) as raised:
        convert("--flickr8k", flickr8k)
    message = str(raised.value)
    assert message.startswith("error: ")
    assert reason in message
    assert "\n" not in message


def test_a_list_of_photos_is_there_only_if_all_are(
    convert: Convert, flickr8k: Path, tmp_path: Path
) -> None:
    convert("--flickr8k", flickr8k)
    _with_a_damaged_photo(flickr8k)
    with pytest.raises(SystemExit):
        convert("--flickr8k", flickr8k)
    assert not (tmp_path / "out" / "flickr8k" / "captions.jsonl").exists()


def test_samples_of_too_few_classes_are_one_line(convert: Convert, samples: Path) -> None:
    (samples / "n00000001_hand-held_computer.JPEG").unlink()
    with pytest.raises(SystemExit, match="has photos of 999 classes"):
        convert("--imagenet-samples", samples)
    Image.new("RGB", (4, 2)).save(samples / "n00000002_other.jpg")
    with pytest.raises(SystemExit, match="two photos of class n00000002; keep one"):
        convert("--imagenet-samples", samples)


def test_a_folder_is_not_written_into_itself(convert: Convert, samples: Path) -> None:
    folder = samples.rename(samples.parent / "out")
    (folder / "imagenet-samples").symlink_to(folder)
    with pytest.raises(SystemExit, match="is the folder to read"):
        convert("--imagenet-samples", folder)
    assert not (folder / "images").exists()


def test_a_data_set_is_named(convert: Convert, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        convert()
    assert "name a data set: --flickr8k, --imagenet-samples or both" in capsys.readouterr().err
