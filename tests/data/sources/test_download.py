"""Downloads: resumed after any end, started again where the file is another one by now."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from opsin.core.errors import DownloadError
from opsin.core.events import SILENT
from opsin.data.sources import named
from opsin.data.sources.named import Published, locate_files
from tests.data.sources.conftest import Notes, Server

CONTENT = bytes(range(256)) * 4096
HALF = len(CONTENT) // 2
SCRIPT = """
import sys
from opsin.data.sources.named import Published, locate_files
from opsin.core.events import SILENT
files, url, size = {"set.bin": sys.argv[1]}, sys.argv[2], int(sys.argv[3])
print(locate_files("tiny", Published(files, url, size, mirrored=True, packed=True), SILENT))
"""


@pytest.fixture
def published(web: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    monkeypatch.setattr(named, "TIMEOUT", 5)
    web.files = {"set.bin": CONTENT}
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Published({"set.bin": digest}, web.url, len(CONTENT), mirrored=True, packed=True)


def break_off(web: Server, published: Published) -> None:
    """Fetch half of the file."""
    web.manner = "half"
    with pytest.raises(DownloadError, match=f"ended after {HALF:,}"):
        locate_files("tiny", published, SILENT)
    web.manner = "good"


def content_of(published: Published) -> bytes:
    return (locate_files("tiny", published, SILENT) / "set.bin").read_bytes()


def test_an_interrupted_download_goes_on_where_it_stopped(
    web: Server, published: Published
) -> None:
    break_off(web, published)
    watcher = Notes()
    folder = locate_files("tiny", published, watcher)
    assert (folder / "set.bin").read_bytes() == CONTENT
    assert web.ranges == [None, f"bytes={HALF}-"]
    # Progress counts what was there.
    assert watcher.begun == [("Download", len(CONTENT), "B")]
    assert watcher.done[0] == HALF
    assert watcher.done[-1] == len(CONTENT)


def test_it_starts_again_where_it_cannot_go_on(web: Server, published: Published) -> None:
    break_off(web, published)
    web.manner = "no ranges"
    assert content_of(published) == CONTENT
    assert web.ranges[1] == f"bytes={HALF}-"


def test_too_much_is_thrown_away(web: Server, published: Published, cache: Path) -> None:
    break_off(web, published)
    (cache / "sources" / "tiny.parts" / "set.bin.part").write_bytes(CONTENT + b"x")
    with pytest.raises(DownloadError):
        locate_files("tiny", published, SILENT)
    assert content_of(published) == CONTENT


def test_a_wrong_checksum_deletes_the_part(web: Server, published: Published, cache: Path) -> None:
    """Half of one file and half of another, under the same mark, are found out."""
    break_off(web, published)
    web.files = {"set.bin": CONTENT[::-1]}
    with pytest.raises(DownloadError, match="came otherwise"):
        locate_files("tiny", published, SILENT)
    assert list((cache / "sources" / "tiny.parts").iterdir()) == []
    web.files = {"set.bin": CONTENT}
    assert content_of(published) == CONTENT


def test_a_finished_file_is_not_fetched_again_for_the_sake_of_another(
    web: Server, published: Published
) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    both = replace(published, files={**published.files, "other.bin": other})
    with pytest.raises(DownloadError, match="Not Found"):
        locate_files("tiny", both, SILENT)
    web.files["other.bin"] = b"other"
    locate_files("tiny", both, SILENT)
    assert web.asked == ["set.bin", "other.bin", "other.bin"]


def start(published: Published) -> subprocess.Popen[str]:
    """Fetch in a process of its own."""
    (digest,) = published.files.values()
    words = [sys.executable, "-W", "error", "-c", SCRIPT, digest, published.url]
    return subprocess.Popen([*words, str(published.size)], stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_process_is_continued_by_the_next(
    web: Server, published: Published, cache: Path
) -> None:
    web.manner = "hold"
    process = start(published)
    assert web.halfway.wait(60)
    part = cache / "sources" / "tiny.parts" / "set.bin.part"
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = part.stat().st_size
    assert 0 < there <= HALF
    web.manner = "good"
    assert content_of(published) == CONTENT
    assert web.ranges[-1] == f"bytes={there}-"


def test_two_processes_at_once_fetch_once(web: Server, published: Published) -> None:
    web.manner = "hold"
    first = start(published)
    assert web.halfway.wait(60)
    second = start(published)
    # Whatever the second does, the first is in the middle of its file.
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1.5)
    web.release.set()
    folders = {process.communicate(timeout=60)[0] for process in (first, second)}
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(folders) == 1
    assert content_of(published) == CONTENT
    assert web.asked == ["set.bin"]
