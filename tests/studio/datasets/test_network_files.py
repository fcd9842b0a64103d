"""Pretrained networks that the studio was given as files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from opsin.core.errors import ModelFileError
from opsin.core.platform import process_exists
from opsin.studio.datasets import network_files
from opsin.studio.datasets.network_files import NetworkFiles


def test_a_look_into_a_network_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sent").write_bytes(b"a network")
    files = NetworkFiles(tmp_path)
    number = files.add(tmp_path / "sent", "mobile.onnx")
    hangs = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    command = [sys.executable, "-S", "-c", hangs, str(tmp_path / "pid")]
    monkeypatch.setattr(network_files, "command", lambda *_: command)
    monkeypatch.setattr(network_files, "_SECONDS", 5.0)
    with pytest.raises(ModelFileError, match="took longer than 5 seconds"):
        files.check(number)
    assert not process_exists(int((tmp_path / "pid").read_text()))
    assert files.all() == {}
