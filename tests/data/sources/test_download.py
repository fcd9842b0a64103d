"""A download by two processes at once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from opsin.core.events import SILENT
from opsin.data.sources import named
from opsin.data.sources.named import Published, locate_files
from tests.data.sources.conftest import Server

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
