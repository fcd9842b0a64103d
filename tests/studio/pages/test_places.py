"""What is offered by name is what can be read by name."""

from __future__ import annotations

import pytest

pytest.importorskip("nicegui")
from opsin.data.sources import named
from opsin.studio.pages.places import NAMED


def test_there_is_a_word_about_each_named_source() -> None:
    assert set(NAMED) == set(named.NAMES)
