"""Export the graphs of `starter` to ONNX without their weights, which come with its packages.

    python -m starter.graphs

writes search/models/data/starter_image.onnx, starter_text.onnx and starter_graphs.json: where each
weight belongs in the file of weights beside a graph. Run it after a change of
search/models/starter.py; it needs the packages ``onnx`` and ``onnxscript``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from twinlens.search.models import export, starter_export, starter_weights, towers
from twinlens.search.models.sessions import open_session
from twinlens.search.models.starter import load_starter

DATA = Path(starter_weights.__file__).parent / "data"
#: Bytes; smaller constants stay in the graph.
SMALL = 1_024


def main() -> None:
    """Write both graphs and the places of their weights."""
    # It takes no options, but --help must not write anything.
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    model, tokenizer = load_starter(dtype=torch.float32)
    weights = (
        starter_weights.read_image_tower()
        | starter_weights.read_text_tower()
        | starter_weights.read_heads()
    )
    tokens = tokenizer(["two dogs in the snow at night"] * 2)
    pixels = torch.from_numpy(export.probe_images(224, 224)[:2])
    image = towers.image_tower(model)
    text = towers.text_tower(model)
    places: dict[str, Any] = {
        "starter_image": write(image, pixels, "pixels", {0: "batch"}, "starter_image", weights),
        "starter_text": write(
            text, tokens, "tokens", {0: "batch", 1: "length"}, "starter_text", weights
        ),
    }
    places["text_deviation"] = places["image_deviation"] = 0.0
    text_deviation, image_deviation = deviations(places, text, image, tokenizer, weights)
    places |= {"text_deviation": text_deviation, "image_deviation": image_deviation}
    lines = (f'"{key}": {json.dumps(value)}' for key, value in places.items())
    (DATA / "starter_graphs.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def deviations(
    places: dict[str, Any], text: Any, image: Any, tokenizer: Any, weights: dict[str, np.ndarray]
) -> tuple[float, float]:
    """1 minus the lowest cosine of each graph's rows with those of torch, on the probes."""
    lowest = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        probes = {
            "starter_text": (text, [tokenizer([one]) for one in export.PROBE_TEXTS]),
            "starter_image": (image, [torch.from_numpy(export.probe_images(224, 224))]),
        }
        for graph, (tower, batches) in probes.items():
            path = Path(folder) / f"{graph}.onnx"
            path.write_bytes((DATA / path.name).read_bytes())
            starter_export.write_weights(path.with_suffix(".weights"), places[graph], weights)
            session = open_session(path)
            name = session.get_inputs()[0].name
            cosines = [
                (session.run(None, {name: batch.numpy()})[0] * tower(batch).numpy()).sum(1)
                for batch in batches
            ]
            lowest.append(float(np.concatenate(cosines).min()))
    return max(0.0, 1 - lowest[0]), max(0.0, 1 - lowest[1])


def write(
    tower: Any,
    example: torch.Tensor,
    name: str,
    free: dict[int, str],
    graph: str,
    weights: dict[str, np.ndarray],
) -> list[list[Any]]:
    """Write one graph; the places of its weights: [name, transposed, offset, bytes]."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        towers.write_with_dynamo(tower, example, name, free, whole)
        proto = onnx.load(whole)
    for one in proto.graph.node:
        one.doc_string = ""
        del one.metadata_props[:]
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    places: list[list[Any]] = []
    offset = 0
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.nbytes < SMALL:
            continue
        source, transposed = find(array, weights)
        places.append([source, transposed, offset, array.nbytes])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (
            ("location", f"{graph}.weights"),
            ("offset", str(offset)),
            ("length", str(array.nbytes)),
        ):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        tensor.ClearField("raw_data")
        offset += array.nbytes
    (DATA / f"{graph}.onnx").write_bytes(proto.SerializeToString(deterministic=True))
    return places


def find(array: np.ndarray, weights: dict[str, np.ndarray]) -> tuple[str, bool]:
    """The weight that an initializer was made of, and whether it is transposed there."""
    for name, weight in weights.items():
        if weight.shape == array.shape and np.allclose(weight, array, atol=1e-5):
            return name, False
        if weight.T.shape == array.shape and np.allclose(weight.T, array, atol=1e-5):
            return name, True
    raise SystemExit(f"an initializer of shape {array.shape} is made of no single weight")


if __name__ == "__main__":
    main()
