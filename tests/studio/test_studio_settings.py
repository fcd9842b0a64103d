"""A studio that cannot work says so before it begins."""

import sys
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.studio.settings import StudioSettings
from tests.web.made_requests import TOKEN


def settings(folder: Path, **given: Any) -> StudioSettings:
    usual: dict[str, Any] = {"runs": folder / "runs", "home": folder / "home", "roots": (folder,)}
    return StudioSettings(**usual | given)


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused: list[tuple[dict[str, Any], str]] = [
        ({"at_once": 0}, "got 0"),
        ({"roots": (tmp_path / "nowhere",)}, "nowhere"),
        ({"roots": (tmp_path / "file",)}, "no folder"),
        ({"runs": tmp_path / "file"}, "file is a file"),
        ({"home": tmp_path / "file"}, "file is a file"),
        ({"host": "0.0.0.0"}, "no token"),
    ]
    for given, told in refused:
        with pytest.raises(opsin.RecipeError, match=told):
            settings(tmp_path, **given)
    assert TOKEN not in repr(settings(tmp_path, host="0.0.0.0", token=TOKEN))


@pytest.mark.parametrize("missing", ["nicegui", "uvicorn"])
def test_missing_extras(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opsin.studio.app")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(opsin.MissingExtraError, match=r"pip install 'opsin\[studio\]'"):
        opsin.open_studio(tmp_path, home=tmp_path / "home", roots=[tmp_path], port=0)
    assert not (tmp_path / "home").exists()
