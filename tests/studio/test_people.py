"""Invitations: used once, hashed, expiring, revoked."""

import json
import time
from contextvars import copy_context
from pathlib import Path

import pytest

from opsin.core.errors import RecipeError
from opsin.studio.errors import TooMany
from opsin.studio.people import NotAllowed, People, record, require, visitor


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People(tmp_path)


def test_an_invitation_opens_once_and_is_kept_as_a_hash(people: People, tmp_path: Path) -> None:
    code = people.invite("Ada  Lovelace", "labeller")
    cookie = people.redeem(code)
    assert cookie
    assert people.redeem(code) is None
    stored = (tmp_path / "people.json").read_text("utf-8")
    assert code not in stored
    assert cookie.partition(".")[2] not in stored
    for known in (people, People(tmp_path)):  # after a restart, too
        person = known.of_cookie(cookie)
        assert person
        assert (person.name, person.role) == ("Ada Lovelace", "labeller")
        assert known.of_cookie(f"{person.id}.{'x' * 43}") is None
    assert people.of_cookie("") is None


def test_access_ends_in_time_or_if_revoked(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (people.redeem(people.invite(name, "viewer", 2)) for name in ("Ada", "Bob"))
    unused = people.invite("Carl", "viewer", 365)
    assert first
    assert second
    person = people.of_cookie(first)
    assert person
    people.revoke(person.id)
    assert people.of_cookie(first) is None
    assert people.of_cookie(second)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3 * 86_400)
    assert people.of_cookie(second) is None
    monkeypatch.setattr(time, "time", lambda: now + 8 * 86_400)
    assert people.redeem(unused) is None  # access for a year, but the link for a week
    assert people.all() == []


def test_wrong_links_make_everybody_wait(people: People) -> None:
    code = people.invite("Ada", "viewer")
    for number in range(20):
        assert people.redeem(f"wrong {number}") is None
    with pytest.raises(TooMany):
        people.redeem(code)


@pytest.mark.parametrize(("name", "days"), [("", 1), (" ", 1), ("Ada", 0), ("Ada", 1e9)])
def test_an_invitation_has_a_name_and_an_end(people: People, name: str, days: float) -> None:
    with pytest.raises(RecipeError):
        people.invite(name, "viewer", days)


def test_a_role_allows_its_changes_and_they_are_noted(people: People, tmp_path: Path) -> None:
    require("owner")  # whoever runs the studio

    def invite_and_add() -> None:
        visitor.set(people.owner)
        person = people.of_cookie(people.redeem(people.invite("Ada", "labeller")) or "")
        assert person
        visitor.set(person)
        require("viewer")
        require("labeller")
        record("added 3 photographs")
        with pytest.raises(NotAllowed):
            require("owner")

    copy_context().run(invite_and_add)
    with (tmp_path / "changes.jsonl").open("a") as file:
        file.write("{damaged\n")
    changes = [(change.name, change.change) for change in people.changes()]
    assert changes == [("Ada", "added 3 photographs"), ("Owner", "invited Ada as labeller")]


@pytest.mark.parametrize("content", ["", "[", "{}", json.dumps([{"id": 1}]), "[" * 100_000])
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, content: str) -> None:
    (tmp_path / "people.json").write_text(content, "utf-8")
    assert People(tmp_path).all() == []
