"""Download model weights from the Hugging Face hub, or find them in its cache."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from twinlens.search.errors import ModelError, first_line
from twinlens.search.models.catalogue import HUB_PREFIX, ModelSpec, import_openclip

#: Seconds to wait for the hub before it counts as unreachable.
HUB_TIMEOUT = 6.0
_WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
#: Held while a model is loaded or fetched. That changes settings of the whole process: the level of
#: logging, the warnings that are shown, and whether the hub may be contacted.
LOADING = threading.RLock()


def is_cached(spec: ModelSpec) -> bool:
    """Whether weights, configuration and tokenizer of a model are on this machine."""
    repo, name = _repository(spec)
    if not repo:
        return True
    weights = any(_in_cache(repo, file) for file in ([name] if name else _WEIGHT_FILES))
    if spec.architecture.startswith(HUB_PREFIX) and not _in_cache(repo, "open_clip_config.json"):
        return False
    tokenizer = _tokenizer_repository(spec)
    return weights and (not tokenizer or _in_cache(tokenizer, "tokenizer_config.json"))


def fetch(spec: ModelSpec) -> None:
    """Download a model's weights and tokenizer, with progress bars, unless they are cached.

    Raises:
        ModelError: the hub cannot be reached, or has no such model; the message says what to do.
    """
    with LOADING:
        _fetch(spec)


def _fetch(spec: ModelSpec) -> None:
    repo, name = _repository(spec)
    if not repo or is_cached(spec):
        return
    obstacle = hub_obstacle()
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
            open_clip = import_openclip()

            open_clip.get_tokenizer(spec.architecture)
    except Exception as error:
        raise ModelError(cannot_fetch(spec, first_line(error, 200))) from error


def cannot_fetch(spec: ModelSpec, reason: str) -> str:
    """Say why weights cannot be fetched, and the two ways to get them otherwise."""
    return (
        f"the weights of {spec.label} cannot be fetched: {reason}. Either run `twinlens models "
        "pull` on a machine with a network and copy its Hugging Face cache (HF_HOME) here, or "
        f"name a checkpoint file, --model {spec.architecture}:/path/to/weights.safetensors"
    )


@contextmanager
def hub_offline() -> Iterator[None]:
    """Load from the cache, without asking the hub for anything newer."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_obstacle() -> str:
    """Say why the hub cannot be used now; "" if it can."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310
            urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()  # noqa: S310
        except urllib.error.HTTPError:
            pass  # An error status is an answer, too.
        except (OSError, ValueError):
            return
        answered.set()

    # In a thread, because a DNS look-up can hang for longer than any timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    return "" if answered.is_set() else f"the hub ({constants.ENDPOINT}) cannot be reached"


def _repository(spec: ModelSpec) -> tuple[str, str]:
    """The model's hub repository ("" for none) and the name of its weights file ("" for any)."""
    if spec.architecture.startswith(HUB_PREFIX):
        return spec.architecture.removeprefix(HUB_PREFIX), ""
    if spec.checkpoint is not None or spec.source != f"{spec.architecture}:{spec.weights}":
        return "", ""
    open_clip = import_openclip()

    place = str(open_clip.get_pretrained_cfg(spec.architecture, spec.weights).get("hf_hub", ""))
    repo, _, name = place.rpartition("/")
    return repo, name


def _tokenizer_repository(spec: ModelSpec) -> str:
    open_clip = import_openclip()

    if spec.architecture.startswith(HUB_PREFIX):
        return ""
    config = open_clip.get_model_config(spec.architecture) or {}
    return str(config.get("text_cfg", {}).get("hf_tokenizer_name", ""))


def _in_cache(repo: str, file: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo, file), str)
