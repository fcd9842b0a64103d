"""Prediction on a Ray cluster, in blocks of images.

Ray schedules the blocks, and gives those of a machine that dies to another one (Moritz et al.,
"Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from opsin._version import __version__
from opsin.core.errors import ImageError, MissingExtraError, OpsinError, RecipeError, RunError
from opsin.data.image_engine import ImageSteps, in_order, read_ahead
from opsin.data.image_stream import ListedImage
from opsin.stores.bucket import StoredObject, open_bucket

_T = TypeVar("_T")
_Answer = TypeVar("_Answer")

# Packages that decide what an image's pixels and answers are.
_PACKAGES: Final = ("numpy", "pillow", "simplejpeg", "onnxruntime")
# Images that a node is sent at once, bytes of them, and blocks on their way for each processor.
_BLOCK, _BYTES, _AHEAD = 64, 8 << 20, 4
# A block is begun this often before it is suspected to end the process that works on it.
_RETRIES: Final = 5
# Seconds to find out whether something listens, and until every node has said that it is there.
_PATIENCE: Final = 5.0
_ANSWERING: Final = 120.0
_PORT: Final = 10001


def is_elsewhere(on: str) -> bool:
    """Tell whether ``on`` names a cluster; raise `RecipeError` for an invalid one."""
    if on == "local":
        return False
    if on == "ray" or (on.startswith("ray://") and urlsplit(on).hostname):
        return True
    raise RecipeError(f"--on must be local, ray, or ray://HOST:PORT, not {on!r}")


class Cluster(Executor):
    """The processors of a Ray cluster, as an executor; a context manager."""

    def __init__(
        self, on: str, sample: ListedImage | None = None, *, folders: Sequence[str] = ()
    ) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would report to Ray's makers
        try:
            import ray.util.scheduling_strategies  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingExtraError(f"--on {on}", "ray") from error
        self._ray: Any = ray
        self._joined = not ray.is_initialized()
        if self._joined:
            _connect(ray, on)
        self._sent: dict[Callable[..., Any], Any] = {}
        self._running: dict[Future[Any], Any] = {}
        self._lock = threading.Lock()
        path = None if sample is None else sample.absolute().path
        stored = sample.image if sample and isinstance(sample.image, StoredObject) else None
        files = [file for file in (path, *folders) if file is not None and os.path.lexists(file)]
        try:
            self._check_nodes(files, stored)
        except BaseException:
            self.shutdown()
            raise
        self._call = ray.remote(_call).options(num_cpus=1, max_retries=_RETRIES)

    def submit(self, function: Callable[..., _T], /, *args: Any, **_: Any) -> Future[_T]:
        """Call a function on a node; only by position."""
        with self._lock:
            if function not in self._sent:
                self._sent[function] = self._ray.put(function)
            sent = self._sent[function]
        # In a list, so that each process fetches it once itself.
        reference = self._call.remote([sent], *args)
        future: Future[_T] = Future()
        with self._lock:
            self._running[future] = reference
        reference.future().add_done_callback(lambda done: self._finish(future, done))
        return future

    def answers(
        self, steps: ImageSteps[Any, _Answer], images: Iterable[ListedImage]
    ) -> Generator[tuple[ListedImage, _Answer | ImageError]]:
        """Yield each image with its answer, or the reason why there is none, in their order."""
        blocks = steps.in_blocks((image.absolute() for image in images), _BLOCK, _BYTES)

        def most() -> int:  # nodes may come and go
            return _AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))

        pairs: Generator[tuple[ListedImage, _Answer | ImageError | _Unseen]] = in_order(
            self, functools.partial(_answer_block, steps), blocks, most
        )
        with contextlib.closing(pairs):
            for item, answer in pairs:
                if not isinstance(answer, _Unseen):
                    yield item, answer
                elif item.path is not None and os.path.lexists(item.path):
                    raise _unfit(answer.node, f"it cannot see {item.path}")
                else:  # it is not here, either
                    yield item, answer.error

    def _finish(self, future: Future[Any], done: Future[Any]) -> None:
        with self._lock:
            self._running.pop(future, None)
        with contextlib.suppress(Exception):  # cancelled meanwhile
            if error := done.exception():
                future.set_exception(self._explained(error))
            else:
                future.set_result(done.result())

    def _explained(self, error: BaseException) -> BaseException:
        cause = getattr(error, "cause", None)
        if isinstance(cause, BaseException):
            return cause
        lost = self._ray.exceptions
        if isinstance(error, lost.WorkerCrashedError | lost.OutOfMemoryError | lost.NodeDiedError):
            return BrokenExecutor(str(error))
        if not isinstance(error, lost.RayError | ConnectionError):
            return error
        gone = RunError(
            f"The cluster is gone ({type(error).__name__})",
            "Start the same command again when it is back; what is done is kept.",
        )
        gone.__cause__ = error
        return gone

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Leave the cluster, cancelling this program's calls."""
        with self._lock:
            running, self._running = list(self._running.values()), {}
        for reference in running:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference)
        self._sent = {}
        if self._joined:
            self._ray.shutdown()

    def _nodes(self) -> dict[str, str]:
        return {
            node["NodeID"]: node["NodeManagerHostname"]
            for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU")
        }

    def _check_nodes(self, files: Sequence[str], stored: StoredObject | None) -> None:
        ray, nodes = self._ray, self._nodes()
        find_problem = ray.remote(_problem_of_node)

        def ask(node: str) -> Any:
            where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
            asking = find_problem.options(num_cpus=0, max_retries=0, scheduling_strategy=where)
            return asking.remote(_versions(), list(files), stored)

        if not nodes:
            raise RecipeError("The nodes of the cluster have no processors")
        asked = {node: ask(node) for node in nodes}
        until = time.monotonic() + _ANSWERING
        while asked:
            node, reference = asked.popitem()
            try:
                problem = ray.get(reference, timeout=_ANSWERING)
            except Exception as error:
                raised_there = isinstance(error, ray.exceptions.RayTaskError)
                if raised_there or "No module named" in str(error):
                    raise _unfit(nodes[node], "it has no Opsin, or another one") from error
                if time.monotonic() > until:
                    raise _unfit(nodes[node], "it does not answer") from error
                time.sleep(1)  # one that has died is listed for some seconds more
                if node in self._nodes():
                    asked[node] = ask(node)
            else:
                if problem is not None:
                    raise _unfit(nodes[node], problem)


def _unfit(node: str, problem: str) -> RecipeError:
    return RecipeError(
        f"{node} cannot take part: {problem}",
        "Each node needs the same Opsin and packages, and the images at the same place.",
    )


class _Unseen(NamedTuple):
    """A file that a node cannot see, and the error if it is missing everywhere."""

    node: str
    error: ImageError


def _answer_block(steps: ImageSteps[Any, Any], items: list[Any]) -> list[Any]:
    return [
        _Unseen(platform.node(), answer)
        if isinstance(answer, ImageError) and item.path and not os.path.lexists(item.path)
        else answer
        for item, answer in zip(items, steps.answer(read_ahead(items)), strict=True)
    ]


def _problem_of_node(
    versions: dict[str, str], files: Sequence[str], stored: StoredObject | None
) -> str | None:
    installed = _versions()
    for package, version in versions.items():
        if installed[package] != version:
            return f"it has {package} {installed[package]}, not {version}"
    for file in files:
        if not os.path.lexists(file):
            return f"it cannot see {file}"
    with contextlib.suppress(FileNotFoundError):  # gone meanwhile, which is no node's fault
        try:
            if stored is not None:
                open_bucket(stored).content(stored, 1)
        except OpsinError as error:
            return f"it cannot read the object store: {error}"
    return None


def _versions() -> dict[str, str]:
    versions = {"Opsin": __version__}
    for package in _PACKAGES:
        versions[package] = "none"
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


# The function that this process was sent last.
_held: dict[str, Callable[..., Any]] = {}


def _call(sent: list[Any], *args: Any) -> Any:
    import ray  # noqa: PLC0415  an extra

    (reference,) = sent
    key = reference.hex()
    if key not in _held:
        _held.clear()
        _held[key] = ray.get(reference)
    return _held[key](*args)


def _connect(ray: Any, on: str) -> None:
    if on != "ray":
        parts = urlsplit(on)
        try:
            target = (parts.hostname or "", parts.port or _PORT)
            socket.create_connection(target, timeout=_PATIENCE).close()
        except (OSError, ValueError) as error:
            raise RecipeError(f"Nothing answers at {on}", "Is the Ray cluster running?") from error
    # What dying workers say would stand between our own lines; Ray's logs hold it all the same.
    with contextlib.suppress(AttributeError):
        ray._private.worker._worker_logs_enabled = False
    address = "auto" if on == "ray" else on
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError) as error:
        raise RecipeError(
            f"There is no Ray cluster that lets this program in: {' '.join(str(error).split())}",
            "Start one here with `ray start --head`, with the same Ray and Python everywhere, or "
            "give its address: --on ray://HOST:10001.",
        ) from error
