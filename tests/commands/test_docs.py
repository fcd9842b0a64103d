"""`opsin docs` and `opsin.open_docs` say where the documentation is."""

from __future__ import annotations

import webbrowser
from urllib.parse import unquote, urlsplit

import pytest

import opsin
from opsin.core.glossary import SITE
from tests.conftest import Cli, only_json

pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: make site")


def test_the_browser_gets_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    address = opsin.open_docs("serving")
    assert shown == [address]
    assert opsin.open_docs("serving", open_browser=False) == address
    assert shown == [address]
    assert (SITE / unquote(urlsplit(address).path)).is_file()


def test_the_command_prints_its_address_alone(cli: Cli) -> None:
    said = cli("docs", "serving", "--json")
    assert only_json(said) == {"url": opsin.open_docs("serving", open_browser=False)}
    assert cli("docs", "serving", "--no-browser").stdout.strip() == only_json(said)["url"]


def test_what_is_not_there_is_an_error_of_one_line(cli: Cli) -> None:
    said = cli("docs", "servng")
    assert said.returncode == 1
    assert "serving" in said.stderr
