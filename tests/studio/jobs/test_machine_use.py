"""What the machine says of itself, and what it says where it says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from opsin.studio.jobs import machine_use
from opsin.studio.jobs.machine_use import Gpus


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_this_process_uses_memory_and_time() -> None:
    before = machine_use.of_process(os.getpid())
    assert before is not None
    assert before.memory > 1_000_000
    sum(range(3_000_000))
    after = machine_use.of_process(os.getpid())
    assert after is not None
    assert after.seconds >= before.seconds
    assert after.cores_since(before) >= 0
    assert before.cores_since(before) == 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_a_name_full_of_brackets_is_read_past(tmp_path: Path) -> None:
    program = tmp_path / "a) 1 (b 2 3"
    program.symlink_to(sys.executable)
    code = "import sys; print(flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [program, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    use = machine_use.of_process(child.pid)
    child.communicate()
    assert use is not None
    assert 1_000_000 < use.memory < 1_000_000_000
    assert machine_use.of_process(child.pid) is None


def test_the_disk_of_a_folder_that_is_yet_to_be_made(tmp_path: Path) -> None:
    there, later = machine_use.disk(tmp_path), machine_use.disk(tmp_path / "a" / "b")
    assert there.total == later.total > 0
    assert 0 <= there.free <= there.total


def test_the_machines_own_figures() -> None:
    memory = machine_use.memory()
    assert memory is None or 0 < memory.free <= memory.total


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("NVIDIA X, [N/A], 10, 20\n", [machine_use.Gpu("NVIDIA X", None, 10 << 20, 20 << 20)]),
        ("A, B, 50, 1, 2\nbroken\n,,,\n", [machine_use.Gpu("A, B", 0.5, 1 << 20, 2 << 20)]),
    ],
)
def test_graphics_processors_are_read(text: str, expected: list[machine_use.Gpu]) -> None:
    assert machine_use.read_gpus(text) == expected


@pytest.mark.parametrize("script", ["sleep 30", "echo broken; exit 3", "echo A, 5, 1, 2"])
def test_a_tool_that_is_slow_or_broken_is_no_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Gpus().now() == []
    write_tool(tmp_path, script)
    assert [each.name for each in Gpus().now()] == (["A"] if "A," in script else [])


@pytest.mark.parametrize(
    ("script", "asked"), [("echo A, 5, 1, 2", 2), ("exit 3", 1), ("echo No devices", 1)]
)
def test_the_tool_is_asked_once_for_all_windows_and_not_where_there_is_no_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, asked: int
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_tool(tmp_path, f"echo x >> {tmp_path}/asked; {script}")
    gpus = Gpus()
    for now in (100.0, 102.0):
        clock = SimpleNamespace(monotonic=lambda now=now: now)
        monkeypatch.setattr(machine_use, "time", clock)
        with ThreadPoolExecutor(8) as windows:
            found = list(windows.map(lambda _: gpus.now(), range(18)))
        assert all(each == found[0] for each in found)
    assert (tmp_path / "asked").read_text().count("x") == asked


def write_tool(folder: Path, script: str) -> None:
    """Write a tool that is called as NVIDIA's."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    tool.chmod(0o755)
