"""The kind of a file by its content, not its name; members of its archive."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path
from typing import Final

from opsin.core.files import open_regular
from opsin.onnx_files.tensor_file import LEGACY
from opsin.runtime.onnx_scan import refused

#: First bytes of archives and of HDF5 files.
ZIP: Final = b"PK\x03\x04"
HDF5: Final = b"\x89HDF\r\n\x1a\n"
#: Bytes for each byte of the file that compression could explain.
DENSEST: Final = 1_000
#: Code that writes another file in the user's own program.
FROM_TORCH: Final = "torch.onnx.export(model.eval(), (images,), 'NAME.onnx', dynamo=True)"
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
    """Return the kind of a file; one that holds a program is refused."""
    with open_regular(path) as file:
        start = file.read(16)
    ending = path.suffix.lower()
    if start.startswith(HDF5):
        return FileKind.KERAS
    if start.startswith(ZIP):
        return _kind_of_archive(path)
    if start.startswith(LEGACY) or (start[8:9] == b"{" and path.suffix == ".safetensors"):
        return FileKind.WEIGHTS
    if start.startswith(b"\x80") or ending in _PICKLES:
        from_sklearn = _FROM_SKLEARN.format(ending if ending in _PICKLES else ".pkl")
        raise refused(
            path.name,
            "it is a pickle, which runs a program when it is opened",
            "Make another file of it in the program that it comes from, which you trust. "
            f"scikit-learn: {from_sklearn}. PyTorch: {FROM_TORCH}.",
        )
    if start[4:8] == b"TFL3":
        advice = "Give the .keras or .h5 file that it was made from."
        raise refused(path.name, "it is a file of TensorFlow Lite", advice)
    return FileKind.ONNX


def _kind_of_archive(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise refused(path.name, "it is a broken archive", "Save it again.") from error
    last = {name.rsplit("/", 1)[-1] for name in names}
    if "config.json" in names:
        return FileKind.KERAS
    program = "a TorchScript program, which runs when it is opened"
    if "constants.pkl" not in last:
        if "data.pkl" in last:
            return FileKind.WEIGHTS
        if "schema.json" in names:
            return FileKind.SKOPS
        if not any(name.endswith((".pt2", "archive_format", "model.json")) for name in names):
            raise refused(path.name, "it is an archive of something else")
        program = "an archive of torch.export, which is a program"
    advice = f"Export it to ONNX from your own program: {FROM_TORCH}."
    raise refused(path.name, f"it is {program}", advice)


def read_member(archive: zipfile.ZipFile, file: str, member: str, most: int) -> bytes:
    """Return a member of an archive; the size that it declares is not trusted."""
    info = archive.getinfo(member)
    if info.file_size > min(most, DENSEST * max(info.compress_size, 1)):
        raise refused(file, f"its {member} is declared larger than the file could hold")
    with archive.open(info) as stream:
        content = stream.read(info.file_size + 1)
    if len(content) > info.file_size:
        raise refused(file, f"its {member} is larger than declared")
    return content
