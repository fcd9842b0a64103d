"""The documentation is true: generated parts are current, and every command in it runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from opsin.classical.classical_recipe import MODELS, TRAIN_OPTIONS
from opsin.cli.options import MOST_USED
from opsin.cli.verbs import VERBS
from opsin.core.recipe import DataRecipe, ModelRecipe, TrainingRecipe
from tests.conftest import write_shapes
from tests.documented import commands_in, fenced, run_command
from tests.warm import Warm

ROOT = Path(__file__).parent.parent
# Whose commands `make test` runs; `make test-all` runs those of all pages.
MOST_READ = frozenset(("README.md", "evaluation.md", "training.md"))
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

sys.path.insert(0, str(ROOT / "scripts"))
import generate  # noqa: E402  the script that writes pages


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
    page = (ROOT / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")
    help_page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    for part in (DataRecipe, ModelRecipe, TrainingRecipe):
        for name, field in part.model_fields.items():
            assert field.description, name
            assert f"`{name}`" in page
            option = {"name": "--model", "sources": "SOURCE"}.get(
                name, f"--{name.replace('_', '-')}"
            )
            assert option in help_page, name


def test_every_option_has_a_description() -> None:
    help_page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    option = (
        r"^  (--[\w/ -]+?(?: <\w+>| [A-Z,]+| N or HxW| OURS=THEIRS,…| I/K)?)"
        r"(?:(?:  +|\n {10,})(\S.*))?$"
    )
    options = re.findall(option, help_page, re.MULTILINE)
    assert len(options) > 50
    assert all(description for _, description in options), options


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_module_is_called_after_nothing() -> None:
    for file in (ROOT / "src").rglob("*.py"):
        assert file.stem not in ("utils", "helpers", "common", "base"), file


def commands(page: Path) -> list[list[str]]:
    """Return the words of the opsin commands in a page's shell blocks.

    Those in tables of two columns belong to programs, which tests/test_side_by_side.py runs.
    """
    text = re.sub(r"<table>.*?</table>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [
        words
        for language, block in fenced(text)
        if language == "sh"
        for words in commands_in(block)
    ]


@pytest.mark.torch
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=() if page.name in MOST_READ else pytest.mark.slow)
        for page in PAGES
        if commands(page)
    ],
)
def test_every_command_in_the_pages_runs(page: Path, tmp_path: Path, warm: Warm) -> None:
    """On small images instead of large ones, and on the run that the page has just made."""

    def opsin(*words: str) -> None:
        run_command(words, cwd=tmp_path, warm=warm)

    write_shapes(tmp_path / "photos")
    Image.new("RGB", (60, 40), "white").save(tmp_path / "boot.jpg")
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "photos")
    (tmp_path / "photos.csv").write_text("path\nboot.jpg\n", encoding="utf-8")
    # A run as small as these is too weak to suspect anything, and writes no corrections.
    (tmp_path / "labels.csv").write_text("digest,name,label\n", encoding="utf-8")
    shutil.copy(ROOT / "docs" / "learn" / "select-a-picture.html", tmp_path)
    for shown in commands(page):
        shorter = {"fashion-mnist": "digits", "Bag": "3"}
        shorter |= {"5": "2", "4": "2"}  # folds and repeats
        shorter["answer=none of these"] = "answer=unreadable"  # so small a run refuses nothing
        words = [shorter.get(word, word) for word in shown]
        for place, word in enumerate(words):
            name, _, run = word.rpartition("=")
            if run.startswith("runs/"):
                source = "photos" if "photos" in word else "digits"
                wanted = word.partition("-digits-")[2] or source
                made = [p for p in (tmp_path / "runs").glob(f"*{wanted}*") if p.is_dir()]
                if not made:  # by a command of another page
                    opsin("train", source, "--model", "mlp", "--epochs", "1", "--quiet")
                    made = [p for p in (tmp_path / "runs").glob(f"*{source}*") if p.is_dir()]
                found = str(sorted(made)[-1].relative_to(tmp_path))
                words[place] = f"{name}={found}" if name else found
        if words[0] == "train" and {*MODELS, "--from"}.isdisjoint(words):
            words += ["--epochs", "1"]  # the last one counts
        if words[0] == "export" and not words[-1].startswith("hf:"):
            words += ["--force"]  # one of so few images is more than 0.3 points
        if words[0] == "bench":
            words += ["--seconds", "0.05"]
        if words[0] == "studio":
            words += ["--root", "photos"]
        opsin(*words)


@pytest.mark.torch
def test_the_readmes_python_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"),
                        re.DOTALL)  # fmt: skip
    assert blocks
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], check=True, cwd=tmp_path, capture_output=True)
    shutil.rmtree(tmp_path / "runs")


def test_summaries_of_commands_fit_80_columns(
    warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    summaries = warm.run(["--help"], cwd=tmp_path).stdout.split("Commands:\n")[1].splitlines()
    assert len(summaries) == len(VERBS)
    assert all(line.endswith(".") and not line.endswith("...") for line in summaries), summaries


def test_the_help_of_train_shows_ten_options_first() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    help_of_train = page.split("## opsin train")[1]
    headings = re.findall(r"^(\w[\w ]*):$", help_of_train.split("```")[1], re.MULTILINE)
    assert headings[:2] == ["Arguments", MOST_USED]
    assert {option.group for option in TRAIN_OPTIONS.values()} < set(headings)
    first = help_of_train.split(f"{MOST_USED}:\n")[1].split("\n\n")[0]
    assert len(re.findall(r"^  --", first, re.MULTILINE)) == 10
