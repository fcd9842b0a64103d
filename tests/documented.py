"""The commands that pages show, run in a folder with small data."""

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.conftest import without_drawing
from tests.warm import Warm

_FENCED = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def fenced(text: str) -> Iterator[tuple[str, str]]:
    yield from _FENCED.findall(text)


@contextlib.contextmanager
def block_of(page: Path, block: str) -> Iterator[None]:
    """Say of which page a block is, where it fails."""
    try:
        yield
    except BaseException as error:
        before, _, _ = page.read_text(encoding="utf-8").partition(block)
        error.add_note(f"{page}:{before.count(chr(10)) + 1}: this block fails:\n{block}")
        raise


def commands_in(shell: str) -> list[list[str]]:
    lines = [line.split("  #")[0].strip() for line in shell.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("opsin ")]


def run_command(words: Sequence[str], *, cwd: Path, warm: Warm) -> None:
    """Run a command on the runs that are meant, and see that it succeeds.

    A server is started, and ended.
    """
    words = [latest_run(word, cwd) for word in words]
    if words[0] in {"serve", "studio"}:
        command = [sys.executable, "-m", "opsin", *words, "--port", "0", "--json"]
        command += ["--home", "home"] if words[0] == "studio" else []
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=cwd) as server:
            assert server.stdout is not None
            assert b"http://" in server.stdout.readline(), words
            server.terminate()
        assert server.returncode == 0, words
        return
    # What a training draws, `opsin report` does here.
    with without_drawing() if words[0] == "train" else contextlib.nullcontext():
        done = warm.run(words, cwd=cwd)
    assert done.returncode == 0, f"{words}\n{done.stderr}"


def latest_run(word: str, folder: Path) -> str:
    """Return the latest run that a word means, whatever day it is; other words as they are."""
    named = re.fullmatch(r"((?:\w+=)?)runs/\d{4}-\d\d-\d\d-(.+)", word)
    if named is None or (folder / word).exists():
        return word
    found = sorted(folder.glob(f"runs/*-{named[2]}"), key=lambda run: run.stat().st_mtime)
    return f"{named[1]}{found[-1].relative_to(folder)}" if found else word
