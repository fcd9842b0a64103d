"""Downloads: begun again after any end, and once by two processes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from opsin.core.errors import DownloadError
from opsin.core.events import SILENT
from opsin.data.sources import named
from opsin.data.sources.named import Published, locate_files
from tests.data.sources.conftest import Notes, Server

CONTENT = bytes(range(256)) * 4096
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


def content_of(published: Published) -> bytes:
    return (locate_files("tiny", published, SILENT) / "set.bin").read_bytes()


@pytest.mark.parametrize(
    ("manner", "words"),
    [("half", "ended after"), ("absent", "Not Found"), ("endless", "sends more")],
)
def test_a_download_that_breaks_off_leaves_nothing_and_begins_again(
    web: Server, published: Published, cache: Path, manner: str, words: str
) -> None:
    web.manner = manner
    with pytest.raises(DownloadError, match=words):
        locate_files("tiny", published, SILENT)
    assert [file.name for file in (cache / "sources").iterdir() if file.is_dir()] == []
    web.manner = "good"
    watcher = Notes()
    folder = locate_files("tiny", published, watcher)
    assert (folder / "set.bin").read_bytes() == CONTENT
    assert watcher.begun == [("Download", len(CONTENT), "B")]
    assert watcher.done[-1] == len(CONTENT)


def test_another_content_is_refused(web: Server, published: Published) -> None:
    web.files = {"set.bin": CONTENT[::-1]}
    with pytest.raises(DownloadError, match="not what was published"):
        locate_files("tiny", published, SILENT)


def start(published: Published) -> subprocess.Popen[str]:
    """Fetch in a process of its own."""
    (digest,) = published.files.values()
    words = [sys.executable, "-W", "error", "-c", SCRIPT, digest, published.url]
    return subprocess.Popen([*words, str(published.size)], stdout=subprocess.PIPE, text=True)


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
