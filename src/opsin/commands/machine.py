"""The machine that a figure of speed belongs to."""

from __future__ import annotations

import os
import platform
import sys

import onnxruntime
import psutil
from pydantic import BaseModel

from opsin._version import __version__
from opsin.core.platform import cores, processor_name


class Machine(BaseModel):
    """What figures of speed depend on; ``gpu`` is known only where PyTorch was asked."""

    cpu: str
    threads: int
    memory: int
    load: float | None
    gpu: str | None
    versions: dict[str, str]

    @classmethod
    def here(cls, *, gpu: str | None = None) -> Machine:
        """Describe the machine at hand; the name of PyTorch's GPU is given."""
        versions = {
            "opsin": __version__,
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
        }
        if torch := sys.modules.get("torch"):
            versions["torch"] = str(torch.__version__)
        return cls(
            cpu=processor_name(),
            threads=cores(),
            memory=psutil.virtual_memory().total,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            gpu=gpu,
            versions=versions,
        )

    def line(self) -> str:
        """The machine in one line, without its load."""
        parts = [self.cpu, f"{self.threads} threads", f"{self.memory / 1e9:.0f} GB of memory"]
        if "torch" in self.versions:
            parts += [self.gpu or "no GPU", f"PyTorch {self.versions['torch']}"]
        return " · ".join([*parts, f"ONNX Runtime {self.versions['onnxruntime']}"])

    @property
    def busy(self) -> str:
        """A warning where other programs use more than half of the threads, otherwise empty."""
        if self.load is None or self.load <= self.threads / 2:
            return ""
        return (
            f"other programs keep this machine busy (load {self.load:.1f} on {self.threads} "
            "threads): it is faster than these figures"
        )
