"""Blocks of images, answered by the machines of a Ray cluster.

Ray schedules the blocks, and gives those of a machine that dies to another one (Moritz et al.,
"Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import platform
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar
from urllib.parse import urlsplit

from opsin._version import __version__
from opsin.core.errors import (
    ImageError,
    MissingExtraError,
    OpsinError,
    RecipeError,
    RunError,
    SourceError,
)
from opsin.core.storage import storage_errors
from opsin.runtime.image_engine import answer_blocks
from opsin.stores.bucket import open_bucket
from opsin.stores.store_address import StoredObject

_T = TypeVar("_T")


class _Image(Protocol):
    """What may lie in a file or on a store, where each node reads it itself."""

    @property
    def image(self) -> object:
        """Where it is, or its content."""

    @property
    def path(self) -> str | None:
        """The file."""

    def absolute(self) -> Self:
        """Return the same with the file's whole path."""


_Item = TypeVar("_Item", bound=_Image)
_Answer = TypeVar("_Answer")

#: What `--on` may say.
PLACES: Final = "local, ray, or ray://HOST:PORT"
# A block is begun this often before it is suspected to end the process that works on it. Work that
# takes a node for hours may see several of them die.
_RETRIES: Final = 5
_RETRIES_OF_LONG_WORK: Final = 20
# Seconds to find out whether something listens, and until every node has said that it is there.
_PATIENCE: Final = 5.0
_ANSWERING: Final = 120.0
_PORT: Final = 10001
# Bytes that a node writes to see that it can.
_SPACE: Final = 1 << 20
# Nodes that an error names.
_NAMED: Final = 3


def is_elsewhere(on: str) -> bool:
    """Tell whether work is to be done on a cluster.

    Raises:
        RecipeError: It is no place to work on.

    Example:
        >>> is_elsewhere("local"), is_elsewhere("ray"), is_elsewhere("ray://head:10001")
        (False, True, True)
    """
    if on == "local":
        return False
    if on == "ray" or (on.startswith("ray://") and urlsplit(on).hostname):
        return True
    raise RecipeError(PLACES, f"got {on!r}", "Give one of these with --on.")


class Cluster(Executor):
    """The processors of a Ray cluster, as an executor; a context manager.

    A function is sent to each process once, however many calls there are. A call that is lost with
    its machine is made again elsewhere; one that keeps ending its process raises `BrokenExecutor`.

    Args:
        on: ``ray`` for the cluster that this machine is part of (or ``$RAY_ADDRESS`` names), or the
            address of one, ``ray://HOST:PORT``.
        sample: One of the images to be worked on; each node must see its file or object.
        needs: What each node must have beside that.
        whole_nodes: Give each call all processors of a node, and a GPU where all nodes have some;
            it is long work. Where nodes differ, the larger ones may get several calls.

    Raises:
        MissingExtraError: Ray is not installed.
        RecipeError: There is no such cluster; its nodes have another Ray, Python, Opsin or package;
            or they do not share a folder.
        SourceError: A node does not see a file or an object.

    Example:
        >>> with Cluster("ray") as cluster:            # doctest: +SKIP
        ...     cluster.submit(sum, [1, 2]).result()
        3
    """

    def __init__(
        self,
        on: str,
        sample: _Image | None = None,
        *,
        needs: NodeNeeds | None = None,
        whole_nodes: bool = False,
    ) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would report to Ray's makers
        try:
            import ray  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingExtraError(f"--on {on}", "ray") from error
        self._ray: Any = ray
        self._joined = not ray.is_initialized()
        if self._joined:
            _connect(ray, on)
        self._sent: dict[Callable[..., Any], Any] = {}
        self._running: dict[Future[Any], Any] = {}
        self._lock = threading.Lock()
        try:
            self._check_nodes(needs or NodeNeeds.to_see(sample))
        except BaseException:
            self.shutdown()
            raise
        share = self._node_share() if whole_nodes else {"num_cpus": 1, "max_retries": _RETRIES}
        self._call = ray.remote(_call).options(**share)

    @property
    def slots(self) -> int:
        """How many calls can run at the same time; nodes may come and go."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def submit(self, function: Callable[..., _T], /, *args: Any, **options: Any) -> Future[_T]:
        """Call a function on a node."""
        with self._lock:
            if function not in self._sent:
                self._sent[function] = self._ray.put(function)
            sent = self._sent[function]
        # In a list, so that each process fetches it once itself.
        reference = self._call.remote([sent], args, options)
        future: Future[_T] = Future()
        with self._lock:
            self._running[future] = reference
        reference.future().add_done_callback(lambda done: self._finish(future, done))
        return future

    def answers(
        self,
        function: Callable[[list[_Item]], Sequence[_Answer | ImageError | Unseen]],
        images: Iterable[_Item],
        *,
        cost: Callable[[_Item], int],
        count: int | None,
    ) -> Generator[tuple[_Item, _Answer | ImageError]]:
        """Yield each image with its answer, or the reason why there is none, in their order.

        The images come back with whole paths.

        Args:
            function: Answers a block of images.
            images: The images.
            cost: Bytes that an image takes while it is on its way.
            count: How many there are, where that is known.

        Raises:
            SourceError: A node does not see an image that is here.
            RunError: The cluster is gone.
        """
        whole = (image.absolute() for image in images)
        blocks: Generator[tuple[_Item, _Answer | ImageError | Unseen]] = answer_blocks(
            self, function, whole, cost=cost, slots=lambda: self.slots, count=count
        )
        with contextlib.closing(blocks):
            for item, answer in blocks:
                yield item, answer.resolve(item.path) if isinstance(answer, Unseen) else answer

    def _finish(self, future: Future[Any], done: Future[Any]) -> None:
        with self._lock:
            self._running.pop(future, None)
        error = None if done.cancelled() else done.exception()
        with contextlib.suppress(Exception):  # cancelled meanwhile
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(self._explained(error))

    def _explained(self, error: BaseException) -> BaseException:
        """Return what went wrong in the call itself, or that it ended its process."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, BaseException):
            return cause
        lost = self._ray.exceptions
        if isinstance(error, lost.WorkerCrashedError | lost.OutOfMemoryError | lost.NodeDiedError):
            return BrokenExecutor(str(error))
        if isinstance(error, lost.RayError | ConnectionError):
            gone = RunError(
                "a cluster that keeps running",
                f"it is gone ({type(error).__name__})",
                "Start the same command again when it is back; what is done is kept.",
            )
            gone.__cause__ = error
            return gone
        return error

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Leave the cluster; what runs there for this program is ended."""
        with self._lock:
            running, self._running = list(self._running.values()), {}
        for reference in running:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference)
        self._sent = {}
        if self._joined:
            self._ray.shutdown()

    def _nodes(self) -> dict[str, Mapping[str, Any]]:
        """Return what Ray says of the nodes that can work, by their ids."""
        return {
            node["NodeID"]: node
            for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU")
        }

    def _node_share(self) -> dict[str, float]:
        """Return the resources of a call that has a node for itself."""
        has = [node["Resources"] for node in self._nodes().values()]
        gpus = 1 if all(each.get("GPU") for each in has) else 0
        cpus = min(each["CPU"] / (each["GPU"] if gpus else 1) for each in has)
        share = max(1, int(cpus))
        return {"num_cpus": share, "num_gpus": gpus, "max_retries": _RETRIES_OF_LONG_WORK}

    def _check_nodes(self, needs: NodeNeeds) -> None:
        """See that each node has what is needed, before anything starts."""
        if not self._nodes():
            raise RecipeError("a cluster with processors", "its nodes have none", "Add a node.")
        with _marked(needs.folder) as mark:
            found = self._ask_nodes(needs, mark)
        if other := [node for node in found if node.version != __version__]:
            raise RecipeError(
                f"Opsin {__version__} on each node",
                f"{_named(other)} {'has' if len(other) == 1 else 'have'} {other[0].version}",
                "Install the same version everywhere.",
            )
        for package in needs.packages:
            here = _version_of(package)
            if other := [node for node in found if node.packages[package] != here]:
                there = other[0].packages[package] or "none"
                raise RecipeError(
                    f"{package} {here} on each node",
                    f"{_named(other)} {'has' if len(other) == 1 else 'have'} {there}",
                    "Install the same version everywhere.",
                )
        for file in needs.files:
            blind = [node for node in found if file in node.unseen]
            if blind and os.path.lexists(file):
                raise _blind(_named(blind), file)
        for each in found:
            if each.unread is not None:
                reason, advice = each.unread
                raise SourceError(
                    "an object store that each node can read",
                    f"{each.name} cannot: {reason}",
                    advice,
                )
        if apart := [node for node in found if node.refused is not None]:
            raise RecipeError(
                "a folder that each node can write to, at the same place",
                f"{_named(apart)} cannot write to {needs.folder} ({apart[0].refused})",
                "Choose one with space left, on a file system that all nodes share.",
            )

    def _ask_nodes(self, needs: NodeNeeds, mark: str | None) -> list[_Node]:
        """Return what each node says of itself.

        Raises:
            RecipeError: One has no Opsin, or does not answer.
        """
        from ray.util.scheduling_strategies import (  # noqa: PLC0415  an extra
            NodeAffinitySchedulingStrategy,
        )

        ray = self._ray
        describe = ray.remote(_describe)

        def ask(node: str) -> Any:
            where = NodeAffinitySchedulingStrategy(node, soft=False)
            asking = describe.options(num_cpus=0, max_retries=0, scheduling_strategy=where)
            return asking.remote(needs, mark)

        nodes = self._nodes()
        asked = {node: ask(node) for node in nodes}
        found: list[_Node] = []
        until = time.monotonic() + _ANSWERING
        while asked:
            node, reference = asked.popitem()
            try:
                found.append(ray.get(reference, timeout=_ANSWERING))
            except Exception as error:
                missing = "No module named 'opsin'" in str(error)
                # What was raised there is an answer: it has an Opsin that is made otherwise.
                other = isinstance(error, ray.exceptions.RayTaskError)
                if missing or other or time.monotonic() > until:
                    has = "has none" if missing else "has another" if other else "does not answer"
                    raise RecipeError(
                        f"Opsin {__version__} on each node",
                        f"{nodes[node]['NodeManagerHostname']} {has}",
                        "Install it there." if missing or other else "See to it: ray status.",
                    ) from error
                # One that has died is listed for some seconds more.
                time.sleep(1)
                if node in self._nodes():
                    asked[node] = ask(node)
        return found


@dataclass(frozen=True)
class Unseen:
    """A file that a node does not see.

    Args:
        node: Which node.
        error: What is wrong with the image if it is nowhere else, either.
    """

    node: str
    error: ImageError

    def resolve(self, path: str | None) -> ImageError:
        """Return the error of a file that is not here, either.

        Raises:
            SourceError: It is here, so that the node lacks it.
        """
        if path is not None and os.path.lexists(path):
            raise _blind(self.node, path)
        return self.error


def unseen_or(error: ImageError, path: str | None) -> ImageError | Unseen:
    """Return an image's error or, where its file is not on this node, that."""
    if path is None or os.path.lexists(path):
        return error
    return Unseen(platform.node(), error)


def _blind(names: str, path: str) -> SourceError:
    return SourceError(
        "images that each node can read, at the same place",
        f"{names} cannot see {path}",
        "Put them on a file system that all nodes share.",
    )


#: Packages of which it depends what an image's pixels are.
DECIDE_PIXELS: Final = ("numpy", "pillow", "simplejpeg")


@dataclass(frozen=True)
class NodeNeeds:
    """What each node of a cluster must have.

    Args:
        files: Files and folders that it must see, where they are here.
        folder: Where it must be able to write, if anywhere.
        packages: What it must have in the version that is here.
        stored: An object of a store that it must be able to read.
    """

    files: tuple[str, ...] = ()
    folder: str | None = None
    packages: tuple[str, ...] = ()
    stored: StoredObject | None = None

    @classmethod
    def to_see(cls, image: _Image | None) -> Self:
        """Return what a node needs that is to read an image itself."""
        path = None if image is None else image.absolute().path
        stored = image.image if image and isinstance(image.image, StoredObject) else None
        files = () if path is None else (path,)
        return cls(files, packages=(*DECIDE_PIXELS, "onnxruntime"), stored=stored)


class _Node(NamedTuple):
    """What a node says of itself."""

    name: str
    version: str
    packages: dict[str, str | None]
    unseen: list[str]
    refused: str | None
    #: Why it cannot read the store, and what to do.
    unread: tuple[str, str] | None


def _describe(needs: NodeNeeds, mark: str | None) -> _Node:
    unseen = [file for file in needs.files if not os.path.lexists(file)]
    packages = {package: _version_of(package) for package in needs.packages}
    refused = None if mark is None else _refused(mark)
    return _Node(platform.node(), __version__, packages, unseen, refused, _unread(needs.stored))


def _unread(stored: StoredObject | None) -> tuple[str, str] | None:
    """Return why this node cannot read an object, and what to do; ``None``: it can."""
    try:
        if stored is not None:
            open_bucket(stored).content(stored, 1)
    except FileNotFoundError:  # gone meanwhile, which is no node's fault
        pass
    except OpsinError as error:
        return error.received, error.advice
    return None


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@contextlib.contextmanager
def _marked(folder: str | None) -> Iterator[str | None]:
    """Put a file into a folder, by which a node knows it from another of the same name."""
    if folder is None:
        yield None
        return
    with storage_errors(Path(folder)):
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        file = tempfile.NamedTemporaryFile(prefix=".opsin-", dir=folder)  # noqa: SIM115
    with file:
        yield file.name


def _refused(mark: str) -> str | None:
    """Return why this node cannot write beside a file; ``None``: it can."""
    if not os.path.lexists(mark):
        return "it is another folder there"
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(mark)) as file:  # noqa: PTH120
            file.write(bytes(_SPACE))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def _named(nodes: Sequence[_Node]) -> str:
    names = list(dict.fromkeys(node.name for node in nodes))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


# The function that this process was sent last.
_held: dict[str, Callable[..., Any]] = {}


def _call(sent: list[Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Call, on a node, what was sent there."""
    import ray  # noqa: PLC0415  an extra

    (reference,) = sent
    key = reference.hex()
    if key not in _held:
        _held.clear()
        _held[key] = ray.get(reference)
    return _held[key](*args, **options)


def _connect(ray: Any, on: str) -> None:
    """Join a cluster.

    Raises:
        RecipeError: There is none, or its Ray or Python is another.
    """
    if on != "ray":
        parts = urlsplit(on)
        try:
            place = (parts.hostname or "", parts.port or _PORT)
            socket.create_connection(place, timeout=_PATIENCE).close()
        except (OSError, ValueError) as error:
            raise RecipeError(
                "the address of a Ray cluster", f"nothing answers at {on}", "Is it running?"
            ) from error
    # What dying workers say would stand between our own lines; Ray's logs hold it all the same.
    with contextlib.suppress(AttributeError):
        ray._private.worker._worker_logs_enabled = False
    try:
        ray.init(
            address="auto" if on == "ray" else on,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except ConnectionError as error:
        if on != "ray":
            reason = " ".join(str(error).split())
            raise RecipeError(
                "a Ray cluster that lets this program in", reason, "See to it: ray status."
            ) from error
        raise RecipeError(
            "a Ray cluster that this machine is part of",
            "there is none",
            "Start one with `ray start --head`, or give its address: --on ray://HOST:10001.",
        ) from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise RecipeError(
            "a cluster with the same versions of Ray and Python", reason, "Install the same."
        ) from error
