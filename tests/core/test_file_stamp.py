"""A stamp changes with its file, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from opsin.core.file_stamp import MISSING, file_stamp


def test_a_stamp_changes_with_its_file(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    assert file_stamp(file) == MISSING
    file.write_bytes(b"1")
    known = file_stamp(file)
    file.read_bytes()
    assert file_stamp(str(file)) == known
    other.write_bytes(b"2")
    os.utime(other, ns=(known.mtime_ns, known.mtime_ns))
    other.replace(file)  # of the same size and time
    assert file_stamp(file) != known


def test_a_link_is_followed_or_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    assert file_stamp(tmp_path / "link") == file_stamp(tmp_path / "file")
    assert file_stamp(tmp_path / "link", follow_links=False) != file_stamp(tmp_path / "file")
