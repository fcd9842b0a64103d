"""The workflows of public CI: they fit GitHub's schema, and what they run is there."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.processes import python

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TESTS = ROOT / ".github" / "workflows" / "tests.yml"


@pytest.mark.parametrize(
    "schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"]
)
def test_workflows_fit_their_schema(schema: str) -> None:
    python("-m", "check_jsonschema", "--builtin-schema", schema, *WORKFLOWS)


def test_they_make_what_there_is() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for workflow in WORKFLOWS:
        targets = re.findall(r"run: make (\w+)", workflow.read_text(encoding="utf-8"))
        assert targets
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_they_test_what_there_is() -> None:
    text = TESTS.read_text(encoding="utf-8")
    assert all((ROOT / folder).is_dir() for folder in re.findall(r"--ignore=(\S+)", text))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for group in re.findall(r"\.\[([a-z,]+)\]", text) for name in group.split(",")}
    assert extras <= project["optional-dependencies"].keys()
    oldest = project["requires-python"].removeprefix(">=")
    assert re.findall(r"python: \[(.*?),", text) == [f'"{oldest}"'] * 2
