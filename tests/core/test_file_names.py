"""A name that is taken gets a number, found quickly and never too long."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from opsin.core.files import NamesInUse, free_name, legal_name


def test_a_name_is_found_among_many_quickly() -> None:
    looks = 0

    def used(name: str) -> bool:
        nonlocal looks
        looks += 1
        number = name.removesuffix(".png").rpartition("-")[2]
        return not number.isdigit() or int(number) < 1_000_000

    assert free_name("image.png", used) == "image-1000000.png"
    assert looks < 50


def test_a_long_name_stays_one_that_systems_take(tmp_path: Path) -> None:
    long = "ü" * 120 + ".png"
    (tmp_path / long).touch()
    numbered = free_name(long, lambda name: (tmp_path / name).exists())
    (tmp_path / numbered).touch()
    assert numbered.endswith("-2.png")


@given(
    st.lists(st.sampled_from(["a", "a.png", "a-2.png", "b/a.png", "b.c/a", ".png", "a-2-2.png"]))
)
def test_names_taken_one_after_another_are_never_alike(wishes: list[str]) -> None:
    taken: set[str] = set()
    for wish in wishes:
        name = free_name(wish, taken.__contains__)
        assert name not in taken
        assert name == wish or wish in taken
        assert name.rpartition("/")[0] == wish.rpartition("/")[0]
        taken.add(name)


@given(st.text(max_size=300))
def test_a_legal_name_is_legal_everywhere(name: str) -> None:
    legal = legal_name(name)
    assert legal
    assert legal.isprintable()
    assert not set(legal) & set('<>:"/\\|?*%')
    assert legal == legal.strip(" .")
    assert len(legal.encode()) <= 255
    assert legal.partition(".")[0].strip().casefold() not in {"con", "nul", "aux", "prn", "com1"}
    assert legal_name(legal) == legal


@given(st.lists(st.sampled_from(["a", "A", "a-2", "a.b", "A.b", "a-2.b", "ä", "a\u0308"])))
def test_no_two_names_are_alike(names: list[str]) -> None:
    used = NamesInUse()
    given = [used.take(name) for name in names]
    assert len({name.casefold() for name in given}) == len(names)
    assert given[:1] == names[:1]
