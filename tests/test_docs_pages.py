"""The documentation as a whole: every page is found, every name is described, no word is odd."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import opsin

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

sys.path.insert(0, str(ROOT / "scripts"))
import pictures  # noqa: E402  the script that makes pictures
import python_pages  # noqa: E402  the script that writes pages


def named_in(navigation: Any) -> Iterator[str]:
    if isinstance(navigation, str):
        yield navigation
    else:
        for each in navigation.values() if isinstance(navigation, dict) else navigation:
            yield from named_in(each)


def test_every_page_is_in_the_navigation_once() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    named = list(named_in(settings["project"]["nav"]))
    assert sorted(named) == [page.relative_to(DOCS).as_posix() for page in PAGES]
    assert len(named) >= 60


def test_every_how_to_page_and_every_public_name_is_in_its_list() -> None:
    described = [name for _, _, names in python_pages.GROUPS.values() for name in names]
    assert sorted([*described, *python_pages.ELSEWHERE]) == opsin.__all__
    index = (DOCS / "how-to" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (DOCS / "how-to").glob("*.md")} - {"index.md"}
    assert pages == set(re.findall(r"\]\(([\w-]+\.md)\)", index))


def test_every_picture_is_made_by_a_command_and_shown() -> None:
    files = {file.name for file in (DOCS / "images").iterdir()}
    assert files == pictures.MADE.keys()
    shown = "".join(page.read_text("utf-8") for page in (ROOT / "README.md", *PAGES))
    assert {name for name in files if f"images/{name}" not in shown} == set()
