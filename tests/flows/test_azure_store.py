"""Images and answers on Azure's store, as Microsoft's emulator of it has them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Final

import pytest

from opsin.core.errors import StorageError
from opsin.stores.bucket import StoreAddress, open_bucket
from tests.conftest import Cli, only_json

ROOT: Final = Path(__file__).parents[2]
AZURITE: Final = ROOT / ".venv-node/node_modules/azurite/dist/src/blob/main.js"
# What the emulator is published with.
ACCOUNT: Final = "devstoreaccount1"
KEY: Final = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
VERSION: Final = "2021-08-06"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AZURITE.exists(), reason="no Azurite; `make azurite` installs it"),
]


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = shutil.which("node")
    assert node is not None
    flags = ("--inMemoryPersistence", "--silent", "--skipApiVersionCheck")
    words = [node, str(AZURITE), f"--blobPort={port}", *flags]
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{port}/{ACCOUNT}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            while not listens(port):
                assert process.poll() is None
                time.sleep(0.1)
            create(port, "photos")
            yield "az://photos"
        finally:
            process.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def create(port: int, name: str) -> None:
    """Create a container, which no library of ours can."""
    date = formatdate(usegmt=True)
    headers = {"x-ms-date": date, "x-ms-version": VERSION}
    said = "".join(f"{name}:{text}\n" for name, text in headers.items())
    signed = f"PUT{12 * chr(10)}{said}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    there = http.client.HTTPConnection("127.0.0.1", port)
    there.request("PUT", f"/{ACCOUNT}/{name}?restype=container", b"", headers)
    assert there.getresponse().status == 201
    there.close()


def test_answers_are_those_of_a_folder(
    cli: Cli, nearest_mean: Path, shapes: Path, container: str
) -> None:
    bucket = open_bucket(StoreAddress.read(container))
    images = sorted(shapes.rglob("*.png"))
    for image in images:
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        bucket.write(f"in é&%41/{image.relative_to(shapes).as_posix()}", image, None, digest)
    words = ("predict", nearest_mean, f"{container}/in é&%41", "--out", f"{container}/a.csv")
    only_json(cli(*words, "--json"))
    cli("predict", nearest_mean, shapes, "--out", "plain.csv")
    plain = (shapes.parent / "plain.csv").read_bytes()
    made = bucket.find("a.csv")
    assert made is not None
    assert bucket.content(made) == plain
    assert made in bucket.objects()
    other = shapes.parent / "other"
    other.write_bytes(b"other")
    bucket.write("a.csv", other, made, hashlib.sha256(b"other").hexdigest())
    with pytest.raises(StorageError, match="Another object was written to az://photos/a"):
        bucket.write("a.csv", shapes.parent / "plain.csv", made, hashlib.sha256(plain).hexdigest())
    assert bucket.content(made) == b"other"
    assert f"{container}/a.csv is there already" in cli(*words).stderr
    said = cli("predict", nearest_mean, "az://none/x").stderr
    assert "There is no bucket none" in said
    assert KEY not in said
