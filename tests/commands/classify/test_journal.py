"""A journal knows what is done, whatever happens to the process, the disk or the files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsin.commands.classify.journal import Journal, JournalEntry, forget
from opsin.core.errors import RecipeError, StorageError

BEGUN: dict[str, Any] = {"the classifier": "abc", "top": 5}


def open_journal(out: Path, **begun: Any) -> Journal:
    return Journal(out, out, BEGUN | begun, version="1")


def keep(journal: Journal, *names: str) -> None:
    entries = [
        JournalEntry(name, len(name) % 3, f"row of {name}\n".encode("utf-8", "surrogateescape"))
        for name in names
    ]
    assert all(journal.claim(name) for name in names)
    journal.append(entries)


def abandoned(out: Path, *batches: list[str]) -> Path:
    """Leave results as a killed process would; return the journal."""
    journal = open_journal(out)
    for names in batches:
        keep(journal, *names)
    journal.close(whole=False)
    return journal.path


def test_what_is_done_is_known_and_counted(tmp_path: Path) -> None:
    out = tmp_path / "below" / "results.jsonl"
    with open_journal(out) as journal:
        keep(journal, "a", "bb", "Ünï\udcff", "aaaa")
        journal.claim("left out")
        journal.append([JournalEntry("left out", 1, b"")])
        assert (journal.resumed, journal.images) == (0, 5)
    assert out.read_bytes().count(b"\n") == 4
    for _ in range(2):  # the second time after an end that added nothing
        with open_journal(out) as journal:
            assert (journal.resumed, journal.images) == (5, 5)
            assert journal.answers == {1: 4, 2: 1}
            assert journal.kept == {1: 3, 2: 1}
            assert journal.holds("bb") and journal.holds("left out")
            assert not journal.holds("b")
            assert not journal.claim("a")
    size = out.stat().st_size
    with open_journal(out) as journal:
        keep(journal, "new")
    assert out.read_bytes()[size:] == b"row of new\n"


@settings(max_examples=30)
@given(st.integers(0, 400), st.integers(0, 400))
def test_cut_anywhere_it_goes_on_from_whole_rows(
    tmp_path_factory: pytest.TempPathFactory, records: int, rows: int
) -> None:
    """What a kill leaves: records without rows, and either cut short."""
    out = tmp_path_factory.mktemp("cut") / "results.jsonl"
    names = [f"{number}.png" for number in range(12)]
    path = abandoned(out, names[:5], names[5:])
    head = path.read_bytes().index(b"\n") + 1
    os.truncate(path, head + min(records, path.stat().st_size - head))
    # Records come first, so rows are never ahead of them.
    whole = (path.stat().st_size - head) // 24
    ends = [sum(len(f"row of {name}\n") for name in names[:n]) for n in range(13)]
    os.truncate(out, min(rows, ends[whole]))
    good = max(n for n in range(whole + 1) if ends[n] <= out.stat().st_size)
    with open_journal(out) as journal:
        assert [name for name in names if journal.holds(name)] == names[:good]
        keep(journal, *names[good:])
    assert out.read_text() == "".join(f"row of {name}\n" for name in names)


def test_rows_torn_by_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    abandoned(out, ["1", "2"], ["3", "4"])
    content = out.read_bytes()
    out.write_bytes(content[:18] + bytes(len(content) - 18))  # zeros, where blocks were lost
    with open_journal(out) as journal:
        assert (journal.resumed, journal.holds("3")) == (2, False)
    assert out.read_bytes() == content[:18]


def test_records_torn_by_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    path = abandoned(out, ["1", "2"], ["3", "4"])
    content = path.read_bytes()
    path.write_bytes(content[:-24] + bytes(24))
    with open_journal(out) as journal:
        assert journal.resumed == 3
    assert out.read_text() == "row of 1\nrow of 2\nrow of 3\n"


def test_records_reach_the_disk_before_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that a power cut left without records would look as if somebody had added them."""
    order: list[int] = []
    journal = open_journal(tmp_path / "results.jsonl")
    keep(journal, "1")
    monkeypatch.setattr(os, "fsync", order.append)
    journal.sync()
    rows, records = (file.fileno() for file in journal._files)
    assert order == [records, rows]
    journal.close()


@pytest.mark.parametrize("how", ["added", "changed", "shorter"])
def test_results_that_somebody_changed_are_refused_and_left(tmp_path: Path, how: str) -> None:
    out = tmp_path / "results.jsonl"
    with open_journal(out) as journal:
        keep(journal, "1", "2", "3")
    content = out.read_bytes()
    changed = {"added": content + b"mine\n", "changed": content.replace(b"2", b"X"),
               "shorter": content[:-4]}[how]  # fmt: skip
    out.write_bytes(changed)
    with pytest.raises(RecipeError, match="it is unknown which images are done"):
        open_journal(out)
    assert out.read_bytes() == changed


def test_a_table_without_its_heading_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    journal = Journal(out, out, BEGUN, heading=b"image,answer\n")
    keep(journal, "1")
    journal.close(whole=False)
    out.write_bytes(b"")
    with pytest.raises(RecipeError, match="was changed since"):
        Journal(out, out, BEGUN, heading=b"image,answer\n")
    assert out.read_bytes() == b""


def test_results_of_others_are_never_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    out.write_text("precious\n")
    with pytest.raises(RecipeError, match="Opsin overwrites nothing"):
        open_journal(out)
    assert out.read_text() == "precious\n"
    assert not (tmp_path / ".results.jsonl.journal").exists()


def test_other_options_are_named(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with open_journal(out) as journal:
        keep(journal, "1")
    with pytest.raises(RecipeError, match="top was 5 and is 3") as caught:
        open_journal(out, top=3)
    assert "the classifier" not in caught.value.received
    with pytest.raises(RecipeError, match="reject was none and is on"):
        open_journal(out, reject=True)
    damaged = tmp_path / ".results.jsonl.journal"
    damaged.write_bytes(b"[]\n" + damaged.read_bytes())
    with pytest.raises(RecipeError, match="damaged"):
        open_journal(out)


def test_where_nothing_was_done_other_options_begin_anew(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    abandoned(out)
    with open_journal(out, top=3) as journal:
        keep(journal, "1")
    out.unlink()  # whoever removes the results wants new ones
    with open_journal(out) as journal:
        assert journal.resumed == 0


def test_two_at_once_is_one_too_many(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    script = (
        "import sys; from pathlib import Path\n"
        "from opsin.commands.classify.journal import Journal\n"
        "out = Path(sys.argv[1]); journal = Journal(out, out, {'top': 5})\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(RecipeError, match="another one is writing"):
            open_journal(out)
        other.kill()
        other.wait()
        with open_journal(out) as journal:  # its end has freed them
            keep(journal, "1")


def test_after_a_failed_write_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.jsonl"
    journal = open_journal(out)
    keep(journal, "1")
    journal._files[0].close()  # the rows' file refuses from now on
    journal._files[0] = (tmp_path / "results.jsonl").open("rb", buffering=0)
    with pytest.raises(StorageError):
        journal.append([JournalEntry("2", 0, b"x\n")])
    with pytest.raises(StorageError, match="a write before it failed"):
        journal.append([JournalEntry("3", 0, b"x\n")])
    journal.close(whole=False)
    with open_journal(out) as again:
        assert again.resumed == 1


def test_only_untouched_results_are_forgotten(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with open_journal(out) as journal:
        keep(journal, "1", "2")
        key = journal.key
    assert not forget(out, b"another")
    out.write_bytes(out.read_bytes() + b"mine\n")
    assert not forget(out, key)
    os.truncate(out, out.stat().st_size - 5)
    assert forget(out, key)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_at_any_step_of_tidying_each_image_keeps_its_stamp(tmp_path: Path) -> None:
    """`kill -9` at each file that tidying opens, renames or removes."""
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from opsin.commands.classify.journal import Journal, JournalEntry

        def put(out, *stamps):
            journal = Journal(out, out, {"top": 5}, stamps=True)
            for name, stamp in stamps:
                assert journal.claim(name, stamp=stamp)
                journal.append([JournalEntry(name, 0, b"{}\\n", stamp)])
            return journal

        def ends(step, out):
            left = [step]
            def count(event, _):
                if event == "open" or event.startswith("os."):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
            journal = put(out, ("a", 1), ("b", 2), ("c", 3), ("a", 4))
            sys.addaudithook(count)
            journal.tidy()
            os._exit(0)

        for step in range(1, 100):
            out = Path(sys.argv[1]) / str(step) / "results.jsonl"
            child = os.fork()
            if not child:
                ends(step, out)
            killed = os.waitpid(child, 0)[1] == signal.SIGKILL
            with Journal(out, out, {"top": 5}, stamps=True) as journal:
                for name, stamp in (("a", 4), ("b", 2), ("c", 3)):
                    assert not journal.claim(name, stamp=stamp), (step, name, "answered again")
                for name, stamp in (("a", 2), ("b", 3), ("c", 4)):
                    assert journal.claim(name, stamp=stamp), (step, name, "another's stamp")
            if not killed:
                print(step)
                break
    """
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, stdout=subprocess.PIPE
    )
    assert int(done.stdout) > 10
