"""What kind of file is given, by its content and not by its name."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path
from typing import Final

from opsin.core.regular_file import open_regular
from opsin.onnx_files.refusal import refused
from opsin.onnx_files.tensor_file import LEGACY

_ZIP: Final = b"PK\x03\x04"
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_PICKLE: Final = b"\x80"
_LITE: Final = b"TFL3"
_FROM_TORCH: Final = "torch.onnx.export(model.eval(), (images,), 'NAME.onnx', dynamo=True)"
_FROM_SKLEARN: Final = "skops.io.dump(joblib.load('NAME{}'), 'NAME.skops')"
# Pickles that are packed, or written as text, begin as other files do.
_PICKLES: Final = (".pkl", ".pickle", ".joblib")


class FileKind(StrEnum):
    """A kind of file that can be brought in."""

    KERAS = "Keras"
    ONNX = "ONNX"
    WEIGHTS = "weights"
    SKOPS = "skops"


def kind_of(path: Path) -> FileKind:
    """Return the kind of a file."""
    with open_regular(path) as file:
        start = file.read(16)
    if start.startswith(_HDF5):
        return FileKind.KERAS
    if start.startswith(_ZIP):
        return _kind_of_archive(path)
    if start.startswith(LEGACY) or (start[8:9] == b"{" and path.suffix == ".safetensors"):
        return FileKind.WEIGHTS
    ending = path.suffix.lower()
    if start.startswith(_PICKLE) or ending in _PICKLES:
        from_sklearn = _FROM_SKLEARN.format(ending if ending in _PICKLES else ".pkl")
        raise refused(
            path.name,
            "it is a pickle, which runs a program when it is opened",
            "Make another file of it in the program that it comes from, which you trust. "
            f"scikit-learn: {from_sklearn}. PyTorch: {_FROM_TORCH}.",
        )
    if start[4:8] == _LITE:
        raise refused(
            path.name,
            "it is a file of TensorFlow Lite",
            "Give the .keras or .h5 file that it was made from.",
        )
    return FileKind.ONNX


def _kind_of_archive(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise refused(path.name, "it is a broken archive", "Save it again.") from error
    if "config.json" in names:
        return FileKind.KERAS
    last = {name.rsplit("/", 1)[-1] for name in names}
    if "constants.pkl" in last:
        raise refused(
            path.name,
            "it is a TorchScript program, which runs when it is opened",
            f"Export it to ONNX from your own program: {_FROM_TORCH}.",
        )
    if "data.pkl" in last:
        return FileKind.WEIGHTS
    if "schema.json" in names:
        return FileKind.SKOPS
    if any(name.endswith((".pt2", "archive_format", "model.json")) for name in names):
        raise refused(
            path.name,
            "it is an archive of torch.export, which is a program",
            f"Export it to ONNX from your own program: {_FROM_TORCH}.",
        )
    raise refused(path.name, "it is an archive of something else")
