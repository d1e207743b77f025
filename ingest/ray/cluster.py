"""Ingest on a cluster: reading, decoding and encoding on Ray Data, writing here.

The pipeline stays what it is, with a ``RayCrew`` in the place of its threads and its encoder. What
is stored already never travels, and results are written in the order the corpus was listed in, so
that the collection becomes the same as without a cluster.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from twinlens.ingest.ray.pool import Hands, RayCrew, brief
from twinlens.search.errors import ClusterError, UsageError
from twinlens.search.models.catalogue import Fingerprint
from twinlens.search.models.encoder import Encoder, Precision

if TYPE_CHECKING:
    from twinlens.ingest.ray.actors import Model

#: Seconds to wait for an address to answer.
TIMEOUT = 5.0
#: Bytes of shared memory that a Ray of our own takes beside the ids of what is stored.
OBJECT_STORE = 512 << 20
_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:.%]+\]):(?P<port>\d{1,5})")
#: Ray says nothing, here or to its makers, and may take its time on a busy machine.
_SETTINGS = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_port_wait_time_s": "60",
}
_LOGGERS = ("ray", "ray.data")
_ATTEMPTS = 2


class Cluster:
    """A Ray cluster, or one in the making: see ``connected``."""

    def __init__(self, address: str, stack: ExitStack) -> None:
        self._address = address
        self._stack = stack
        self._joined = False

    def join(self) -> Hands:
        """Connect, or start a Ray of our own; what there is to work with.

        Raises:
            ClusterError: it does not answer.
        """
        if not self._joined:
            self._stack.enter_context(_quietly())
            self._stack.enter_context(_joined(self._address))
            self._joined = True
        import ray

        resources = ray.cluster_resources()
        cores, devices = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        if not (cores or devices):
            raise ClusterError(f"the cluster at {self._address} has neither cores nor accelerators")
        own = self._address == "local"
        return Hands(devices or cores, max(cores, 1) if devices else 0, at_once=own)

    def crew(
        self,
        model: Callable[[], str | Encoder],
        fingerprint: Fingerprint,
        *,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> RayCrew:
        """Workers for one run; they start with its first task, and stop with ``connected``.

        Args:
            model: gives what they encode with, when they start: a name, or an object that can
                be pickled.
            fingerprint: that it must have.
            device: "cpu" and "openvino" keep them off accelerators.
            precision: as for ``twinlens.open``.
        """
        on_cores = device.startswith(("cpu", "openvino"))

        def start() -> tuple[Hands, Model]:
            from twinlens.ingest.ray.actors import Model

            source = model()
            sent = Model(
                name=source if isinstance(source, str) else "",
                pickled=b"" if isinstance(source, str) else _pickled(source),
                digest=fingerprint.digest,
                side=fingerprint.image_size,
                # Which of its devices a worker may use, Ray says.
                device=device if on_cores else "auto",
                precision=precision,
            )
            hands = self.join()
            # After joining, so as to be before parting.
            self._stack.callback(crew.close)
            if hands.cores and on_cores:
                hands = Hands(hands.cores, at_once=hands.at_once)
            return hands, sent

        crew = RayCrew(start, fingerprint.image_size)
        return crew


@contextmanager
def connected(address: str) -> Iterator[Cluster | None]:
    """The cluster at an address, let go of afterwards; None for "".

    Args:
        address: "local" for a Ray of our own on this machine, started when there is something to
            do; "auto" for the one that runs on this machine; ``HOST:6379`` for the one that this
            machine is part of and whose head is there. Where this process uses Ray already,
            "auto" and "local" mean that.

    Raises:
        UsageError: Ray is not installed, or this is no address.
        ClusterError: nobody answers.
    """
    if not address:
        yield None
        return
    if address.startswith("ray://"):
        raise UsageError(
            "Ray Data does not work through Ray's client: run this on a machine of the cluster, "
            "with --cluster auto"
        )
    match = _ADDRESS.fullmatch(address)
    if match is None and address not in ("local", "auto"):
        raise UsageError(f"{address[:100]!r} is no cluster: say local, auto or HOST:6379")
    _check_installed()
    with ExitStack() as stack:
        cluster = Cluster(address, stack)
        if match is not None:
            _check_answers(match["host"].strip("[]"), int(match["port"]), address)
        if address != "local":
            cluster.join()
        yield cluster


def _check_installed() -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray.data  # noqa: F401
    except ImportError as error:
        raise UsageError("--cluster needs Ray: pip install 'twinlens[cluster]'") from error


def _check_answers(host: str, port: int, address: str) -> None:
    """Ray itself would try for minutes, and say much."""
    try:
        socket.create_connection((host, port), TIMEOUT).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClusterError(f"no cluster answers at {address}: {reason}") from error


@contextmanager
def _joined(address: str) -> Iterator[None]:
    import ray

    if ray.is_initialized():
        if address not in ("local", "auto"):
            raise UsageError(
                "this process is connected to a cluster already: say auto to use that one"
            )
        yield
        return
    with ExitStack() as stack:
        # Of a Ray of our own now and then a part does not come up, and a second does.
        for attempt in reversed(range(_ATTEMPTS if address == "local" else 1)):
            how = stack.enter_context(_own()) if address == "local" else {"address": address}
            try:
                with _unsaid():
                    ray.init(**how, log_to_driver=False, logging_level=logging.CRITICAL)
                break
            except Exception as error:
                ray.shutdown()
                if not attempt:
                    hint = "" if address == "local" else " (does it want RAY_AUTH_MODE=token?)"
                    reason = f"no cluster at {address}: {brief(error)}{hint}"
                    raise ClusterError(reason) from error
        stack.callback(ray.shutdown)
        yield


@contextmanager
def _own() -> Iterator[dict[str, Any]]:
    """How to start a Ray of our own."""
    # Its sockets are below the folder, and their names may have 107 bytes.
    short = "/tmp" if os.path.isdir("/tmp") else None  # noqa: S108
    # Where an encoder's class is to be found, those whom we start cannot know otherwise.
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (
        tempfile.TemporaryDirectory(
            prefix="twinlens-", dir=short, ignore_cleanup_errors=True
        ) as folder,
        _environment(paths),
    ):
        yield {
            "address": "local",
            "_temp_dir": folder,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
        }


@contextmanager
def _quietly() -> Iterator[None]:
    """What goes wrong is told by our own errors; Ray's logs are in its own files."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with _environment({key: os.environ.get(key, _SETTINGS[key]) for key in _SETTINGS}):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for whatever is started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _unsaid() -> Iterator[None]:
    """Keep off the terminal what Ray's libraries write there themselves: that they are quiet."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _pickled(encoder: Encoder) -> bytes:
    """An encoder as bytes.

    Raises:
        UsageError: it cannot be pickled.
    """
    from ray import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(encoder)
    except Exception as error:
        raise UsageError(
            f"this encoder cannot be sent to other processes ({brief(error)}): name a model, or "
            "make its class one that can be pickled"
        ) from error
    return data
