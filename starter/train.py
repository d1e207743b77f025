"""Train the heads of `starter`: one command, seeded, from photos with captions to one small file.

    python -m starter.train --flickr8k DIR --imagenet-samples DIR --wordnet DIR \\
        --cache DIR --out search/models/data/starter.safetensors

``python -m starter.convert`` makes the folders from the public distributions.

The towers are frozen, so their features are computed once (cached in ``--cache``) and training
takes minutes. The loss of each batch has three terms:

- a photo and its caption belong together: symmetric contrastive loss, as in CLIP;
- the space must name what the image tower's own classifier sees: the photo's 1,000 class
  probabilities are the target of its similarities to the class names;
- more general names too: for "boat", the photos of the batch are ranked by the summed probability
  of every kind of boat (WordNet's tree above the 1,000 classes).

What ships is the mean of several such heads, trained from different seeds and merged into one.

Protocol: hyperparameters were chosen on 1,000 photos held out of Flickr8k's train split, and on
200 classes held out of ImageNet's 1,000 (``--select`` trains so and prints those figures;
the image head starts from the names of all 1,000 even then). The
file that ships is then trained on everything but the dev split, whose figures are printed once.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from starter.data import CLASSES, Noun, Photo, Sample, read_nouns, read_photos, read_samples
from twinlens.search.models import starter, starter_weights
from twinlens.search.models.precision import has_native_bf16
from twinlens.search.models.starter import ImageHead, TextHead

TEMPLATES = ("{0}", "{1} {0}", "a photo of {1} {0}")


@dataclass(frozen=True)
class Settings:
    """What was chosen on the held-out photos and classes."""

    members: int = 4
    epochs: int = 14
    batch: int = 1024
    rate: float = 1e-3
    text_rate: float = 1e-3
    hidden: int = 224
    text_hidden: int = 128
    drop: float = 0.3
    text_drop: float = 0.1
    weight_decay: float = 0.1
    temperature: float = 0.05
    class_weight: float = 0.1
    noun_weight: float = 0.125
    class_gain: float = 8.0
    nouns_per_step: int = 512
    views: int = 5
    seed: int = 0


def main() -> None:
    options = _options()
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    settings = Settings()
    photos = read_photos(options.flickr8k)
    samples = read_samples(options.imagenet_samples)
    nouns = read_nouns(options.wordnet, samples)
    data = Features(photos, samples, nouns, settings.views, options.cache)
    split = held_out(photos) if options.select else everything(photos)
    heads = merge([train(data, split, settings, n) for n in range(settings.members)], settings)
    figures = evaluate(data, heads, split)
    print(json.dumps(figures, indent=1))
    if options.out:
        save(options.out, heads, settings, figures)


# --- features, computed once --------------------------------------------------------------------


class Features:
    """What the towers say of every photo, caption and name."""

    def __init__(
        self,
        photos: Sequence[Photo],
        samples: Sequence[Sample],
        nouns: Sequence[Noun],
        views: int,
        cache: Path,
    ) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self._cache = cache
        model, self._tokenizer = starter.load_starter()
        self._text, self._image = model.text, model.visual
        dtype = torch.bfloat16 if has_native_bf16() else torch.float32
        self._image.eval().to(dtype).to(memory_format=torch.channels_last)
        paths = [photo.path for photo in photos] + [sample.path for sample in samples]
        rows = [self._view(paths, view) for view in range(views)]
        self.pooled = torch.stack([row[0] for row in rows])
        self.logits = torch.stack([row[1] for row in rows]).float()
        self.photos, self.samples = photos, samples
        self.photo_count = len(photos)
        self.truth = torch.tensor([sample.number for sample in samples])
        captions = [caption for photo in photos for caption in photo.captions]
        self.captions = self._texts("captions", captions).view(len(photos), -1, starter.DIM)
        self.nouns = nouns
        named = self._texts("nouns", [t for noun in nouns for t in _said(noun.text)])
        self.noun_texts = named.view(len(nouns), len(TEMPLATES), starter.DIM)
        labels = [sample.label for sample in sorted(samples, key=lambda sample: sample.number)]
        named = self._texts("classes", [t for label in labels for t in _said(label)])
        self.class_texts = named.view(CLASSES, len(TEMPLATES), starter.DIM)
        self.covers = torch.zeros(len(nouns), CLASSES)
        for row, noun in enumerate(nouns):
            self.covers[row, list(noun.classes)] = 1

    def _view(self, paths: Sequence[Path], view: int) -> tuple[Tensor, Tensor]:
        """View 0 is the whole picture, squeezed into a square; the others are random crops."""
        file = self._cache / f"view{view}.pt"
        if file.is_file():
            kept: tuple[Tensor, Tensor] = torch.load(file, weights_only=True)
            return kept
        pooled, logits = [], []
        with torch.inference_mode(), ThreadPoolExecutor(2) as pool:
            jobs = [(n, path, view) for n, path in enumerate(paths)]
            for start in range(0, len(jobs), 64):
                pixels = torch.stack(list(pool.map(_pixels, jobs[start : start + 64])))
                features, odds = self._image(pixels)
                pooled.append(features.half())
                logits.append(odds.half())
        rows = torch.cat(pooled), torch.cat(logits)
        torch.save(rows, file)
        return rows

    def _texts(self, name: str, texts: Sequence[str]) -> Tensor:
        file = self._cache / f"{name}.pt"
        if file.is_file():
            kept: Tensor = torch.load(file, weights_only=True)
            return kept.float()
        # Texts of like length together: less padding, the same rows.
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        rows = torch.empty(len(texts), starter.DIM)
        with torch.inference_mode():
            for start in range(0, len(order), 256):
                part = order[start : start + 256]
                rows[part] = self._text(self._tokenizer([texts[n] for n in part]))
        torch.save(rows.half(), file)
        return rows


def _pixels(job: tuple[int, Path, int]) -> Tensor:
    number, path, view = job
    side = starter.IMAGE_SIZE
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    random = np.random.RandomState(1000 * number + view)
    if view == 0:
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    else:
        area = random.uniform(0.4, 1.0) * image.width * image.height
        aspect = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        width = min(image.width, int((area * aspect) ** 0.5))
        height = min(image.height, int((area / aspect) ** 0.5))
        left = random.randint(0, image.width - width + 1)
        top = random.randint(0, image.height - height + 1)
        box = (left, top, left + width, top + height)
        image = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
        if random.rand() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)


def _said(noun: str) -> list[str]:
    article = "an" if noun[0].lower() in "aeiou" else "a"
    return [template.format(noun, article) for template in TEMPLATES]


# --- training -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """What is trained on and what is looked at: rows of photos, rows of samples, class numbers."""

    photos: Tensor
    test: Tensor
    samples: Tensor
    known: Tensor
    unseen: list[int] = field(default_factory=list)
    unseen_photos: list[int] = field(default_factory=list)


def everything(photos: Sequence[Photo]) -> Split:
    """All of train; dev is looked at once."""
    train_rows = [n for n, photo in enumerate(photos) if photo.split == "train"]
    dev = [n for n, photo in enumerate(photos) if photo.split == "dev"]
    return Split(
        torch.tensor(train_rows), torch.tensor(dev), torch.arange(CLASSES), torch.arange(CLASSES)
    )


def held_out(photos: Sequence[Photo]) -> Split:
    """To choose by: 1,000 photos of train, 200 classes, and the photos of 200 more classes."""
    shuffle = torch.Generator().manual_seed(0)
    train_rows = everything(photos).photos
    train_rows = train_rows[torch.randperm(len(train_rows), generator=shuffle)]
    numbers = torch.randperm(CLASSES, generator=shuffle)
    unseen, unseen_photos = numbers[:200], numbers[200:400]
    return Split(
        photos=train_rows[1000:],
        test=train_rows[:1000],
        samples=numbers[400:].sort().values,
        known=numbers[200:].sort().values,
        unseen=unseen.tolist(),
        unseen_photos=unseen_photos.tolist(),
    )


class Heads(nn.Module):
    """What is trained: both heads and the temperature."""

    def __init__(self, features: int, settings: Settings) -> None:
        super().__init__()
        self.image_head = ImageHead(features, settings.hidden)
        self.text_head = TextHead(settings.text_hidden)
        self.logit_scale = nn.Parameter(torch.tensor(1 / settings.temperature).log())

    def images(self, pooled: Tensor, logits: Tensor) -> Tensor:
        return F.normalize(self.image_head(pooled, logits), dim=-1)

    def texts(self, rows: Tensor) -> Tensor:
        return F.normalize(self.text_head(rows), dim=-1)


def start(data: Features, split: Split, settings: Settings) -> Heads:
    """Heads before the first step: texts stay where they are, pictures start from their classes."""
    heads = Heads(data.pooled.shape[-1], settings)
    image, text = heads.image_head, heads.text_head
    pooled = data.pooled[0][split.photos].float()
    image.mean.copy_(pooled.mean(0))
    image.scale.copy_(1 / (pooled.std(0) + 1e-3))
    with torch.no_grad():
        image.skip.weight.mul_(0.3)
        image.down.weight.mul_(0.3)
        image.classes.copy_(data.class_texts[:, -1] * settings.class_gain)
        text.skip.weight.copy_(torch.eye(starter.DIM))
        text.skip.bias.zero_()
        text.down.weight.mul_(0.1)
        text.down.bias.zero_()
    image.drop_features.p = settings.drop / 2
    image.drop_hidden.p = settings.drop
    text.drop_hidden.p = settings.text_drop
    return heads


def train(data: Features, split: Split, settings: Settings, member: int) -> Heads:
    torch.manual_seed(settings.seed + member)
    heads = start(data, split, settings)
    optimizer = torch.optim.AdamW(_groups(heads, settings), betas=(0.9, 0.98))
    per_epoch = -(-len(split.photos) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=per_epoch * settings.epochs,
        pct_start=0.15,
    )
    nouns = _usable_nouns(data, split)
    heads.train()
    for epoch in range(settings.epochs):
        losses = []
        for photos, samples in _batches(split, per_epoch):
            loss = _loss(heads, data, split, settings, nouns, photos, samples)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(
            f"member {member}, epoch {epoch + 1}: loss {sum(losses) / len(losses):.3f}", flush=True
        )
    return heads.eval()


def merge(members: Sequence[Heads], settings: Settings) -> Heads:
    """Several trained heads → one, as wide as all of them, that answers with their mean.

    All start from the same texts and classes, so they agree on what the axes mean.
    """
    states = [member.state_dict() for member in members]
    state = {name: torch.stack([s[name] for s in states]).mean(0) for name in states[0]}
    for head in ("image_head", "text_head"):
        for name in (f"{head}.up.weight", f"{head}.up.bias"):
            state[name] = torch.cat([s[name] for s in states])
        down = f"{head}.down.weight"
        state[down] = torch.cat([s[down] for s in states], dim=1) / len(states)
    count = len(members)
    wide = replace(
        settings, hidden=count * settings.hidden, text_hidden=count * settings.text_hidden
    )
    merged = Heads(len(state["image_head.mean"]), wide)
    merged.load_state_dict(state)
    return merged.eval()


def _groups(heads: Heads, settings: Settings) -> list[dict[str, Any]]:
    image = heads.image_head
    layers = [*image.up.parameters(), *image.down.parameters(), *image.skip.parameters()]
    decay = settings.weight_decay
    return [
        {"params": layers, "lr": settings.rate, "weight_decay": decay},
        {
            "params": list(heads.text_head.parameters()),
            "lr": settings.text_rate,
            "weight_decay": decay / 10,
        },
        # The classes' names are where they should be: they only follow.
        {"params": [image.classes], "lr": settings.rate * 0.3, "weight_decay": 0.0},
        {"params": [heads.logit_scale], "lr": settings.rate, "weight_decay": 0.0},
    ]


def _usable_nouns(data: Features, split: Split) -> tuple[Tensor, Tensor]:
    """Texts and class cover of the nouns that give nothing away of classes held out."""
    known = torch.zeros(CLASSES)
    known[split.known] = 1
    covers = data.covers * known
    own_known = torch.tensor([noun.own < 0 or bool(known[noun.own]) for noun in data.nouns])
    usable = (covers.sum(1) > 0) & own_known
    return data.noun_texts[usable], covers[usable]


def _batches(split: Split, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    photos = split.photos[torch.randperm(len(split.photos))]
    samples = split.samples[torch.randperm(len(split.samples))]
    return zip(photos.tensor_split(count), samples.tensor_split(count), strict=True)


def _loss(
    heads: Heads,
    data: Features,
    split: Split,
    settings: Settings,
    nouns: tuple[Tensor, Tensor],
    photos: Tensor,
    samples: Tensor,
) -> Tensor:
    rows = torch.cat([photos, samples + data.photo_count])
    views = torch.randint(len(data.pooled), (len(rows),))
    logits = data.logits[views, rows]
    images = heads.images(data.pooled[views, rows].float(), logits)
    odds = logits.softmax(-1)
    scale = heads.logit_scale.exp().clamp(max=100)

    captions = data.captions[photos, torch.randint(data.captions.shape[1], (len(photos),))]
    labels = _one_template(data.class_texts[data.truth[samples]])
    pairs = scale * images @ heads.texts(torch.cat([captions, labels])).T
    own = torch.arange(len(rows))
    loss = (F.cross_entropy(pairs, own) + F.cross_entropy(pairs.T, own)) / 2

    known = odds[:, split.known]
    names = heads.texts(_one_template(data.class_texts[split.known]))
    guess = F.log_softmax(scale * images @ names.T, dim=1)
    loss = loss - settings.class_weight * (known * guess).sum(1).mean()

    # From a name to photos: only names that some photo of the batch may deserve.
    texts, covers = nouns
    drawn = torch.randint(len(texts), (settings.nouns_per_step,))
    deserved = odds @ covers[drawn].T
    total = deserved.sum(0)
    target = deserved / (total + 1e-6)
    found = F.log_softmax(scale * images @ heads.texts(_one_template(texts[drawn])).T, dim=0)
    weight = (2 * total).clamp(max=1)
    return loss - settings.noun_weight * (weight * (target * found).sum(0)).mean()


def _one_template(texts: Tensor) -> Tensor:
    """``[n, templates, d]`` → ``[n, d]``, each row by a template drawn at random."""
    return texts[torch.arange(len(texts)), torch.randint(texts.shape[1], (len(texts),))]


# --- what came of it ----------------------------------------------------------------------------


@torch.no_grad()
def evaluate(data: Features, heads: Heads, split: Split) -> dict[str, float]:
    """Recalls in per cent on the split's photos with their captions; zero-shot likewise."""
    images = heads.images(data.pooled[0][split.test].float(), data.logits[0][split.test])
    texts = heads.texts(data.captions[split.test])
    figures = recalls(images, texts)
    rows = slice(data.photo_count, None)
    samples = heads.images(data.pooled[0][rows].float(), data.logits[0][rows])
    names = heads.texts(data.class_texts[:, -1])
    for title, classes, among in (
        ("zero-shot, 200 left-out classes, among these", split.unseen, split.unseen),
        ("zero-shot, 200 left-out classes, among 1,000", split.unseen, list(range(CLASSES))),
        ("zero-shot, unseen photos, among 1,000", split.unseen_photos, list(range(CLASSES))),
    ):
        if classes:
            chosen = torch.isin(data.truth, torch.tensor(classes))
            guess = torch.tensor(among)[(samples[chosen] @ names[among].T).argmax(1)]
            figures[title] = _percent(guess == data.truth[chosen])
    return figures


def recalls(images: Tensor, texts: Tensor) -> dict[str, float]:
    """R@1/5/10 both ways of ``images [n, d]`` and their captions ``texts [n, c, d]``."""
    count, each = texts.shape[:2]
    scores = texts.flatten(0, 1) @ images.T
    owner = torch.arange(count).repeat_interleave(each)
    rank = (scores > scores.gather(1, owner[:, None])).sum(1)
    best = scores.view(count, each, count).diagonal(dim1=0, dim2=2).amax(0)
    back = (scores > best).sum(0)
    figures = {f"text→image R@{k}": _percent(rank < k) for k in (1, 5, 10)}
    return figures | {f"image→text R@{k}": _percent(back < k) for k in (1, 5, 10)}


def _percent(right: Tensor) -> float:
    return round(100 * right.float().mean().item(), 1)


def save(out: Path, heads: Heads, settings: Settings, figures: dict[str, float]) -> None:
    """Half precision: the rounding is far below what training leaves to chance."""
    state = {name: tensor.half().contiguous() for name, tensor in heads.state_dict().items()}
    header = {
        "architecture": f"{starter_weights.IMAGE_PACKAGE} + {starter_weights.TEXT_PACKAGE}, "
        f"heads of {starter.DIM}",
        "trained": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "settings": json.dumps(asdict(settings)),
        "figures": json.dumps(figures),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, out, metadata=header)
    out.chmod(0o644)
    print(f"{out}: {out.stat().st_size:,} bytes")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the heads of starter.", formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--flickr8k", type=Path, required=True, help="folder with captions.jsonl and images/"
    )
    parser.add_argument(
        "--imagenet-samples", type=Path, required=True, help="folder with labels.jsonl and images/"
    )
    parser.add_argument(
        "--wordnet", type=Path, help="folder with WordNet 3.0's data.noun (Debian: wordnet-base)"
    )
    parser.add_argument(
        "--cache", type=Path, required=True, help="scratch folder for the towers' features"
    )
    parser.add_argument(
        "--select", action="store_true", help="hold photos and classes out, print their figures"
    )
    parser.add_argument("--out", type=Path, help="the file of heads to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
