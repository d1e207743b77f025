"""Generate meaningless queries, and short real ones, to measure relevance with.

Everything comes from fixed lists and fixed seeds: the queries are the same every time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: Short questions, and the beginnings of words that a picture's captions must all hold to answer.
SHORT: tuple[tuple[str, str], ...] = (
    ("a dog on a beach", "dog beach"),
    ("dog", "dog"),
    ("a dog in the snow", "dog snow"),
    ("a brown dog running", "brown dog run"),
    ("two dogs playing", "two dogs play"),
    ("dog with a ball", "dog ball"),
    ("a white dog", "white dog"),
    ("a black dog in water", "black dog water"),
    ("a dog catching a frisbee", "dog frisbee"),
    ("puppy", "pupp"),
    ("greyhounds racing", "greyhound rac"),
    ("german shepherd", "german shepherd"),
    ("a cat", "cat"),
    ("a horse", "horse"),
    ("a bird", "bird"),
    ("surfer", "surf"),
    ("a surfer riding a wave", "surf wave"),
    ("snowboarder", "snowboard"),
    ("a skier on a slope", "ski slope"),
    ("skateboarder on a ramp", "skateboard ramp"),
    ("a man on a motorcycle", "man motorcycle"),
    ("motorbike race", "motor rac"),
    ("a bmx trick", "bmx trick"),
    ("mountain biker", "bike"),
    ("people riding bicycles", "bicyc"),
    ("a soccer game", "soccer"),
    ("football players", "football player"),
    ("a baseball player", "baseball player"),
    ("basketball", "basketball"),
    ("tennis player with a racket", "tennis rac"),
    ("ice hockey", "hockey"),
    ("wrestling", "wrestl"),
    ("a rock climber", "climb rock"),
    ("climbing an icy cliff", "climb ice"),
    ("a child on a swing", "swing"),
    ("kids on a slide", "slide"),
    ("children in a swimming pool", "pool"),
    ("a boy jumping into water", "boy jump water"),
    ("a girl in a pink dress", "girl pink dress"),
    ("baby", "baby"),
    ("an old man with a beard", "man beard"),
    ("a bride", "wedding"),
    ("a crowd of people", "crowd"),
    ("a band on a stage", "band"),
    ("a man playing a guitar", "guitar"),
    ("dancing", "danc"),
    ("a woman in a red coat", "woman red coat"),
    ("people in costumes", "costume"),
    ("a man sitting on a bench", "man bench"),
    ("someone reading a book", "read book"),
    ("a city street at night", "street night"),
    ("a restaurant", "restaurant"),
    ("a boat", "boat"),
    ("kayak in rough water", "kayak"),
    ("fishing", "fish"),
    ("sunset", "sunset"),
    ("mountains", "mountain"),
    ("a snowy mountain", "snow mountain"),
    ("a lake", "lake"),
    ("a fountain", "fountain"),
    ("a trampoline", "trampoline"),
    ("camping tent", "tent"),
    ("a red car", "red car"),
    ("graffiti", "graffiti"),
    ("balloons", "balloon"),
    ("a man smoking a cigarette", "man cigarette"),
    ("a cowboy", "cowboy"),
    ("playing in the mud", "mud"),
    ("splashing in a puddle", "puddle"),
)

_RARE_WORDS = (
    "syzygy heteroscedasticity antidisestablishment ombudsman usufruct defenestration quiddity "
    "perspicacity eleemosynary jurisprudence amortisation phlogiston epistemology apotheosis "
    "subsidiarity obfuscation sesquipedalian tautology ontological isomorphism hendiadys "
    "callipygian absquatulate borborygmus cromulent discombobulate floccinaucinihilipilification "
    "gallimaufry hypothecation ineffable jentacular kakistocracy logorrhoea metempsychosis "
    "nudiustertian omphaloskepsis palimpsest quotidian rodomontade sangfroid tergiversation "
    "ultracrepidarian verisimilitude weltschmerz xenoglossy yclept zeugma anacoluthon "
    "bathos casuistry desuetude enjambment fiduciary gerrymander hermeneutics ideograph "
    "kerfuffle litotes monad nugatory oligopoly prolix qualia recusal solecism transubstantiation"
)

_ABSTRACT = (
    "the income tax return is due in April",
    "corporate tax rates were lowered by two percent",
    "deductible expenses must be itemised on schedule A",
    "JSON parse error: unexpected token at line 4",
    "TypeError: cannot read properties of undefined",
    "segmentation fault (core dumped)",
    "quantum chromodynamics at next-to-leading order",
    "the Lagrangian is invariant under gauge transformations",
    "renormalisation group flow of the coupling constant",
    "eigenvalues of a Hermitian operator are real",
    "the Riemann hypothesis remains unproven",
    "every bounded monotone sequence converges",
    "a proof by induction on the number of vertices",
    "the null hypothesis was rejected at the five percent level",
    "maximum likelihood estimation of the variance",
    "interest rates and inflation expectations",
    "quarterly earnings exceeded analyst forecasts",
    "the bond yield curve has inverted",
    "hedge against currency risk with derivatives",
    "shareholders approved the merger agreement",
    "terms and conditions apply",
    "all rights reserved, no warranty is given",
    "the plaintiff filed a motion to dismiss",
    "breach of contract and consequential damages",
    "pursuant to article 12 paragraph 3",
    "the statute of limitations has expired",
    "please reset your password within 24 hours",
    "your subscription will renew automatically",
    "click here to unsubscribe from this list",
    "invoice number 48213 is overdue",
    "SELECT name FROM users WHERE id = 7",
    "git rebase --interactive HEAD~3",
    "the server returned HTTP status 503",
    "null pointer dereference in the kernel module",
    "increase the heap size of the virtual machine",
    "the algorithm runs in logarithmic time",
    "deprecated since version 2.4, use the new method",
    "undefined reference to vtable",
    "merge conflict in configuration file",
    "the certificate has expired",
    "free will and determinism",
    "existence precedes essence",
    "the categorical imperative",
    "knowledge is justified true belief",
    "the meaning of justice",
    "an argument from analogy",
    "irony as a rhetorical device",
    "the subjunctive mood in French grammar",
    "the accusative case marks the direct object",
    "etymology of a Proto-Indo-European root",
    "molar mass of sodium bicarbonate",
    "oxidation states of transition metals",
    "the enzyme catalyses phosphorylation",
    "mitochondrial DNA haplogroups",
    "half-life of a radioactive isotope",
    "entropy of an isolated system never decreases",
    "gross domestic product per capita",
    "monetary policy of the central bank",
    "the treaty was ratified by parliament",
    "proportional representation and coalition government",
    "supply chain management best practices",
    "leveraging synergies across business units",
    "key performance indicators for the third quarter",
    "human resources compliance training",
    "meeting moved to Thursday at ten",
    "the deadline for proposals is extended",
    "minutes of the previous meeting were approved",
    "a pension fund's actuarial assumptions",
    "the insurance premium depends on the deductible",
    "depreciation of intangible assets",
    "serial number, model number and firmware version",
    "checksum mismatch, download again",
    "latency percentiles under load",
    "a fast Fourier transform of the signal",
    "the transfer function has two poles",
    "Bayesian inference with conjugate priors",
    "gradient descent with momentum",
    "the halting problem is undecidable",
    "lambda calculus and combinatory logic",
    "public key cryptography",
)

_PATTERNS = ("{a} {b} {c}", "{a} of {b}", "{a}, {b} and {c}", "{b} {a} without {c} {d}")


def nonsense_texts() -> dict[str, list[str]]:
    """Texts that no picture shows, by kind: 240 in all."""
    dice = random.Random(20)
    letters = "abcdefghijklmnopqrstuvwxyz"
    mashed = [
        " ".join(
            "".join(dice.choices(letters, k=dice.randint(3, 9))) for _ in range(dice.randint(1, 6))
        )
        for _ in range(60)
    ]
    shuffled = []
    for number in range(60):
        a, b, c, d = dice.sample(_RARE_WORDS.split(), 4)
        shuffled.append(_PATTERNS[number % len(_PATTERNS)].format(a=a, b=b, c=c, d=d))
    symbols = [
        "".join(dice.choices("0123456789#%&/()=?*+-_:;<>", k=dice.randint(4, 24)))
        for _ in range(40)
    ]
    return {
        "letters": mashed,
        "rare words": shuffled,
        "symbols": symbols,
        "abstract": list(_ABSTRACT),
    }


def nonsense_images(side: int = 224) -> Iterator[tuple[str, Image.Image]]:
    """Pictures of nothing, with their kind: 240 in all."""
    dice = np.random.default_rng(20)
    for _ in range(30):
        yield "noise", _picture(dice.integers(0, 256, (side, side, 3)))
    for number in range(30):
        coarse = dice.integers(0, 256, (2 + number % 12, 2 + number % 12, 3)).astype(np.uint8)
        yield (
            "blurred noise",
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC),
        )
    for _ in range(40):
        yield "flat", Image.new("RGB", (side, side), tuple(dice.integers(0, 256, 3).tolist()))
    for _ in range(40):
        yield "gradient", _gradient(side, dice)
    for number in range(40):
        yield "stripes", _stripes(side, dice, checks=number % 2 == 0)
    texts = [text for kind in nonsense_texts().values() for text in kind]
    for number in range(60):
        yield "writing", _writing(side, texts[number * 4 : number * 4 + 8], dice)


def _picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _gradient(side: int, dice: np.random.Generator) -> Image.Image:
    angle = dice.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    along = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) + 0.5
    first, last = dice.integers(0, 256, 3), dice.integers(0, 256, 3)
    return _picture(first + along[..., None] * (last - first))


def _stripes(side: int, dice: np.random.Generator, checks: bool) -> Image.Image:
    width = int(dice.integers(4, 40))
    y, x = np.mgrid[0:side, 0:side]
    odd = (x // width + (y // width if checks else 0)) % 2 == 1
    first, last = dice.integers(0, 256, 3), dice.integers(0, 256, 3)
    return _picture(np.where(odd[..., None], first, last))


def _writing(side: int, lines: list[str], dice: np.random.Generator) -> Image.Image:
    dark = bool(dice.integers(0, 2))
    image = Image.new("RGB", (side, side), "black" if dark else "white")
    draw = ImageDraw.Draw(image)
    size = int(dice.integers(10, 22))
    for row, line in enumerate(lines):
        where = (6, 6 + row * (size + 6))
        draw.text(where, line, fill="white" if dark else "black", font=ImageFont.load_default(size))
    return image
