"""Writes are whole or not there, whatever happens in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opsin.core.errors import StorageError
from opsin.core.storage import (
    atomic_file,
    check_writable,
    publish_directory,
    scratch_directory,
    write_bytes,
)
from tests.processes import python


def test_an_error_in_the_middle_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    write_bytes(file, b"old")

    def fail() -> None:
        with atomic_file(file) as temporary:
            temporary.write_bytes(b"half of the n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_kill_in_the_middle_of_many_writes_leaves_a_atomic_file(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    code = (
        "import sys; from pathlib import Path; from opsin.core.storage import write_json\n"
        "n = 0\n"
        "while True: n += 1; write_json(Path(sys.argv[1]), {'n': n, 'pad': str(n) * 50_000})"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(file)]) as writer:
        while not file.exists():
            time.sleep(0.01)
        for _ in range(400):  # whoever reads meanwhile finds a whole file, too
            json.loads(file.read_text())
        os.kill(writer.pid, signal.SIGKILL)
    content = json.loads(file.read_text())
    assert content["pad"] == str(content["n"]) * 50_000


@pytest.mark.skipif(os.name == "nt", reason="needs /dev/null")
def test_a_refused_write_is_one_line_that_says_what_to_do() -> None:
    with pytest.raises(StorageError, match=r"Cannot write .*/dev/null/nothing.*Check its rights"):
        write_bytes(Path("/dev/null/nothing"), b"x")


def test_a_place_is_tried_before_the_work_and_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "folder" / "file")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    for refused in (tmp_path / "file" / "x", tmp_path / "file" / "new" / "x"):
        with pytest.raises(StorageError, match="not a directory"):
            check_writable(refused)
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_scratch_is_gone_after_use_and_published_whole(tmp_path: Path) -> None:
    with scratch_directory(tmp_path) as folder:
        (folder / "a.npy").write_bytes(b"a")
        publish_directory(folder, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (tmp_path / "set" / "a.npy").read_bytes() == b"a"


def test_files_of_a_killed_process_are_swept_away_a_day_later(tmp_path: Path) -> None:
    """A process that is killed while it writes leaves its file; only such files ever go."""
    code = (
        "import os, sys, signal; from pathlib import Path\n"
        "from opsin.core.storage import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    target = tmp_path / "labels.csv"
    for _ in range(2):
        python("-c", code, target, check=False)
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2
    mine = [tmp_path / name for name in (".labels.csv.swp", ".labels.csv.20240101", ".unfinished")]
    for place in mine:
        place.write_text("mine")
    for place in (*mine, left[0]):
        os.utime(place, (time.time() - 1.1 * 86_400,) * 2)
    write_bytes(target, b"x")
    assert sorted(tmp_path.iterdir()) == sorted([left[1], target, *mine])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_rights_are_those_of_the_umask_and_nobody_touches_that(tmp_path: Path, mask: int) -> None:
    """Setting the umask, if only to read it, would give other threads' files other rights."""
    code = (
        "import os, sys; from pathlib import Path; from opsin.core import storage\n"
        "os.umask(int(sys.argv[2]))\n"
        "def refuse(mask): raise AssertionError('the umask is set')\n"
        "os.umask = refuse\n"
        "folder = Path(sys.argv[1])\n"
        "storage.write_bytes(folder / 'file', b'x')\n"
        "with storage.scratch_directory(folder) as scratch:\n"
        "    storage.publish_directory(scratch, folder / 'set')"
    )
    python("-c", code, tmp_path, mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "set").stat().st_mode & 0o777 == 0o777 & ~mask
