"""An answers file knows what is done, whatever happens to the process, the disk or the output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opsin.commands.predict.answers_file import Answer, AnswersFile, database_beside
from opsin.commands.predict.rows import RowFormat, json_line
from opsin.core.errors import RecipeError

BEGUN: dict[str, Any] = {"the classifier": "abc", "top": 5}


def open_answers(out: Path, **begun: Any) -> AnswersFile:
    return AnswersFile(database_beside(out), out, BEGUN | begun, kinds=4)


def finish(answers: AnswersFile) -> None:
    answers.finish(RowFormat(answers.out, 1).write)


def keep(out: Path, *names: str, end: bool = True) -> AnswersFile:
    """Keep answers as a command does; without an end as one that was killed."""
    with open_answers(out) as answers:
        for name in names:
            assert answers.claim(name)
            answers.append([Answer(name, len(name) % 3, json_line({"image": name}))])
        if end:
            finish(answers)
    return answers


def images(out: Path) -> list[str]:
    return [json.loads(line)["image"] for line in out.read_text().splitlines()]


def test_what_is_done_is_known_and_counted(tmp_path: Path) -> None:
    out = tmp_path / "below" / "results.jsonl"
    with open_answers(out) as answers:
        names = ["a", "bb", "Ünï\udcff", "aaaa"]
        answers.append([Answer(name, len(name) % 3, b'{"image": ""}') for name in names])
        answers.append([Answer("left out", 1, None)])
        assert (answers.resumed, answers.counts()[0].total()) == (0, 5)
        finish(answers)
    assert out.read_bytes().count(b"\n") == 4
    for _ in range(2):
        with open_answers(out) as answers:
            assert answers.resumed == 5
            assert answers.counts() == ({1: 4, 2: 1}, {1: 3, 2: 1})
            done = ("Ünï\udcff", "left out", "a")
            assert not any(answers.claim(name) for name in done)
            assert answers.claim("b") and not answers.claim("b")


def test_the_output_is_written_where_it_lacks_rows(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    keep(out, "1", "2", end=False)
    assert not out.exists()
    keep(out, "3")
    assert images(out) == ["1", "2", "3"]
    before = out.stat()
    keep(out)  # nothing is new
    assert out.stat() == before
    keep(out, "4")
    assert images(out) == ["1", "2", "3", "4"]
    out.unlink()  # who removes it wants a new one
    with open_answers(out, top=3) as answers:
        assert answers.resumed == 0
    other = tmp_path / "other.jsonl"
    other.write_text("precious\n")
    with pytest.raises(RecipeError, match="Opsin overwrites nothing"):
        open_answers(other)
    assert other.read_text() == "precious\n" and not database_beside(other).exists()
    other.unlink()
    with open_answers(other) as answers:
        answers.append([Answer("1", 1, b"{}")])
        other.write_text("mine")  # meanwhile
        with pytest.raises(RecipeError, match="changed since"):
            finish(answers)
    assert other.read_text() == "mine"


@pytest.mark.parametrize("how", ["added", "changed", "gone"])
def test_results_that_somebody_changed_are_refused_and_left(tmp_path: Path, how: str) -> None:
    out = tmp_path / "results.jsonl"
    keep(out, "1", "2", "3")
    content = out.read_bytes()
    cases = {"added": content + b"mine\n", "changed": b"X" + content[1:-9], "gone": content[5:]}
    out.write_bytes(cases[how])
    with pytest.raises(RecipeError, match="changed since"):
        keep(out)
    assert out.read_bytes() == cases[how]


def test_a_mistake_before_the_first_answer_does_not_keep_the_name(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    keep(out)
    out.write_text("mine")
    with pytest.raises(RecipeError, match="top was 5 and is 3"):
        open_answers(out, top=3)
    out.write_text("")
    with open_answers(out, top=3) as answers:
        finish(answers)
    assert keep(out, "1", end=False).resumed == 0
    with pytest.raises(RecipeError, match="top was 5 and is 3"):
        open_answers(out, top=3)


@pytest.mark.parametrize("pages", [0, 1, 2, 5, 10])
def test_a_checkpoint_may_end_anywhere(tmp_path: Path, pages: int) -> None:
    """As where the process is killed in it, or the disk is full."""
    out, cut = tmp_path / "results.jsonl", tmp_path / "cut" / "results.jsonl"
    cut.parent.mkdir()
    file, log = database_beside(cut), database_beside(cut).with_name(f".{out.name}.sqlite-wal")
    with open_answers(out) as answers:
        answers.append([Answer(str(number), 0, b"{}" * 50) for number in range(400)])
        before = database_beside(out).read_bytes()
        log.write_bytes((tmp_path / log.name).read_bytes())
    after = database_beside(out).read_bytes()
    assert len(after) > 10 * 4096 > len(before)
    file.write_bytes(after[: 4096 * pages] + before[4096 * pages :])
    with open_answers(cut) as answers:
        assert answers.resumed == 400
    assert file.read_bytes() == after


def test_two_at_once_is_one_too_many(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with open_answers(out), pytest.raises(RecipeError, match="nother process is writing"):
        open_answers(out)
    keep(out, "1")


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with open_answers(out) as answers:

        def stopped() -> None:
            with answers.transaction():
                answers.insert([Answer("1", 0, b"{}")])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stopped()
        answers.append([Answer("2", 0, b"{}")])
    with open_answers(out) as answers:
        assert (answers.claim("1"), answers.claim("2")) == (True, False)
