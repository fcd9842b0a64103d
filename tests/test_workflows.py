"""The workflow of public CI: it fits GitHub's schema, and what it runs is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "tests.yml"


@pytest.mark.parametrize("schema", ["github-workflows", "github-workflows-require-timeout"])
def test_the_workflow_fits_its_schema(schema: str) -> None:
    custom = "custom." if schema.endswith("timeout") else "vendor."
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", custom + schema, WORKFLOW],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_it_runs_what_there_is() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    targets = re.findall(r"run: make (\w+)", text)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert all((ROOT / folder).is_dir() for folder in re.findall(r"--ignore=(\S+)", text))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for group in re.findall(r"\.\[([a-z,]+)\]", text) for name in group.split(",")}
    assert extras <= project["optional-dependencies"].keys()
    oldest = project["requires-python"].removeprefix(">=")
    assert re.findall(r"python: \[(.*?),", text) == [f'"{oldest}"'] * 2
