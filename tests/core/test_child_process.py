"""What started processes share: environment, errors, limits, ends."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from opsin.core.child_process import (
    child_environment,
    error_from,
    error_values,
    module_command,
)
from opsin.core.errors import (
    MissingExtraError,
    MovedError,
    OpsinError,
)


def test_a_working_directory_holds_no_modules(tmp_path: Path) -> None:
    (tmp_path / "struct.py").write_text("raise SystemExit(7)\n", encoding="utf-8")
    command = module_command("opsin.core.sandbox", "opsin.core.sandbox:echo", "5", "100000000")
    done = subprocess.run(
        command, cwd=tmp_path, env=child_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "error", [MovedError("runs/a", ["photos"]), MissingExtraError("the hub", "hub")]
)
def test_an_error_made_of_other_values_comes_back_too(error: OpsinError) -> None:
    found = error_from(error_values(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
