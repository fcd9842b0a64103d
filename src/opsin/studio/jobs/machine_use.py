"""Processor, memory, disk and GPU of this machine."""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_NVIDIA: Final = "nvidia-smi"
_ASKED: Final = "name,utilization.gpu,memory.used,memory.total"
_MIB: Final = 1 << 20
# Seconds after which a tool that was slow is asked again.
_SLOW: Final = 60.0


@dataclass(frozen=True)
class Use:
    """What a process used of the machine."""

    seconds: float
    memory: int
    at: float

    def cores_since(self, before: Use) -> float:
        """Return how many cores were at work since an earlier look, on average."""
        passed = self.at - before.at
        return max(0.0, self.seconds - before.seconds) / passed if passed > 0 else 0.0


@dataclass(frozen=True)
class Free:
    """Bytes of memory or of a disk, all of them and those that are free."""

    total: int
    free: int


@dataclass(frozen=True)
class Gpu:
    """A graphics processor, and what is used of it now."""

    name: str
    share: float | None
    used: int
    memory: int


def of_process(pid: int) -> Use | None:
    """Return what a process used; ``None`` where it is gone or the system does not tell."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            memory = process.memory_info().rss
        return Use(times.user + times.system, memory, time.monotonic())
    return None


def memory() -> Free:
    """Return the machine's memory, all of it and what is available."""
    found = psutil.virtual_memory()
    return Free(found.total, found.available)


def disk(path: Path) -> Free:
    """Return the room on the disk of a folder, or of the nearest folder above that is there."""
    for place in (path.absolute(), *path.absolute().parents):
        with contextlib.suppress(OSError):
            found = shutil.disk_usage(place)
            return Free(found.total, found.free)
    return Free(0, 0)


class Gpus:
    """NVIDIA's graphics processors; its tool is asked once for all windows.

    Where the tool is missing, or finds no processor, it is not asked again.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._found: list[Gpu] = []
        # When the tool is asked next, on the clock of `time.monotonic`.
        self._next = 0.0

    def now(self) -> list[Gpu]:
        """Return what was found in the last second.

        It takes up to a second: call it in a thread.
        """
        with self._guard:
            if time.monotonic() >= self._next:
                self._found, kept = _ask_tool()
                self._next = time.monotonic() + kept
            return self._found


def _ask_tool() -> tuple[list[Gpu], float]:
    tool = shutil.which(_NVIDIA)
    if tool is None:
        return [], math.inf
    asked = [tool, f"--query-gpu={_ASKED}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(  # noqa: S603  the tool that the system names, our own words
            asked, capture_output=True, check=True, timeout=1, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return [], _SLOW
    except (OSError, subprocess.SubprocessError):
        return [], math.inf
    found = read_gpus(done.stdout.decode("utf-8", "replace"))
    return found, 1.0 if found else math.inf


def read_gpus(text: str) -> list[Gpu]:
    """Return the graphics processors in the tool's table; a line that is not full is left out."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.rsplit(",", 3)]
        with contextlib.suppress(ValueError, IndexError):
            share = float(cells[1]) / 100 if cells[1][:1].isdigit() else None
            used, total = (int(cell) * _MIB for cell in cells[2:])
            found.append(Gpu(cells[0], share, used, total))
    return found
