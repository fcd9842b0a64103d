"""Where ONNX Runtime computes: on the CPU, or on a GPU that the installed package can use.

All sessions are opened here. A device other than the CPU that fails is given up for the rest of the
process, with one line, and the CPU takes over. Answers are the same bit for bit on the CPU only.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import onnxruntime
from numpy.typing import NDArray

from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.platform import known_device
from opsin.runtime.onnx_scan import printable

CPU: Final = "cpu"
_CPU_PROVIDER: Final = "CPUExecutionProvider"
# ONNX Runtime's own levels for what it logs outside of any session.
_WARNINGS, _NOTHING = 2, 4


class _Provider(NamedTuple):
    name: str
    install: str
    options: Mapping[str, str]


_INSTEAD: Final = "pip uninstall onnxruntime, then pip install"
_GPU: Final = f"{_INSTEAD} 'onnxruntime-gpu[cuda,cudnn]'"
_PROVIDERS: Final = {
    # Exact products, as on the CPU; and no search for the quickest convolution for each size of
    # batch, which takes longer than a thousand answers.
    "cuda": _Provider(
        "CUDAExecutionProvider", _GPU, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    ),
    "directml": _Provider("DmlExecutionProvider", f"{_INSTEAD} onnxruntime-directml (Windows)", {}),
    "openvino": _Provider(
        "OpenVINOExecutionProvider", f"{_INSTEAD} onnxruntime-openvino", {"precision": "ACCURACY"}
    ),
    # The Neural Engine computes in 16 bits.
    "coreml": _Provider(
        "CoreMLExecutionProvider",
        "use a Mac, whose onnxruntime has it",
        {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},
    ),
    "tensorrt": _Provider("TensorrtExecutionProvider", f"{_GPU} and TensorRT", {}),
}
# What ``auto`` tries, the best first. These come only with packages that somebody chose. Every
# ONNX Runtime for macOS has CoreML, and TensorRT takes minutes to begin: both only by name.
_AUTO: Final = ("cuda", "directml", "openvino")

# Devices that failed in this process.
_failed: set[str] = set()
_one_at_a_time = threading.Lock()


def installed() -> list[str]:
    """Return the devices besides the CPU that ONNX Runtime supports."""
    names = onnxruntime.get_available_providers()
    return [kind for kind, provider in _PROVIDERS.items() if provider.name in names]


def choose(asked: str, *, needed: bool = True) -> str:
    """Resolve a requested device; fall back to the CPU if it is not ``needed``."""
    try:
        known_device(asked)
    except ValueError as error:
        raise RecipeError(f"The device {error}, not {asked!r}") from None
    there = installed()
    if asked == "auto":
        return next((kind for kind in _AUTO if kind in there and kind not in _failed), CPU)
    device = asked.replace("mps", "coreml")
    kind = device.partition(":")[0]
    if kind in there and device not in _failed:
        return device
    if kind == CPU or device in _failed or not needed:
        return CPU
    raise RecipeError(
        f"The ONNX Runtime installed here has no {kind}, only {', '.join([CPU, *there])}",
        f"Leave --device out; or, for {kind}: {_PROVIDERS[kind].install}.",
    )


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """The options of all sessions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about the machine, not about the file
    # Bytes could also be in ONNX Runtime's own format, which `onnx_scan` does not read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def cpu_session(
    content: bytes, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """Open a network on the CPU."""
    options = options or session_options()
    return onnxruntime.InferenceSession(content, options, providers=[_CPU_PROVIDER])


class Session:
    """A network on a device; the CPU takes over on failure."""

    def __init__(
        self,
        content: bytes,
        device: str = CPU,
        *,
        threads: int | None = None,
        watcher: Watcher = SILENT,
    ) -> None:
        self._content, self._threads, self._watcher = content, threads, watcher
        self._falling = threading.Lock()
        #: Where it computes.
        self.device = choose(device)
        # DirectML runs one thing at a time.
        self._turn = threading.Lock() if self.device.startswith("directml") else _FREE
        try:
            #: ONNX Runtime's session, which knows inputs and outputs.
            self.opened = self._open()
        except Exception as error:
            if self.device == CPU:
                raise
            self._fall_back(self._on_cpu(), error)

    def run(self, names: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return outputs for some inputs."""
        opened = self.opened
        asked = list(names), dict(inputs)
        try:
            with self._turn:
                return list(opened.run(*asked))
        except Exception as error:
            with self._falling:
                if self.device == CPU and opened is self.opened:
                    raise
                if self.device != CPU:
                    session = self._on_cpu()
                    # Raises once more where not the device is at fault.
                    values = list(session.run(*asked))
                    self._fall_back(session, error)
                    return values
        return list(self.opened.run(*asked))

    def _on_cpu(self) -> onnxruntime.InferenceSession:
        return cpu_session(self._content, session_options(self._threads))

    def _open(self) -> onnxruntime.InferenceSession:
        if self.device == CPU:
            return self._on_cpu()
        kind, _, number = self.device.partition(":")
        provider, options = _PROVIDERS[kind], session_options(self._threads)
        options.log_severity_level = _NOTHING  # each thread's failure; one line of ours says it
        if kind == "directml":
            options.enable_mem_pattern = False  # it does not support it
        settings = dict(provider.options)
        if number and kind == "openvino":
            settings["device_type"] = f"GPU.{number}"
        elif number:
            settings["device_id"] = number
        with _one_at_a_time, contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.set_default_logger_severity(_NOTHING)
            try:
                if kind in ("cuda", "tensorrt"):
                    onnxruntime.preload_dlls()  # of NVIDIA's packages, which no path leads to
                session = onnxruntime.InferenceSession(
                    self._content,
                    options,
                    enable_fallback=0,  # it would print
                    providers=[(provider.name, settings), _CPU_PROVIDER],
                )
            finally:
                onnxruntime.set_default_logger_severity(_WARNINGS)
        if provider.name not in session.get_providers():
            raise RuntimeError("no such GPU, or its libraries are missing")
        return session

    def _fall_back(self, session: onnxruntime.InferenceSession, error: Exception) -> None:
        device, self.opened, self.device, self._turn = self.device, session, CPU, _FREE
        with _one_at_a_time:
            first = device not in _failed
            _failed.add(device)
        if first:
            why = printable(error).rstrip(".")
            self._watcher.note(f"{device} cannot be used ({why}): the CPU computes instead")


_FREE: Final = contextlib.nullcontext()
