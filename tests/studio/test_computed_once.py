"""A value is computed once for all who wait, and an error is nobody's for long."""

import asyncio
from functools import partial

import pytest

from opsin.studio.threads import ComputedOnce

pytestmark = pytest.mark.anyio


async def value(text: str, begun: list[str], end: asyncio.Event | None = None) -> str:
    begun.append(text)
    if end:
        await end.wait()
    if text == "wrong":
        raise ValueError(text)
    return text


async def test_all_who_ask_meanwhile_wait_for_one_computation() -> None:
    values, begun, end = ComputedOnce[str, str](most=2), list[str](), asyncio.Event()
    asked = [asyncio.create_task(values.get("a", partial(value, "a", begun, end))) for _ in "12345"]
    await asyncio.sleep(0)
    given_up = asked.pop()
    given_up.cancel()  # and the work goes on
    end.set()
    assert await asyncio.gather(*asked) == ["a"] * 4
    assert given_up.cancelled()
    assert await values.get("a", partial(value, "b", begun)) == "a"
    assert begun == ["a"]


async def test_an_error_is_raised_for_all_who_wait_and_not_kept() -> None:
    values, begun = ComputedOnce[str, str](most=2), list[str]()
    wrong = [values.get("a", partial(value, "wrong", begun)) for _ in "12"]
    found = await asyncio.gather(*wrong, return_exceptions=True)
    assert [str(error) for error in found] == ["wrong"] * 2
    assert (begun, values.kept("a")) == (["wrong"], None)
    assert await values.get("a", partial(value, "right", begun)) == "right"


async def test_results_are_limited_by_their_size() -> None:
    values, lengths = ComputedOnce[str, str](5, len), {"a": 2, "b": 2, "c": 2, "d": 6}
    for key, length in lengths.items():
        assert await values.get(key, partial(value, key * length, [])) == key * length
        kept = [key for key in lengths if values.kept(key)]
        assert kept == {"a": ["a"], "b": ["a", "b"], "c": ["b", "c"], "d": []}[key]


async def test_what_is_forgotten_or_cancelled_while_it_is_computed_is_computed_anew() -> None:
    values, begun, end = ComputedOnce[str, str](2), list[str](), asyncio.Event()
    waiting = asyncio.create_task(values.get("a", partial(value, "before", begun, end)))
    await asyncio.sleep(0)
    values.forget("a")
    assert await values.get("a", partial(value, "now", begun)) == "now"
    end.set()
    assert (await waiting, values.kept("a")) == ("before", "now")
    waiting = asyncio.create_task(values.get("b", partial(value, "b", begun, asyncio.Event())))
    await asyncio.sleep(0)
    await values.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (values.kept("a"), values.kept("b")) == ("now", None)
