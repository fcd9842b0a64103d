"""What pytest needs to know before it collects anything."""

from __future__ import annotations

import importlib.util
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.doctest import DoctestItem

_TORCH = importlib.util.find_spec("torch") is not None

# A shell that runs the tests in the background lets them ignore Ctrl-C, and their children too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The built site holds the tutorials' scripts, which would run. Where PyTorch is not installed, the
# training half cannot even be imported for its examples.
collect_ignore_glob = ["src/opsin/site/*"] + (
    []
    if _TORCH
    else [
        "src/opsin/models/*",
        "src/opsin/training/*",
        "src/opsin/commands/train/fine_tune.py",
        "src/opsin/commands/train/network.py",
        "tests/commands/train/test_automatic.py",
        "tests/models/*",
        "tests/training/*",
    ]
)
if importlib.util.find_spec("selenium") is None:
    collect_ignore_glob += ["tests/browser.py", "tests/settled.py", "tests/studio_browser.py"]

_TRAINING_HALF = ("models", "training")

# An example that trains, whatever it is an example of.
_TRAINS = re.compile(r">>> .*\b(train|plan|train_folds|train_repeats|bench)\((?!.*logistic)")


def _is_training_example(item: pytest.Item) -> bool:
    return isinstance(item, DoctestItem) and bool(_TRAINS.search(item.dtest.docstring or ""))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs PyTorch, so that `-m "not torch"` leaves it out; put the longest files first.

    A story that began when all else was done would run alone.
    """
    items.sort(key=lambda item: "/tests/flows/" not in Path(item.path).as_posix())
    for item in items:
        path = Path(item.path).as_posix()
        half = [f"/{top}/{part}/" for top in ("tests", "opsin") for part in _TRAINING_HALF]
        if _is_training_example(item) or any(part in path for part in half):
            item.add_marker("torch")
        if not _TORCH and item.get_closest_marker("torch"):
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed"))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Keep the tests' decoded images, and their state, away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OPSIN_STATE", str(tmp_path_factory.mktemp("state")))
        patch.delenv("OPSIN_RUNS", raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_bytecode() -> Iterator[None]:
    """Write none while tests run: a process whose files are limited in size would cut it off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        yield


@pytest.fixture(autouse=True)
def _undrawn_examples(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let examples train without figures and page, which take most of the time; none shows them."""
    if not isinstance(request.node, DoctestItem):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("opsin.commands.report.draw_run", lambda *_: None)
        yield
