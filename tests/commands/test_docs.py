"""`opsin docs` and `opsin.open_docs` say where the documentation is."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

import opsin
from opsin.commands import docs
from opsin.core.glossary import SITE
from tests.conftest import Cli, only_json


def test_the_browser_gets_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "SITE", tmp_path)
    with pytest.raises(opsin.OpsinError, match="make site"):
        opsin.open_docs()
    (tmp_path / "index.html").touch()
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    address = opsin.open_docs()
    assert shown == [address] == [(tmp_path / "index.html").as_uri()]
    assert opsin.open_docs(open_browser=False) == address
    assert shown == [address]


@pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: make site")
def test_the_command_prints_its_address_alone(cli: Cli) -> None:
    said = only_json(cli("docs", "--json"))
    assert said == {"url": opsin.open_docs(open_browser=False)}
    assert cli("docs", "--no-browser").stdout.strip() == said["url"]
