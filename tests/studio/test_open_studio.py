"""The studio says what it needs before it starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import opsin


@pytest.mark.parametrize("missing", ["nicegui", "uvicorn"])
def test_what_is_not_installed_is_named(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("opsin.studio.app")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(opsin.MissingExtraError, match=r"pip install 'opsin\[studio\]'"):
        opsin.open_studio(tmp_path, home=tmp_path / "home", roots=[tmp_path], port=0)
    assert not (tmp_path / "home").exists()
