"""What a browser says of a file is believed only where it is what ours say."""

from unittest.mock import Mock

import pytest
from hypothesis import given, strategies as st

from opsin.core.errors import SourceError
from opsin.studio.ui import intake
from opsin.studio.ui.intake import Intake, _sent

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
files = st.fixed_dictionaries(
    {
        "key": st.from_regex(r"\A[0-9a-f]{16}\Z") | anything,
        "name": st.text(max_size=5_000) | anything,
        "path": st.text(max_size=5_000) | anything,
        "size": st.integers() | anything,
        "onload": anything,
    }
)


@given(anything | files)
def test_it_is_plain_or_nothing(told: object) -> None:
    sent = _sent(told)
    if sent is None:
        return
    assert sorted(sent) == ["key", "name", "path", "size"]
    assert len(sent["key"]) == 16 and int(sent["key"], 16) >= 0
    assert len(sent["name"]) <= 1_000 and len(sent["path"]) <= 4_000
    assert isinstance(sent["size"], int) and not isinstance(sent["size"], bool)
    assert sent["size"] >= 0


def test_names_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_NAMES_MOST", 10 * intake._NAME_LEAST)
    place = Intake.__new__(Intake)
    place._arrived, place._names = {}, 0
    told = [{"key": f"{at:016x}", "name": "1.png", "path": "", "size": 1} for at in range(11)]
    place._take(Mock(args=told[:10] * 2))  # the same ones again are no more
    with pytest.raises(SourceError, match="too many files"):
        place._take(Mock(args=told[10:]))
    place._forget()
    place._take(Mock(args=told[10:]))
    assert list(place._arrived) == [told[10]["key"]]
