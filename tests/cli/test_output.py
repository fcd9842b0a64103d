"""What is printed is what a file is called."""

from __future__ import annotations

import pytest

from opsin.cli.output import console
from opsin.report.terminal import for_people


def test_a_name_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("99.1%  [bold]dog[/]  :dog:.png")
    for_people().note(":dog:.png: no image")
    printed = capsys.readouterr()
    assert printed.out == "99.1%  dog  :dog:.png\n"
    assert ":dog:.png: no image" in printed.err
