"""Folders of TensorFlow Datasets: named, with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

import opsin


def test_it_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "mnist-train.tfrecord-00000-of-00001").write_bytes(b"")
    with pytest.raises(opsin.SourceError, match=r"TensorFlow Datasets\. .*numpy\.savez"):
        opsin.load(tmp_path)
