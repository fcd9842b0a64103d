"""Only regular files are opened, whatever a name leads to."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from opsin.core.files import open_regular

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs pipes among the files")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("pipe", "link", "socket"):
            with pytest.raises(OSError, match="Not a regular file"):
                open_regular(tmp_path / name)
    with pytest.raises(OSError, match="Not a regular file"):
        open_regular("/dev/zero")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "gone")


def test_a_name_exchanged_between_look_and_open_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    honest = file.stat()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os, "stat", lambda *_, **__: honest)
    with pytest.raises(OSError, match="Not a regular file"):
        open_regular(tmp_path / "pipe")


def test_links_are_followed_unless_they_must_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
    with pytest.raises(OSError, match="Not a regular file"):
        open_regular(tmp_path / "link", follow_links=False)
    with open_regular(tmp_path / "file", follow_links=False) as file:
        assert file.read() == b"content"
