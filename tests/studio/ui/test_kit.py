"""Errors as pages say them."""

from opsin.core.errors import MovedError, StorageError
from opsin.studio.ui.kit import explained


def test_an_error_names_no_path_and_no_command() -> None:
    full = "The disk is full, or cannot be written. Free some space, then try again."
    assert explained(StorageError("Cannot write /home/ann/x: no space", "Run again.")) == full
    found = "a.zip cannot be unpacked: it is damaged."
    assert explained(f"{found} To see why: opsin data a.zip. Or use --size 32.") == found
    assert "/home" not in explained(MovedError("/home/ann/run", ["/home/ann/photos"]))
