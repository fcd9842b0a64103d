"""A part of an archive that a stranger sent, read into memory."""

from __future__ import annotations

import zipfile
from typing import Final

from opsin.onnx_files.refusal import refused

#: Bytes for each byte of the file that compression could explain.
DENSEST: Final = 1_000


def read_member(archive: zipfile.ZipFile, file: str, member: str, most: int) -> bytes:
    """Return a member of an archive; what it says of its own size is not believed."""
    info = archive.getinfo(member)
    if info.file_size > min(most, DENSEST * max(info.compress_size, 1)):
        raise refused(file, f"its {member} is declared larger than the file could hold")
    with archive.open(info) as stream:
        content = stream.read(info.file_size + 1)
    if len(content) > info.file_size:
        raise refused(file, f"its {member} is larger than declared")
    return content
