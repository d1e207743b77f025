"""A model's two towers as torch modules with unit rows, and their export to ONNX."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.search.errors import first_line
from twinlens.search.models.sessions import save_mappable

if TYPE_CHECKING:
    import torch

#: Bytes of weights beyond which they go into a file beside the graph: protobuf ends at 2 GB.
_LARGE = 1_500_000_000
#: The set of ONNX operators that torch's older exporter writes.
_OPSET = 18

#: Of a tower of transformers: they take the text's tokens only.
_POOLERS = ("MeanPooler", "ClsPooler", "ClsLastHiddenStatePooler")

#: Write a tower as ONNX: the module, an example of its input, the input's name, its axes of any
#: length with their names, and the file.
Exporter = Callable[[Any, Any, str, dict[int, str], Path], None]


class UnsupportedModelError(Exception):
    """A tower or tokenizer cannot be exported; the message says why."""


def text_tower(model: Any, *, shortened: bool = False) -> Any:
    """A module from int64 tokens ``[n, length]`` to float32 unit rows ``[n, dim]``.

    Args:
        model: of OpenCLIP.
        shortened: take rows of tokens that end with the longest text, without padding; for a model
            that ``can_shorten``.
    """
    import torch

    class TextTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            rows = _short_texts(model, tokens) if shortened else self.model.encode_text(tokens)
            return torch.nn.functional.normalize(rows.float(), dim=-1)

    return TextTower().eval()


def can_shorten(model: Any) -> bool:
    """Whether padding after a text cannot change its row.

    So it is in CLIP: a token attends to earlier ones only, and the row is that of the last token.
    """
    return _causal_tower(model) is not None


def text_lengths(model: Any, tokens: torch.Tensor) -> torch.Tensor | None:
    """How many tokens of each text its row depends on; ``None`` if on all, padding too.

    Args:
        model: of OpenCLIP, or ``starter``.
        tokens: int64 ``[n, length]``.

    Returns:
        int64 ``[n]``, for ``encode_short``.
    """
    import torch

    tower = _causal_tower(model)
    if tower is not None:
        if _pool(tower) == "argmax":
            ends = tokens.argmax(dim=1)
        else:
            ends = (tokens == _end(tower)).int().argmax(dim=1)
        return ends + 1
    padding = _masked_padding(model)
    if padding is None:
        return None
    places = torch.arange(1, tokens.shape[1] + 1)
    return torch.where(tokens == padding, 0, places).amax(dim=1).clamp(min=1)


def encode_short(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """``encode_text`` of a model with ``text_lengths``, for tokens cut off at the longest text."""
    if can_shorten(model):
        return _short_texts(model, tokens)
    rows: torch.Tensor = model.encode_text(tokens)
    return rows


def _causal_tower(model: Any) -> Any:
    """The part of a model that has its causal text transformer; ``None`` if it has another kind."""
    from open_clip.model import CLIP, CustomTextCLIP
    from open_clip.transformer import TextTransformer

    tower = model if type(model) is CLIP else None
    if type(model) is CustomTextCLIP and type(model.text) is TextTransformer:
        # A class token behind the text, or a mask of the padding, would have to be kept as it is.
        plain = model.text.cls_emb is None and not model.text.use_pad_mask
        tower = model.text if plain and not model.text.output_tokens else None
    causal = tower is not None and tower.attn_mask is not None
    return tower if causal and _pool(tower) in ("argmax", "eos") else None


def _masked_padding(model: Any) -> int | None:
    """The id of the padding that a bidirectional text tower masks; ``None`` if it masks none."""
    text: Any = getattr(model, "text", None)
    if type(text).__name__ == "HFTextEncoder":
        # OpenCLIP's MaxPooler masks the text instead of the padding.
        by_text = type(text.pooler).__name__ in _POOLERS
        number = text.config.pad_token_id if by_text else None
        return None if number is None else int(number)
    # The built-in model, whose module imports torch.
    return 0 if type(model).__name__ == "Starter" else None


def _pool(tower: Any) -> str:
    return str(getattr(tower, "text_pool_type", None) or tower.pool_type)


def _end(tower: Any) -> Any:
    return getattr(tower, "text_eos_id", None) or getattr(tower, "eos_id", None)


def _short_texts(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """``encode_text`` of OpenCLIP 3.3's CLIP and TextTransformer, for tokens of any length."""
    import torch
    from open_clip.transformer import text_global_pool

    tower = _causal_tower(model)
    length, dtype = tokens.shape[1], tower.transformer.get_cast_dtype()
    inner = tower.token_embedding(tokens).to(dtype)
    inner = inner + tower.positional_embedding[:length].to(dtype)
    inner = tower.transformer(inner, attn_mask=tower.attn_mask[:length, :length])
    inner = tower.ln_final(inner)
    rows: torch.Tensor = text_global_pool(inner, tokens, _pool(tower), eos_token_id=_end(tower))
    projection = tower.text_projection
    if isinstance(projection, torch.nn.Linear):
        rows = projection(rows)
    elif projection is not None:
        rows = rows @ projection
    return rows


def image_tower(model: Any) -> Any:
    """A module from uint8 pixels ``[n, height, width, 3]`` to float32 unit rows ``[n, dim]``."""
    import torch

    config = model.visual.preprocess_cfg
    mean = torch.tensor(config["mean"]).view(1, 3, 1, 1) * 255.0
    std = torch.tensor(config["std"]).view(1, 3, 1, 1) * 255.0

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            images = (pixels.permute(0, 3, 1, 2).float() - mean) / std
            return torch.nn.functional.normalize(self.model.encode_image(images).float(), dim=-1)

    return ImageTower().eval()


def write_by_tracing(tower: Any, example: Any, name: str, free: dict[int, str], path: Path) -> None:
    """Write a tower as ONNX with torch's older exporter, which is quicker than the newer one."""
    import torch

    with _quiet(), _plain_attention(tower), torch.no_grad():
        torch.onnx.export(
            tower,
            (example,),
            str(path),
            dynamo=False,
            dynamic_axes={name: free},
            input_names=[name],
            output_names=["rows"],
            opset_version=_OPSET,
        )


def write_with_dynamo(
    tower: Any, example: Any, name: str, free: dict[int, str], path: Path
) -> None:
    """Write a tower as ONNX with torch's newer exporter.

    Raises:
        UnsupportedModelError: torch cannot export it.
    """
    import torch

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            tower,
            (example,),
            dynamo=True,
            dynamic_shapes=(free,),
            input_names=[name],
            output_names=["rows"],
            verbose=False,
        )
    if program is None:
        raise UnsupportedModelError("torch could not export it")
    weights = sum(one.const_value.nbytes for one in program.model.graph.initializers.values()
                  if one.const_value is not None)  # fmt: skip
    program.save(path, external_data=weights > _LARGE)


#: In the order to try them: the first one that gives the rows of torch is as good as the others.
EXPORTERS: tuple[Exporter, ...] = (write_by_tracing, write_with_dynamo)


def export_tower(
    tower: Any,
    example: Any,
    name: str,
    free: dict[int, str],
    path: Path,
    check: Callable[[], float],
) -> float:
    """Write a tower as ONNX, with its weights in a file of their own, and check it.

    Args:
        tower: the module.
        example: an input of it.
        name: of the input.
        free: axes of the input of any length, with their names.
        path: the file to write.
        check: compares the written tower with torch; the deviation.

    Returns:
        The deviation.

    Raises:
        UnsupportedModelError: no exporter gives a tower that passes.
    """
    problem: Exception | None = None
    for exporter in EXPORTERS:
        try:
            with tempfile.TemporaryDirectory(prefix="whole-", dir=path.parent) as folder:
                whole = Path(folder) / path.name
                exporter(tower, example, name, free, whole)
                save_mappable(whole, path)
            return check()
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever torch or ONNX Runtime raises
            problem = problem or error
    assert problem is not None
    raise UnsupportedModelError(first_line(problem)) from problem


@contextmanager
def _plain_attention(tower: Any) -> Iterator[None]:
    """Replace torch's attention, which is traced for one length only, by its formula."""
    import torch

    replaced = [
        one for one in tower.modules()
        if type(one) is torch.nn.MultiheadAttention and one.batch_first
        and one.in_proj_weight is not None and one.bias_k is None and not one.add_zero_attn
    ]  # fmt: skip
    for one in replaced:
        one.__dict__["forward"] = partial(_attend, one)
    try:
        yield
    finally:
        for one in replaced:
            del one.__dict__["forward"]


def _attend(
    module: Any, query: Any, key: Any, value: Any, attn_mask: Any = None, **options: Any
) -> tuple[Any, None]:
    """``torch.nn.MultiheadAttention`` of a batch with itself, without weights as a result."""
    import torch

    if key is not query or value is not query or options.get("key_padding_mask") is not None:
        raise UnsupportedModelError("its attention is not one of a sequence with itself")
    count, length, width = query.shape
    heads = (count, length, module.num_heads, width // module.num_heads)
    inner = torch.nn.functional.linear(query, module.in_proj_weight, module.in_proj_bias)
    q, k, v = (one.view(heads).transpose(1, 2) for one in inner.chunk(3, dim=-1))
    rows = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
    return module.out_proj(rows.transpose(1, 2).reshape(count, length, width)), None


@contextmanager
def _quiet() -> Iterator[None]:
    """Export without torch's warnings, and without its fused attention, which has no ONNX form."""
    import torch

    fused = torch.backends.mha.get_fastpath_enabled()
    disabled = logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        torch.backends.mha.set_fastpath_enabled(fused)
