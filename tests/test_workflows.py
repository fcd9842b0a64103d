"""The workflows of public CI: they fit GitHub's schema, and what they run is there."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.processes import python

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TESTS = ROOT / ".github" / "workflows" / "tests.yml"


@pytest.mark.parametrize("schema", ["github-workflows", "github-workflows-require-timeout"])
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_fits_its_schema(workflow: Path, schema: str) -> None:
    custom = "custom." if schema.endswith("timeout") else "vendor."
    python("-m", "check_jsonschema", "--builtin-schema", custom + schema, workflow)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_it_makes_what_there_is(workflow: Path) -> None:
    targets = re.findall(r"run: make (\w+)", workflow.read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_it_tests_what_there_is() -> None:
    text = TESTS.read_text(encoding="utf-8")
    assert all((ROOT / folder).is_dir() for folder in re.findall(r"--ignore=(\S+)", text))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for group in re.findall(r"\.\[([a-z,]+)\]", text) for name in group.split(",")}
    assert extras <= project["optional-dependencies"].keys()
    oldest = project["requires-python"].removeprefix(">=")
    assert re.findall(r"python: \[(.*?),", text) == [f'"{oldest}"'] * 2
