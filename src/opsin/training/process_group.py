"""Processes that train one network together, each on its share of every batch.

The caller starts them, with ``torchrun`` for example, and calls
``torch.distributed.init_process_group``. After each step every process holds the same network; the
first one alone writes files and shows progress.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The place of this process among those that train together.

    Args:
        rank: Its number, from 0.
        world: How many there are. A process by itself computes what it would without a group.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> ProcessGroup:
        """Return the group that PyTorch was initialised with, or that of one process."""
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
        """Which images of a batch are this process's."""
        return slice(self.rank, None, self.world)

    def first(self, value: T) -> T:
        """Return the value that the first process gave."""
        if self.world == 1:
            return value
        from torch import distributed  # noqa: PLC0415  PyTorch

        values = [value]
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
        torch.distributed.all_reduce(flat)
        sums = torch.split(flat, [tensor.numel() for tensor in tensors])
        with torch.no_grad():
            for tensor, total in zip(tensors, sums, strict=True):
                tensor.copy_(total.view_as(tensor))

    def any(self, *conditions: bool) -> tuple[bool, ...]:
        """Return for each condition whether it holds in any process, so that all decide alike."""
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

            distributed.barrier()


#: A process by itself.
ALONE = ProcessGroup()
