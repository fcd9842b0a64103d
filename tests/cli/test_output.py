"""What is printed is what a file is called."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from opsin.cli.output import console, encoded
from opsin.core.storage import write_json
from opsin.core.stored_json import Json
from opsin.report.terminal import for_people
from opsin.web.refusals import json_bytes


def test_a_name_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("99.1%  [bold]dog[/]  :dog:.png")
    for_people().note(":dog:.png: no image")
    printed = capsys.readouterr()
    assert printed.out == "99.1%  dog  :dog:.png\n"
    assert ":dog:.png: no image" in printed.err


def test_what_is_no_number_is_null_wherever_json_is_written(tmp_path: Path) -> None:
    content: Json = {"accuracy": math.nan, "ends": [-math.inf, 0.5], "names": ("a", None)}
    plain = {"accuracy": None, "ends": [None, 0.5], "names": ["a", None]}
    write_json(tmp_path / "report.json", content)
    for text in (encoded(content), json_bytes(content), (tmp_path / "report.json").read_bytes()):
        assert json.loads(text, parse_constant=pytest.fail) == plain
