"""The machine that a figure of speed belongs to."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from opsin._version import __version__
from opsin.core.defaults import cores


@dataclass(frozen=True)
class Machine:
    """What figures of speed depend on; what cannot be known is ``None``.

    Args:
        cpu: Its name.
        threads: How many the process may use.
        memory: In bytes.
        load: Mean number of threads at work over the last minute, those of others included.
        gpu: Its name, as PyTorch sees it; unknown where ``versions`` has no ``torch``.
        versions: Of Opsin, Python, ONNX Runtime and, where it is in use, PyTorch.
    """

    cpu: str
    threads: int
    memory: int | None
    load: float | None
    gpu: str | None
    versions: dict[str, str]

    def line(self) -> str:
        """Return it in one line, without the load.

        Example:
            >>> Machine("Xeon", 2, 8 * 10**9, 0.1, None, {"torch": "2.13.0"}).line()
            'Xeon · 2 threads · 8 GB of memory · no GPU · PyTorch 2.13.0'
        """
        names = {"python": "Python", "torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
        parts = [self.cpu, f"{self.threads} thread{'s' if self.threads > 1 else ''}"]
        if self.memory is not None:
            parts.append(f"{self.memory / 1e9:.0f} GB of memory")
        if "torch" in self.versions or self.gpu:
            parts.append(self.gpu or "no GPU")
        parts += [f"{name} {self.versions[key]}" for key, name in names.items()
                  if key in self.versions]  # fmt: skip
        return " · ".join(parts)

    def busy(self) -> bool:
        """Tell whether others leave it less than half of its threads."""
        return self.load is not None and self.load > self.threads / 2

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "cpu": self.cpu,
            "threads": self.threads,
            "memory": self.memory,
            "load": self.load,
            "gpu": self.gpu,
            "versions": self.versions,
        }


def this_machine(*, gpu: str | None = None, torch: str | None = None) -> Machine:
    """Describe the machine at hand.

    Args:
        gpu: Name of its GPU; PyTorch knows it, and is not asked here.
        torch: Version of PyTorch, where it is in use.
    """
    versions = {
        "opsin": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }
    # Not where the system has no such notion.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Machine(
        cpu=_cpu(),
        threads=cores(),
        memory=_memory(),
        load=load,
        gpu=gpu,
        versions=versions | ({"torch": torch} if torch else {}),
    )


def _cpu() -> str:
    """Name the processor as its maker does, or at least its kind."""
    about = Path("/proc/cpuinfo")
    if about.is_file():
        for line in about.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    if sys.platform == "darwin":
        asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        told = subprocess.run(asked, check=False, capture_output=True, text=True)  # noqa: S603
        if told.returncode == 0 and told.stdout.strip():
            return told.stdout.strip()
    return platform.processor() or platform.machine() or "a processor without a name"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no such call
        return None
