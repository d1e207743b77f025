"""Weights from the Hugging Face hub: are they here, can they be fetched, and fetching them."""

from __future__ import annotations

import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from twinlens.search.errors import ModelError, first_line
from twinlens.search.models.catalogue import HUB_PREFIX, RECOMMENDED, STARTER, ModelSpec, resolve

#: Seconds after which a hub that does not answer counts as unreachable.
HUB_TIMEOUT = 6.0
_WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
#: Held while a model is loaded or fetched: what is changed for that, which log lines and warnings
#: are shown and whether the hub may be asked, is the whole process'.
LOADING = threading.RLock()
_log = logging.getLogger("twinlens")


def choose_model() -> ModelSpec:
    """What "auto" means for a new collection.

    The recommended model if its weights are on this machine or can be fetched; otherwise
    ``starter``, and a line in the log that tells how to get the better one.
    """
    best = resolve(RECOMMENDED)
    if is_cached(best):
        return best
    obstacle = _obstacle()
    if not obstacle:
        return best
    try:
        starter = resolve(STARTER)
    except ModelError:
        # Without the small encoder there is no choice; fetching will say what is in the way.
        return best
    _log.warning(
        "using the small built-in encoder, %s: %s is better, but %s. Later: `twinlens models pull "
        "%s`, then ingest into a new collection with --model %s",
        STARTER, RECOMMENDED, obstacle, RECOMMENDED, RECOMMENDED,
    )  # fmt: skip
    return starter


def is_cached(spec: ModelSpec) -> bool:
    """Whether everything that loading the model takes is on this machine."""
    repo, name = _repository(spec)
    if not repo:
        return True
    weights = any(_in_cache(repo, file) for file in ([name] if name else _WEIGHT_FILES))
    if spec.architecture.startswith(HUB_PREFIX) and not _in_cache(repo, "open_clip_config.json"):
        return False
    tokenizer = _tokenizer_repository(spec)
    return weights and (not tokenizer or _in_cache(tokenizer, "tokenizer_config.json"))


def fetch(spec: ModelSpec) -> None:
    """Download a model's weights and tokenizer, with progress bars; nothing that is here already.

    Raises:
        ModelError: the hub cannot be reached, or has no such model; the message says the ways out.
    """
    with LOADING:
        _fetch(spec)


def _fetch(spec: ModelSpec) -> None:
    repo, name = _repository(spec)
    if not repo or is_cached(spec):
        return
    obstacle = _obstacle()
    if obstacle:
        raise ModelError(cannot_fetch(spec, obstacle))
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        if spec.architecture.startswith(HUB_PREFIX):
            hf_hub_download(repo, "open_clip_config.json")
        for file in [name] if name else _WEIGHT_FILES:
            try:
                hf_hub_download(repo, file)
                break
            except EntryNotFoundError:
                if file == _WEIGHT_FILES[-1]:
                    raise
        if _tokenizer_repository(spec):
            import open_clip

            open_clip.get_tokenizer(spec.architecture)
    except Exception as error:
        raise ModelError(cannot_fetch(spec, first_line(error, 200))) from error


def cannot_fetch(spec: ModelSpec, reason: str) -> str:
    """What to say when weights do not come: the reason and the two ways out."""
    return (
        f"the weights of {spec.label} cannot be fetched: {reason}. Two ways out: run `twinlens "
        f"models pull` where there is a network and copy its Hugging Face cache (HF_HOME) here, or "
        f"give a checkpoint file, --model {spec.architecture}:/path/to/weights.safetensors"
    )


@contextmanager
def from_cache() -> Iterator[None]:
    """Load without asking the hub whether there is anything newer."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _obstacle() -> str:
    """Why nothing can be fetched now; "" when it can."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310
            urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()  # noqa: S310
        except urllib.error.HTTPError:
            pass  # It answered.
        except (OSError, ValueError):
            return
        answered.set()

    # In a thread: looking a name up can hang for longer than any time-out.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_TIMEOUT)
    return "" if answered.is_set() else f"the hub ({constants.ENDPOINT}) cannot be reached"


def _repository(spec: ModelSpec) -> tuple[str, str]:
    """The hub repository of a model and, where only one will do, its file."""
    if spec.architecture.startswith(HUB_PREFIX):
        return spec.architecture.removeprefix(HUB_PREFIX), ""
    if spec.checkpoint is not None or spec.source != f"{spec.architecture}:{spec.weights}":
        return "", ""
    import open_clip

    place = str(open_clip.get_pretrained_cfg(spec.architecture, spec.weights).get("hf_hub", ""))
    repo, _, name = place.rpartition("/")
    return repo, name


def _tokenizer_repository(spec: ModelSpec) -> str:
    import open_clip

    if spec.architecture.startswith(HUB_PREFIX):
        return ""
    config = open_clip.get_model_config(spec.architecture) or {}
    return str(config.get("text_cfg", {}).get("hf_tokenizer_name", ""))


def _in_cache(repo: str, file: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo, file), str)
