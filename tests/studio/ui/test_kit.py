"""Errors as pages say them, and what their colours say."""

from nicegui import Client, ui

from opsin.core.errors import MovedError, StorageError
from opsin.studio.ui.charts import map_chart
from opsin.studio.ui.kit import explained


def test_an_error_names_no_path_and_no_command() -> None:
    full = "The disk is full, or cannot be written. Free some space, then try again."
    assert explained(StorageError("Cannot write /home/ann/x: no space", "Run again.")) == full
    found = "a.zip cannot be unpacked: it is damaged."
    assert explained(f"{found} To see why: opsin data a.zip. Or use --size 32.") == found
    assert "/home" not in explained(MovedError("/home/ann/run", ["/home/ann/photos"]))


def test_on_the_map_only_photographs_without_a_class_are_grey() -> None:
    with Client(ui.page("")):
        drawn = map_chart([(0, 0, "b"), (1, 1, ""), (2, 2, "a")], print)
    found = {one["name"]: one["itemStyle"] for one in drawn.options["series"]}
    assert found == {"Not sorted yet": {"color": "var(--muted)"}, "a": {}, "b": {}}
