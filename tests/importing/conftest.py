"""A folder for strangers' files; Keras and skops run elsewhere."""

from pathlib import Path

import pytest

collect_ignore = ["keras_networks.py", "sklearn_estimators.py"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in which, and beside which, nothing must come to be."""
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return tmp_path / "folder"
