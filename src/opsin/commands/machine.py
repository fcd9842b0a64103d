"""The machine that a figure of speed belongs to."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import onnxruntime
import psutil

from opsin._version import __version__
from opsin.core.defaults import cores
from opsin.core.operating_system import processor_name
from opsin.core.stored_json import JsonObject


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

    def to_json(self) -> JsonObject:
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
        cpu=processor_name(),
        threads=cores(),
        memory=psutil.virtual_memory().total,
        load=load,
        gpu=gpu,
        versions=versions | ({"torch": torch} if torch else {}),
    )
