"""A machine is described as far as it can be known."""

from __future__ import annotations

import json
import os
import platform

import onnxruntime
import pytest

import opsin
from opsin.commands.machine import Machine, this_machine


def test_this_machine_is_described() -> None:
    machine = this_machine()
    assert machine.cpu == machine.cpu.strip() != ""
    assert 1 <= machine.threads <= (os.cpu_count() or 1)
    assert machine.memory is None or machine.memory > 1e8
    assert machine.versions["opsin"] == opsin.__version__
    assert "torch" not in machine.versions
    for part in (machine.cpu, platform.python_version(), onnxruntime.__version__):
        assert part in machine.line()
    assert "GPU" not in machine.line()  # PyTorch was not asked
    assert json.loads(json.dumps(machine.to_json()))["threads"] == machine.threads


def test_a_gpu_is_named_and_its_absence_too() -> None:
    assert "GPU, H200 · " in this_machine(gpu="GPU, H200", torch="2").line()
    assert "no GPU · " in this_machine(torch="2").line()
    assert "PyTorch 2 · " in this_machine(torch="2").line()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux can be told this")
def test_threads_that_the_process_may_not_use_do_not_count() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert this_machine().threads == 1
        assert "1 thread ·" in this_machine().line()
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("load", "busy"), [(None, False), (0.9, False), (1.1, True)])
def test_more_than_half_of_the_threads_in_use_is_busy(load: float | None, busy: bool) -> None:
    assert Machine("Xeon", 2, None, load, None, {}).busy() is busy
