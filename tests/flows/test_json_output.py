"""``--json``: standard output is one document or none, however the command ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import opsin
from tests.conftest import Cli, only_json, write_digits

OPSIN = [sys.executable, "-W", "error", "-m", "opsin"]
unix = pytest.mark.skipif(sys.platform == "win32", reason="sends signals, closes descriptors")


def one_document(content: str | bytes) -> dict[str, Any]:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    document = json.loads(content, parse_constant=refuse)
    assert isinstance(document, dict)
    return document


@unix
def test_ctrl_c_between_two_answers_ends_the_object(
    tmp_path: Path, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    image = tmp_path / "3.png"
    Image.fromarray(digits.images[3, :, :, 0]).save(image)
    (tmp_path / "many.csv").write_text("path\n" + 500_000 * "3.png\n")
    with subprocess.Popen(
        [*OPSIN, "predict", nearest_mean, tmp_path / "many.csv", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)  # an answer is there, and many are to come
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=60)
    document = one_document(first + rest)
    assert {each["image"] for each in document["predictions"]} == {"3.png"}
    assert len(document["predictions"]) < 500_000
    assert document["errors"] == ["The work was stopped before its end."]
    assert process.returncode == 130
    assert told.decode().strip().splitlines()[-1].startswith("opsin: ")
    assert b"Traceback" not in told


@pytest.mark.skipif(sys.platform != "linux", reason="makes a pipe small")
def test_ctrl_c_waits_until_a_slow_reader_has_the_document(nearest_mean: Path) -> None:
    import fcntl

    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen(
        [*OPSIN, "evaluate", nearest_mean, "digits", "--json"],
        stdout=writing,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(writing)
        with open(reading, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor
            first = file.read(1)
            process.send_signal(signal.SIGINT)
            rest = b"".join(iter(lambda: file.read(1000), b""))
    assert len(rest) > 2 * 4096
    assert one_document(first + rest)["images"] == 1797
    assert process.returncode == 130


@unix
@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_reader_that_goes_away_is_no_bug(nearest_mean: Path, tmp_path: Path, verb: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    source = {"evaluate": "digits", "predict": str(tmp_path / "a.png")}[verb]
    done = subprocess.run(
        [*OPSIN, verb, nearest_mean, source, "--json"],
        check=False,
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr


@unix
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_end_in_no_traceback(tmp_path: Path, closed: str) -> None:
    words = ["/bin/sh", "-c", f'exec "$0" "$@" {closed}', *OPSIN, "runs", "--json"]
    done = subprocess.run(words, check=True, capture_output=True, cwd=tmp_path)
    assert done.stderr == b""
    assert done.stdout == (b"" if ">&- " in closed or closed == ">&-" else b'{"runs": []}\n')


def test_a_torn_archive_leaves_one_whole_object(
    cli: Cli, tmp_path: Path, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    source = write_digits(tmp_path / "source", digits, range(9))
    with tarfile.open(tmp_path / "torn.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(source.rglob("*.png")):
            archive.add(path, path.name)
    content = (tmp_path / "torn.tar").read_bytes()
    (tmp_path / "torn.tar").write_bytes(content[: 5 * 1024 - 500])
    done = cli("predict", nearest_mean, "torn.tar", "--json")
    only_json(done)
    assert done.returncode == 1 and "cut short" in done.stdout
    (tmp_path / "torn.tar").write_bytes(content[:100])
    refused = only_json(cli("predict", nearest_mean, "torn.tar", "--json"))
    assert "cut short" in refused["error"]["message"]
