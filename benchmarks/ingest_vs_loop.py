"""Compare ingest with the usual loop: open, preprocess, encode, insert, one at a time.

Usage: python benchmarks/ingest_vs_loop.py [--count 2000] [--model starter] [--folder DIR]

Both sides use the same model object on the same pictures and write to their own Milvus Lite file;
loading the model is not measured. The two alternate in rounds, so that a drift of the machine's
speed affects both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from pictures import make_pictures
from PIL import Image

import twinlens
from twinlens.search.models.load import open_encoder
from twinlens.search.models.openclip import OpenClipEncoder


def tutorial_loop(encoder: OpenClipEncoder, files: list[Path], db: Path) -> float:
    """Seconds for the loop: what one writes after reading a tutorial."""
    import torch
    from pymilvus import MilvusClient

    transform, model = encoder.transform(), encoder.model
    client = MilvusClient(str(db))
    client.create_collection("pictures", dimension=encoder.fingerprint.dim, auto_id=True)
    began = time.perf_counter()
    with torch.no_grad():
        for path in files:
            pixels = transform(Image.open(path).convert("RGB")).unsqueeze(0)
            row = model.encode_image(pixels)
            row = (row / row.norm(dim=-1, keepdim=True)).squeeze(0).float().tolist()
            client.insert("pictures", {"vector": row, "path": str(path)})
    seconds = time.perf_counter() - began
    client.close()
    return seconds


def ours(encoder: OpenClipEncoder, folder: Path, db: Path) -> tuple[float, float]:
    """Seconds for ``Index.ingest``, and the share of them in which the encoder was at work."""
    with twinlens.open(db, model=encoder) as index:
        began = time.perf_counter()
        report = index.ingest(folder)
        seconds = time.perf_counter() - began
    return seconds, report.encode_seconds / report.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--device", default="cpu", help="ours: cpu or openvino")
    parser.add_argument("--folder", type=Path, help="pictures to use instead of made ones")
    options = parser.parse_args()
    encoder = open_encoder(options.model, device=options.device)
    loop_encoder = open_encoder(options.model, device="cpu", precision="fp32")
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        folder = options.folder or make_pictures(base / "pictures", options.count)
        files = sorted(folder.rglob("*.jpg"))[: options.count]
        part = max(1, len(files) // options.rounds)
        ratios, speeds, shares = [], [], []
        for turn in range(options.rounds):
            chosen = files[turn * part : (turn + 1) * part]
            links = base / f"part{turn}"
            links.mkdir()
            for file in chosen:
                (links / file.name).symlink_to(file)
            loop = tutorial_loop(loop_encoder, chosen, base / f"loop{turn}.db")
            seconds, share = ours(encoder, links, base / f"ours{turn}.db")
            ratios.append(loop / seconds)
            shares.append(share)
            speeds.append((len(chosen) / loop, len(chosen) / seconds))
            print(
                f"round {turn + 1}: loop {speeds[-1][0]:6.1f} img/s, ingest {speeds[-1][1]:6.1f} "
                f"img/s, ratio {ratios[-1]:.2f}, encoder busy {share:.0%}"
            )
        print(
            f"{options.model}, {len(files)} pictures: ingest is {statistics.median(ratios):.2f} "
            f"times as fast as the loop; encoder busy {statistics.median(shares):.0%} of the time"
        )


if __name__ == "__main__":
    main()
