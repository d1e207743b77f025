"""Encode large batches of images with OpenVINO: faster than torch on a CPU, same ranking."""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any

from twinlens.search.errors import UsageError
from twinlens.search.models.weights import LOADING

if TYPE_CHECKING:
    import torch

#: Smaller batches stay with torch, so that a query need not wait seconds for the conversion.
MIN_BATCH = 16


def is_installed() -> bool:
    """Whether the extra ``openvino`` is installed."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoTower:
    """Run ``encode_image`` of a float32 model on the CPU; convert the model on the first call.

    Args:
        model: offers OpenCLIP's ``encode_image``.
        side: of the model's images, in pixels.
        bf16: compute in bfloat16.

    Raises:
        UsageError: the extra ``openvino`` is not installed.
    """

    def __init__(self, model: Any, side: int, *, bf16: bool) -> None:
        if not is_installed():
            raise UsageError("the device openvino needs an extra: pip install 'twinlens[openvino]'")
        self._model = model
        self._side = side
        self._precision = "bf16" if bf16 else "f32"
        self._lock = threading.Lock()
        self._compiled: Any = None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float32 ``[n, 3, side, side]`` → float32 ``[n, dim]``."""
        import torch

        # One call at a time: a compiled model has one set of buffers.
        with self._lock:
            if self._compiled is None:
                self._compiled = self._convert()
            rows = self._compiled(images.contiguous().numpy())[0]
        return torch.from_numpy(rows.copy())

    def _convert(self) -> Any:
        import openvino
        import torch

        class Tower(torch.nn.Module):
            def __init__(self, model: Any) -> None:
                super().__init__()
                self.model = model

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                rows: torch.Tensor = self.model.encode_image(images)
                return rows

        example = torch.zeros(2, 3, self._side, self._side)
        with LOADING, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # Torch's fused attention is one opaque operation, which OpenVINO cannot convert.
            fused = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
            try:
                graph = openvino.convert_model(
                    Tower(self._model).eval(),
                    example_input=example,
                    input=[-1, 3, self._side, self._side],
                )
            finally:
                torch.backends.mha.set_fastpath_enabled(fused)
        return openvino.Core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": self._precision,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": os.cpu_count() or 1,
            },
        )
