"""Processes that train one network together, each on its share of every batch.

``torchrun`` starts them, and `joined` connects them; or the caller has done both, by
``torch.distributed.init_process_group``. After each step every process holds the same network; the
first one alone writes files and shows progress.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, Final, TypeVar

from opsin.core.errors import OpsinError, RecipeError, RunError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

# The others wait while the first reads the images or evaluates. They notice at once if a process
# ends.
_LONGEST: Final = dt.timedelta(days=1)
# Seconds for the first to tell an error that all have, and between two checks.
_FIRST_SPEAKS, _BETWEEN = 3.0, 0.02
# Torchrun's name of a job without one.
_NAMELESS: Final = "none"
# Set once a process has lost the others and is about to report it.
_LOST = threading.Event()
# Numbers the trainings of this process: the same in each that runs the same script.
_TRAININGS = itertools.count(1)


@dataclass(frozen=True)
class Launch:
    """Torchrun's settings for the processes that it starts."""

    job: str  # the same after a restart
    rank: int  # of this process, from 0
    world: int  # number of processes
    local_rank: int  # on this machine
    local_world: int
    restarts: int

    @classmethod
    def current(cls, environment: Mapping[str, str] = os.environ) -> Launch | None:
        """Torchrun's settings for this process; ``None`` without torchrun."""
        try:
            job = environment["TORCHELASTIC_RUN_ID"]
            if job == _NAMELESS:  # all such jobs: its own process tells it from others
                job = f"{socket.gethostname()}-{os.getppid()}"
            return cls(
                job,
                rank=int(environment["RANK"]),
                world=int(environment["WORLD_SIZE"]),
                local_rank=int(environment["LOCAL_RANK"]),
                local_world=int(environment["LOCAL_WORLD_SIZE"]),
                restarts=int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")),
            )
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True)
class ProcessGroup:
    """The rank of this process among those that train together."""

    rank: int = 0  # its number, from 0
    world: int = 1  # how many there are. A process by itself computes what it would without a group
    # Torchrun's job and which of its trainings this is: the same after a restart.
    launch: str | None = None
    restarted: bool = False  # whether any of them may have been started before
    # Holds the error that ended a process, for the others.
    store: Store | None = field(default=None, repr=False, compare=False)

    @classmethod
    def current(cls) -> ProcessGroup:
        """PyTorch's process group, or one of a single process."""
        if sys.modules.get("torch") is None:  # nothing can have been initialised
            return cls()
        from torch import distributed  # noqa: PLC0415  PyTorch

        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files and shows progress."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This process's images of a batch."""
        return slice(self.rank, None, self.world)

    def first(self, value: T) -> T:
        """The value of the first process."""
        if self.world == 1:
            return value
        from torch import distributed  # noqa: PLC0415  PyTorch

        values = [value]
        with self.together():
            distributed.broadcast_object_list(values)
        return values[0]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors over all processes, in place; each process then holds the sums."""
        if self.world == 1:
            return
        import torch  # noqa: PLC0415  PyTorch

        # In one message: one for each layer would cost more time than its numbers.
        where = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        flat = torch.cat([tensor.detach().flatten().to(where) for tensor in tensors])
        with self.together():
            torch.distributed.all_reduce(flat)
        sums = torch.split(flat, [tensor.numel() for tensor in tensors])
        with torch.no_grad():
            for tensor, total in zip(tensors, sums, strict=True):
                tensor.copy_(total.view_as(tensor))

    def take_first(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's tensors, in place."""
        for tensor in tensors if self.rank else ():
            tensor.zero_()
        self.add(tensors)

    def any(self, *conditions: bool) -> tuple[bool, ...]:
        """Whether each condition holds in any process, so that all decide alike."""
        if self.world == 1:
            return conditions
        import torch  # noqa: PLC0415  PyTorch

        counts = torch.tensor(conditions, dtype=torch.int64)
        self.add([counts])
        return tuple(bool(count) for count in counts.tolist())

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.world > 1:
            from torch import distributed  # noqa: PLC0415  PyTorch

            with self.together():
                distributed.barrier()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Turn a broken connection in a block into one error, with its cause."""
        try:
            yield
        except RuntimeError as error:  # PyTorch's own are children of it
            import torch  # noqa: PLC0415  PyTorch

            if self.world == 1 or isinstance(error, torch.OutOfMemoryError):
                raise
            _LOST.set()
            why = f"One of the {self.world} processes ended, or does not answer"
            with contextlib.suppress(RuntimeError):  # the store may be gone, too
                if self.store is not None and self.store.check(["cause"]):
                    why = self.store.get("cause").decode()
            raise RunError(why, "torchrun --max-restarts 3 continues by itself.") from error


#: A process by itself.
ALONE = ProcessGroup()


@contextlib.contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, and leave them at the end of the block."""
    launch, group = Launch.current(), ProcessGroup.current()
    if launch is None:
        yield group
        return
    number = next(_TRAININGS)
    name = f"{launch.job}#{number}"
    _LOST.clear()
    if launch.world == 1 or group.world > 1:
        restarted = group.any(launch.restarts > 0)[0]
        yield replace(group, launch=name, restarted=restarted)
        return
    from torch import distributed  # noqa: PLC0415  PyTorch

    group = ProcessGroup(launch.rank, launch.world, name)
    with group.together():
        store = _connect(launch, f"training {number}")
    group = replace(group, store=store)
    try:
        with _sigterm_waits():
            yield replace(group, restarted=group.any(launch.restarts > 0)[0])
    except OpsinError as error:
        error.told = _is_told(error, launch.rank, store)
        raise
    finally:
        distributed.destroy_process_group()


def refuse_several(what: str) -> None:
    """Refuse work for one process if torchrun started several."""
    launch = Launch.current()
    if launch is not None and launch.world > 1:
        raise RecipeError(
            f"torchrun started {launch.world} processes, and {what} needs one",
            "Run it without torchrun.",
        )


def _connect(launch: Launch, name: str) -> Store:
    """Initialise PyTorch's group by the store that torchrun keeps."""
    import torch  # noqa: PLC0415  PyTorch
    from torch import distributed  # noqa: PLC0415
    from torch.distributed.distributed_c10d import PrefixStore  # noqa: PLC0415
    from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415

    kept, _, _ = next(rendezvous("env://", launch.rank, launch.world))
    store = PrefixStore(name, kept)
    store = PrefixStore(_meet(store, launch), store)
    gpu_each = torch.cuda.is_available() and torch.cuda.device_count() >= launch.local_world
    store.set(f"gpu{launch.rank}", "yes" if gpu_each and distributed.is_nccl_available() else "no")
    gpus = all(store.get(f"gpu{rank}") == b"yes" for rank in range(launch.world))
    if gpus:
        torch.cuda.set_device(launch.local_rank)
    distributed.init_process_group(
        "nccl" if gpus else "gloo",
        store=store,
        rank=launch.rank,
        world_size=launch.world,
        timeout=_LONGEST,
    )
    return store


def _meet(store: Store, launch: Launch) -> str:
    """Agree on a name between all processes that none before a restart has used."""
    name, ranks = uuid.uuid4().hex, range(launch.world)
    store.set(f"name{launch.rank}", name)

    def stored(key: str) -> str | None:
        return store.get(key).decode() if store.check([key]) else None

    while True:
        if launch.rank == 0:
            store.set("names", " ".join(store.get(f"name{rank}").decode() for rank in ranks))
        names = store.get("names").decode()
        if name in names:
            store.set(f"confirmed{launch.rank}", names)
            if launch.rank == 0 and all(stored(f"confirmed{rank}") == names for rank in ranks):
                store.set("agreed", names)
            if stored("agreed") == names:
                return names.split()[0]
        time.sleep(_BETWEEN)


def _is_told(error: OpsinError, rank: int, store: Store) -> bool:
    """Keep an error's cause for the others; return whether one of them has told it."""
    with contextlib.suppress(RuntimeError):  # the store may be gone, too
        if not _LOST.is_set():
            store.set("cause", f"Process {rank} ended: {error.message}")
        until = time.monotonic() + _FIRST_SPEAKS
        while rank and not store.check(["told"]) and time.monotonic() < until:
            time.sleep(_BETWEEN)
        return bool(store.add("told", 1) > 1)
    return False


@contextlib.contextmanager
def _sigterm_waits() -> Iterator[None]:
    """Delay SIGTERM in a process that has lost the others until it has written why."""

    def on_signal(number: int, _: FrameType | None) -> None:
        if not _LOST.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        if not _LOST.is_set():  # else it has still to say so
            signal.signal(signal.SIGTERM, before)
