"""The documentation is true and whole: generated parts are current, and nothing is left out."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.classical.classical_recipe import TRAIN_OPTIONS
from opsin.cli.options import MOST_USED
from opsin.cli.verbs import VERBS
from opsin.core.recipe import DataRecipe, ModelRecipe, TrainingRecipe
from tests.warm import Warm

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
COMMANDS = {verb: DOCS / "reference" / "commands" / f"{verb}.md" for verb in VERBS}

sys.path.insert(0, str(ROOT / "scripts"))
import generate  # noqa: E402  the script that writes pages
import pictures  # noqa: E402  the script that makes pictures
import python_pages  # noqa: E402  another that writes pages


@pytest.mark.parametrize("page", generate.PAGES, ids=lambda page: page.name)
def test_generated_pages_are_current(
    page: Path, warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def help_of(verb: str) -> str:
        done = warm.run([verb, "--help"], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    monkeypatch.setattr(generate, "help_of", help_of)  # the same, sooner
    for name, value in generate.TERMINAL.items():
        monkeypatch.setenv(name, value)
    assert page.read_text(encoding="utf-8") == generate.PAGES[page](), "run: make docs"


def test_every_field_of_the_recipe_is_an_option_and_documented() -> None:
    page = (DOCS / "reference" / "recipe.md").read_text(encoding="utf-8")
    help_page = "\n".join(page.read_text(encoding="utf-8") for page in COMMANDS.values())
    for part in (DataRecipe, ModelRecipe, TrainingRecipe):
        for name, field in part.model_fields.items():
            assert field.description, name
            assert f"`{name}`" in page
            option = {"name": "--model", "sources": "SOURCE"}.get(
                name, f"--{name.replace('_', '-')}"
            )
            assert option in help_page, name


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_help_of_train_shows_ten_options_first() -> None:
    help_of_train = COMMANDS["train"].read_text(encoding="utf-8")
    headings = re.findall(r"^(\w[\w ]*):$", help_of_train.split("```")[1], re.MULTILINE)
    assert headings[:2] == ["Arguments", MOST_USED]
    assert {option.group for option in TRAIN_OPTIONS.values()} < set(headings)
    first = help_of_train.split(f"{MOST_USED}:\n")[1].split("\n\n")[0]
    assert len(re.findall(r"^  --", first, re.MULTILINE)) == 10


def named_in(navigation: Any) -> Iterator[str]:
    if isinstance(navigation, str):
        yield navigation
    else:
        for each in navigation.values() if isinstance(navigation, dict) else navigation:
            yield from named_in(each)


def test_every_page_is_in_the_navigation_once() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    named = list(named_in(settings["project"]["nav"]))
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
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
    shown = "".join(page.read_text("utf-8") for page in PAGES)
    assert {name for name in files if f"images/{name}" not in shown} == set()
