"""An error is told once, by one of the processes that run a verb together."""

from __future__ import annotations

import json
import sys
import threading

import pytest

from opsin.cli import output, verbs
from opsin.core.errors import OpsinError


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("told", [None, True, False])
def test_one_process_tells_an_error(
    rank: str,
    told: bool | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def application(*_: object, **__: object) -> int:
        print("an answer")
        error = OpsinError("One of the 2 processes ended")
        error.told = told
        raise error

    launch = {"TORCHELASTIC_RUN_ID": "boots", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (launch | {"RANK": rank, "LOCAL_RANK": rank}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(output, "DOCUMENT_BEGUN", threading.Event())
    monkeypatch.setattr(sys, "argv", ["opsin", "train", "digits", "--json"])
    monkeypatch.setattr(verbs, "_application", lambda _: application)
    assert verbs.run() == 1
    answer, _, said = capsys.readouterr().out.partition("{")
    assert answer == ("an answer\n" if rank == "0" else "")
    speaks = told is False or (told is None and rank == "0")
    assert bool(said) == speaks
    if speaks:
        assert json.loads("{" + said)["error"]["message"] == "One of the 2 processes ended"


def test_an_interrupted_verb_says_so_in_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def application(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(output, "DOCUMENT_BEGUN", threading.Event())
    monkeypatch.setattr(sys, "argv", ["opsin", "data", "photos", "--json"])
    monkeypatch.setattr(verbs, "_application", lambda _: application)
    assert verbs.run() == 130
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["message"] == "Interrupted"
    assert "opsin: Interrupted" in said.err
