"""The built-in model ``starter``: small, without a download, with OpenCLIP's interface.

Two pretrained towers that are installed as Python packages, and two heads of our own that map both
into one space (trained by ``starter/train.py``, evaluated in ``data/MODEL_CARD.md``):

    image   → EfficientNet-Lite2, five depths pooled + class odds → image head ─┐
                                                                                 ├→ 384 numbers
    text    → all-MiniLM-L6-v2, mean of its tokens                → text head ──┘
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from twinlens.search.models import starter_weights
from twinlens.search.models.starter_weights import DIM, IMAGE_SIZE, MAX_TOKENS, REPEATS, Arrays


def load_starter(
    heads: Path | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Starter, Tokenizer]:
    """Load the model and its tokenizer on the CPU.

    Args:
        heads: a file with trained heads; by default the one in this package.
        dtype: of the image tower; bfloat16 gives the same ranking. Rows are float32 in any case.

    Raises:
        ModelError: the packages of the extra ``starter`` are not installed.
    """
    tokenizer = Tokenizer(starter_weights.tokenizer_file())
    towers = starter_weights.read_image_tower() | starter_weights.read_text_tower()
    model = Starter(ImageTower(towers), TextTower(), starter_weights.read_heads(heads))
    _assign(model, towers)
    model.visual.to(dtype).to(memory_format=torch.channels_last)
    return model.eval().requires_grad_(False), tokenizer


class Tokenizer:
    """Split texts into token numbers, padded with 0 to the longest of the batch."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer as WordPieces

        self.pieces = WordPieces.from_file(str(file))
        self.pieces.enable_truncation(MAX_TOKENS)
        self.pieces.enable_padding(pad_id=0)

    def __call__(self, texts: str | list[str]) -> Tensor:
        """``n`` texts → int64 ``[n, length]``."""
        batch = self.pieces.encode_batch([texts] if isinstance(texts, str) else texts)
        return torch.tensor([encoding.ids for encoding in batch], dtype=torch.int64)


class Starter(nn.Module):
    """Encode images and texts with both towers and heads, by the methods of OpenCLIP's models."""

    def __init__(self, visual: ImageTower, text: TextTower, heads: Arrays) -> None:
        super().__init__()
        self.visual = visual
        self.text = text
        self.image_head = ImageHead(visual.features, hidden=len(heads["image_head.up.bias"]))
        self.text_head = TextHead(hidden=len(heads["text_head.up.bias"]))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        _assign(self, heads)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Normalised float pixels ``[n, 3, side, side]`` → float32 ``[n, 384]``."""
        rows: Tensor = self.image_head(*self.visual(images))
        return F.normalize(rows, dim=-1) if normalize else rows

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """int64 ``[n, length]``, 0 where padded → float32 ``[n, 384]``."""
        rows: Tensor = self.text_head(self.text(tokens))
        return F.normalize(rows, dim=-1) if normalize else rows


class ImageHead(nn.Module):
    """Map pooled features and class probabilities into the space of the texts.

    The sum of two terms. The first is the mean of the embeddings of 1,000 class names, weighted by
    the classifier's probabilities: it knows things that no training caption named (ConSE,
    https://arxiv.org/abs/1312.5650). The second comes from the features: colours, people, actions
    and places, which class names do not cover.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(features))
        self.scale = nn.Buffer(torch.ones(features))
        self.up = nn.Linear(features, hidden)
        self.down = nn.Linear(hidden, DIM)
        self.skip = nn.Linear(features, DIM)
        self.classes = nn.Parameter(torch.zeros(1000, DIM))
        self.drop_features = nn.Dropout(0.0)
        self.drop_hidden = nn.Dropout(0.0)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        # Maxima have long tails; a rare one must not drown the rest.
        x = self.drop_features(((features - self.mean) * self.scale).clamp(-6, 6))
        seen: Tensor = self.skip(x) + self.down(self.drop_hidden(F.gelu(self.up(x))))
        return seen + logits.softmax(-1) @ self.classes


class TextHead(nn.Module):
    """Map a sentence's embedding into the shared space: a linear map plus a small residual MLP."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(DIM, hidden)
        self.down = nn.Linear(hidden, DIM)
        self.skip = nn.Linear(DIM, DIM)
        self.drop_hidden = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        moved: Tensor = self.skip(x) + self.down(self.drop_hidden(F.gelu(self.up(x))))
        return moved


class ImageTower(nn.Module):
    """EfficientNet-Lite2 (https://arxiv.org/abs/1905.11946), batch norms folded into convolutions.

    Widths and kernel sizes are read from the weights: see ``starter_weights.read_image_tower``.
    """

    strides = (1, 2, 2, 2, 1, 2, 1)
    #: Stages to pool besides the last map: early ones see colour and texture, late ones parts.
    pooled = (1, 2, 4, 5)

    def __init__(self, weights: Arrays) -> None:
        super().__init__()
        self.image_size = IMAGE_SIZE
        self.preprocess_cfg: dict[str, Any] = dict(starter_weights.PREPROCESS)
        self.stem = _conv(weights, "visual.stem", stride=2)
        self.stages = nn.ModuleList()
        widths = []
        for stage, (repeats, stride) in enumerate(zip(REPEATS, self.strides, strict=True)):
            blocks = [
                _Block(weights, f"visual.stages.{stage}.{block}", 1 if block else stride)
                for block in range(repeats)
            ]
            self.stages.append(nn.Sequential(*blocks))
            widths.append(blocks[-1].out_channels)
        self.head = _conv(weights, "visual.head")
        classes, width = weights["visual.classifier.weight"].shape
        self.classifier = nn.Linear(width, classes)
        self.features = self.head.out_channels + 2 * sum(widths[i] for i in self.pooled)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute float32 pooled features ``[n, features]`` and class logits ``[n, 1000]``."""
        x = images.to(self.stem.weight.dtype, memory_format=torch.channels_last)
        x = self.stem(x)
        depths = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in self.pooled:
                depths.append(_pool(x))
        last = self.head(x).float().mean((2, 3))
        logits = F.linear(last, self.classifier.weight.float(), self.classifier.bias.float())
        return torch.cat([last, *depths], dim=1), logits


class _Block(nn.Sequential):
    """Expand, convolve depthwise, project; an inverted residual block if the shapes match."""

    def __init__(self, weights: Arrays, name: str, stride: int) -> None:
        count = sum(f"{name}.{layer}.weight" in weights for layer in range(3))
        # The first block has nothing to expand: depthwise and projecting convolutions only.
        layers = [
            _conv(
                weights,
                f"{name}.{layer}",
                stride=stride if layer == count - 2 else 1,
                bounded=layer < count - 1,
            )
            for layer in range(count)
        ]
        super().__init__(*layers)
        self.out_channels = layers[-1].out_channels
        self.adds = stride == 1 and layers[0].in_channels == self.out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return y + x if self.adds else y


class _SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: the odd pixel goes right and below."""

    bounded = True

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
        if missing[0] % 2 or missing[1] % 2:
            high, wide = missing
            x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
            missing = [0, 0]
        padding = (missing[0] // 2, missing[1] // 2)
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)
        return F.relu6(y, inplace=True) if self.bounded else y


def _conv(weights: Arrays, name: str, stride: int = 1, bounded: bool = True) -> _SameConv:
    """Build a convolution of the shape of its weights, which are assigned later."""
    out, per_group, kernel, _ = weights[f"{name}.weight"].shape
    groups = out if per_group == 1 else 1
    with torch.device("meta"):
        layer = _SameConv(per_group * groups, out, kernel, stride, groups=groups)
    layer.bounded = bounded
    return layer


def _pool(x: Tensor) -> Tensor:
    """Pool a map ``[n, c, h, w]`` to its mean and maximum, float32 ``[n, 2c]``."""
    flat = x.float().flatten(2)
    return torch.cat([flat.mean(2), flat.amax(2)], dim=1)


class TextTower(nn.Module):
    """all-MiniLM-L6-v2 (six layers of BERT): the normalised mean of the last hidden states."""

    heads, inner, epsilon = 12, 1536, 1e-12

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):
            self.norm = nn.LayerNorm(DIM, eps=self.epsilon)
            layer = nn.TransformerEncoderLayer(
                DIM, self.heads, self.inner, 0.0, "gelu", self.epsilon, batch_first=True
            )
            self.layers_ = nn.TransformerEncoder(
                layer, starter_weights.LAYERS, enable_nested_tensor=False
            )
            self.word_embeddings = nn.Buffer(torch.empty(0))
            self.position_embeddings = nn.Buffer(torch.empty(0))

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 ``[n, length]`` → float32 unit rows ``[n, 384]``."""
        real = tokens != 0
        x = self.norm(self.word_embeddings[tokens] + self.position_embeddings[: tokens.shape[1]])
        x = self.layers_(x, src_key_padding_mask=~real)
        # The fast path leaves undefined values at padding tokens.
        x = x.masked_fill(~real[..., None], 0.0)
        return F.normalize(x.sum(1) / real.sum(1, keepdim=True), dim=-1)


def _assign(module: nn.Module, arrays: Arrays) -> None:
    """Set parameters by name; those that are not named stay as they are."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in arrays.items()}
    own = dict(module.named_buffers())
    for name in own.keys() & tensors.keys():
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, nn.Buffer(tensors.pop(name)))
    module.load_state_dict(tensors, strict=False, assign=True)
