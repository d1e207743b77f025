"""Open ONNX models on the CPU so that the first run costs little: weights are mapped, not read."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.search.errors import ModelError, first_line
from twinlens.search.models.base import Rows

#: Runs of a tower after which its weights are packed. Packing ViT-B-32's text tower takes as much
#: time as eight runs save.
RUNS_UNTIL_PACKED = 8
#: Bytes; larger weights go into the file beside the graph.
_SMALL = 1_024


class Tower:
    """Run one exported tower; safe to use from any thread.

    ONNX Runtime can copy all weights into the order that its matrix products read fastest. That
    costs a process that asks one question more than it saves; one that asks many gets it after a
    few runs.

    Args:
        model: the ONNX file.

    Raises:
        ModelError: ONNX Runtime cannot read it.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._session = open_session(model)
        self._input: str = self._session.get_inputs()[0].name
        self._runs = 0
        self._lock = threading.Lock()

    def __call__(self, batch: np.ndarray) -> Rows:
        """Encode a batch as float32 ``[n, dim]``."""
        with self._lock:
            self._runs += 1
            due = self._runs == RUNS_UNTIL_PACKED
        if due:
            self._session = open_session(self._model, packed=True)
        rows: Rows = self._session.run(None, {self._input: batch})[0]
        return rows


def open_session(model: Path, *, packed: bool = False) -> Any:
    """Open an ONNX model.

    Args:
        model: the ONNX file.
        packed: copy the weights into the order that matrix products read fastest.

    Raises:
        ModelError: ONNX Runtime cannot read it.
    """
    return _open(model, {} if packed else {"session.disable_prepacking": "1"})


def save_mappable(model: Path, target: Path) -> None:
    """Write a model with its constants computed, and its weights in a file beside it, to be mapped.

    Args:
        model: the ONNX file.
        target: the new file; the weights get its name with the ending ``.weights``.

    Raises:
        ModelError: ONNX Runtime cannot read the model.
    """
    _open(
        model,
        {
            "session.disable_prepacking": "1",
            "session.optimized_model_external_initializers_file_name": target.stem + ".weights",
            "session.optimized_model_external_initializers_min_size_in_bytes": str(_SMALL),
        },
        target,
    )


def _open(model: Path, settings: dict[str, str], target: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Threads that spin between two calls take processor time from everybody else.
    for name, value in ({"session.intra_op.allow_spinning": "0"} | settings).items():
        options.add_session_config_entry(name, value)
    options.log_severity_level = 4  # its errors are raised as well
    if target is not None:
        # Standard operators only: what goes beyond them depends on the processor and the version.
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(target)
    try:
        return onnxruntime.InferenceSession(
            str(model), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(
            f"the exported model {model} cannot be loaded: {first_line(error)}. Delete its folder; "
            "the next ingest exports it again"
        ) from error
