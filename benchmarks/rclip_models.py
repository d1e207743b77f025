"""Write rclip's model files from a model of OpenCLIP, so that rclip runs on the same weights.

rclip 3 reads ``ViT-B-32-256`` as ONNX, with float32 input, from its data folder. The hub may be out
of reach, and the time does not depend on the weights: without ``--model`` they are random. They are
written to ``FOLDER/random.pt`` first, for twinlens to read as well.

Usage: python benchmarks/rclip_models.py FOLDER [--model ViT-B-32-256:weights.pt]
       RCLIP_DATADIR=FOLDER python benchmarks/cold.py --rclip RCLIP \\
           --model ViT-B-32-256:FOLDER/random.pt
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import open_clip
import torch

from twinlens.search.models.load import open_encoder
from twinlens.search.models.towers import write_with_dynamo

ARCHITECTURE = "ViT-B-32-256"
#: Where rclip 3.3 looks for its files (``rclip/model_download.py``).
MODELS = "ViT-B-32-256-datacomp_s34b_b86k"
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


class Tower(torch.nn.Module):
    """One method of a model, as a module."""

    def __init__(self, model: torch.nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = getattr(self.model, self.method)(batch)
        return rows


def main() -> None:
    """Make the weights if there are none, and export both towers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    folder: Path = options.folder
    (folder / MODELS).mkdir(parents=True, exist_ok=True)
    encoder = open_encoder(options.model or random_weights(folder), device="cpu", precision="fp32")
    batches = {
        "visual": ("encode_image", torch.zeros(2, 3, 256, 256)),
        "textual": ("encode_text", encoder.tokenizer(["a dog", "two dogs"])),
    }
    for name, (method, example) in batches.items():
        path = folder / MODELS / f"{name}.onnx"
        write_with_dynamo(Tower(encoder.model, method).eval(), example, "input", {0: "batch"}, path)
    (folder / "tokenizer").mkdir(exist_ok=True)
    vocabulary = Path(open_clip.__file__).parent / VOCABULARY
    shutil.copyfile(vocabulary, folder / "tokenizer" / VOCABULARY)
    print(f"RCLIP_DATADIR={folder.resolve()}")


def random_weights(folder: Path) -> str:
    """Write random weights of the architecture, unless they are there; return the model's name."""
    path = folder.resolve() / "random.pt"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(open_clip.create_model(ARCHITECTURE).state_dict(), path)
    return f"{ARCHITECTURE}:{path}"


if __name__ == "__main__":
    main()
