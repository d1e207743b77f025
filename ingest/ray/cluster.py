"""Connect to a Ray cluster, or start one on this machine, to ingest with.

The pipeline uses a ``RayExecutor`` instead of its threads and its encoder. Unchanged items are not
sent, and results are written in the order of the corpus, so that the collection becomes the same as
without a cluster.
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

from twinlens.ingest.ray.executor import RayExecutor, Workers, last_line
from twinlens.search.errors import ClusterError, UsageError
from twinlens.search.models.base import Encoder, Precision
from twinlens.search.models.fingerprint import Fingerprint

if TYPE_CHECKING:
    from twinlens.ingest.ray.actors import WorkerModel

#: Seconds to wait for a connection to an address.
TIMEOUT = 5.0
#: Bytes of shared memory of a local Ray.
OBJECT_STORE = 512 << 20
_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:.%]+\]):(?P<port>\d{1,5})")
#: No logs, no usage statistics, and more time to start on a busy machine.
_SETTINGS = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_port_wait_time_s": "60",
}
_LOGGERS = ("ray", "ray.data")
_ATTEMPTS = 2


class Cluster:
    """A Ray cluster, connected to or started when it is first used; see ``connect``."""

    def __init__(self, address: str, stack: ExitStack) -> None:
        self._address = address
        self._stack = stack
        self._joined = False

    def join(self) -> Workers:
        """Connect, or start a local Ray, and return the workers it has resources for.

        Raises:
            ClusterError: the cluster does not answer, or has neither cores nor accelerators.
        """
        if not self._joined:
            self._stack.enter_context(_quiet())
            self._stack.enter_context(_joined(self._address))
            self._joined = True
        import ray

        resources = ray.cluster_resources()
        cores, devices = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        if not (cores or devices):
            raise ClusterError(f"the cluster at {self._address} has neither cores nor accelerators")
        local = self._address == "local"
        return Workers(devices or cores, max(cores, 1) if devices else 0, start_all=local)

    def executor(
        self,
        model: Callable[[], str | Encoder],
        fingerprint: Fingerprint,
        *,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> RayExecutor:
        """An executor whose workers start with the first task, and stop with ``connect``.

        Args:
            model: returns the model, when the workers start: a name, or an encoder that can be
                pickled.
            fingerprint: that the model must have.
            device: with "cpu" and "openvino" workers use no accelerators.
            precision: see ``twinlens.open``.
        """
        on_cores = device.startswith(("cpu", "openvino"))

        def start_workers() -> tuple[Workers, WorkerModel]:
            from twinlens.ingest.ray.actors import WorkerModel

            source = model()
            sent = WorkerModel(
                name=source if isinstance(source, str) else "",
                pickled=b"" if isinstance(source, str) else _pickled(source),
                digest=fingerprint.digest,
                side=fingerprint.image_size,
                # Ray assigns an accelerator to each worker.
                device=device if on_cores else "auto",
                precision=precision,
            )
            workers = self.join()
            # Registered after joining, so that it runs before disconnecting.
            self._stack.callback(executor.close)
            if workers.decoders and on_cores:
                workers = Workers(workers.decoders, start_all=workers.start_all)
            return workers, sent

        executor = RayExecutor(start_workers, fingerprint.image_size)
        return executor


@contextmanager
def connect(address: str) -> Iterator[Cluster | None]:
    """Connect to a cluster, and disconnect afterwards; yields None for "".

    Args:
        address: "local" to start Ray on this machine with the first task; "auto" for the Ray that
            runs on this machine; ``HOST:6379`` for a cluster that this machine is part of, by its
            head node. Where this process uses Ray already, "auto" and "local" mean that one.

    Raises:
        UsageError: Ray is not installed, or the address is invalid.
        ClusterError: the cluster does not answer.
    """
    if not address:
        yield None
        return
    if address.startswith("ray://"):
        raise UsageError(
            "Ray Data does not work over Ray's client protocol: run this on a machine of the "
            "cluster, with --cluster auto"
        )
    match = _ADDRESS.fullmatch(address)
    if match is None and address not in ("local", "auto"):
        raise UsageError(
            f"{address[:100]!r} is not the address of a cluster: use local, auto or HOST:6379"
        )
    _check_installed()
    with ExitStack() as stack:
        cluster = Cluster(address, stack)
        if match is not None:
            _check_reachable(match["host"].strip("[]"), int(match["port"]), address)
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


def _check_reachable(host: str, port: int, address: str) -> None:
    """Fail fast: Ray itself would retry for minutes, and log a lot."""
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
                "this process is already connected to a cluster: use auto to run on it"
            )
        yield
        return
    with ExitStack() as stack:
        # Workaround: now and then a part of a local Ray does not start; a second try does.
        for attempt in reversed(range(_ATTEMPTS if address == "local" else 1)):
            local = address == "local"
            how = stack.enter_context(_local_settings()) if local else {"address": address}
            try:
                with _silenced():
                    ray.init(**how, log_to_driver=False, logging_level=logging.CRITICAL)
                break
            except Exception as error:
                ray.shutdown()
                if not attempt:
                    hint = "" if address == "local" else " (does it require RAY_AUTH_MODE=token?)"
                    reason = f"no cluster at {address}: {last_line(error)}{hint}"
                    raise ClusterError(reason) from error
        stack.callback(ray.shutdown)
        yield


@contextmanager
def _local_settings() -> Iterator[dict[str, Any]]:
    """The arguments of ``ray.init`` that start a local Ray."""
    # A short path, since those of sockets in this folder are limited to 107 bytes.
    short = "/tmp" if os.path.isdir("/tmp") else None  # noqa: S108
    # Workers need this to import the class of a pickled encoder.
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
def _quiet() -> Iterator[None]:
    """Silence Ray's loggers: errors are raised as ours, and logs are in Ray's own files."""
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
    """Set environment variables for processes that are started meanwhile."""
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
def _silenced() -> Iterator[None]:
    """Discard stderr meanwhile: libraries of Ray write to the terminal directly."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _pickled(encoder: Encoder) -> bytes:
    """Pickle an encoder.

    Raises:
        UsageError: it cannot be pickled.
    """
    from ray import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(encoder)
    except Exception as error:
        raise UsageError(
            f"this encoder cannot be sent to other processes ({last_line(error)}): name a model, "
            "or make its class picklable"
        ) from error
    return data
