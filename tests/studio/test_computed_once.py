"""A value is computed once for all who wait, and an error is nobody's for long."""

from __future__ import annotations

import asyncio
from functools import partial

from opsin.studio.threads import ComputedOnce


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.let = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.let.wait()
        if number == 2:
            raise ValueError(number)
        return number


def test_all_who_ask_meanwhile_wait_for_one_computation() -> None:
    async def scene() -> None:
        values, work = ComputedOnce[str, int](most=2), Work()
        asked = [asyncio.create_task(values.get("a", work)) for _ in range(5)]
        await asyncio.sleep(0)
        given_up = asked.pop()
        given_up.cancel()  # and the work goes on
        work.let.set()
        assert await asyncio.gather(*asked) == [1, 1, 1, 1]
        assert given_up.cancelled()
        assert await values.get("a", work) == 1
        assert work.begun == 1

    asyncio.run(scene())


def test_an_error_is_raised_for_all_who_wait_and_not_kept() -> None:
    async def scene() -> None:
        values, work = ComputedOnce[str, int](most=2), Work()
        work.let.set()
        await values.get("a", work)
        found = await asyncio.gather(
            values.get("b", work), values.get("b", work), return_exceptions=True
        )
        assert [str(error) for error in found] == ["2", "2"]
        assert values.kept("b") is None
        assert await values.get("b", work) == 3

    asyncio.run(scene())


async def value(text: str) -> str:
    return text


def test_results_are_limited_by_their_size() -> None:
    async def scene() -> None:
        values, lengths = ComputedOnce[str, str](5, len), {"a": 2, "b": 2, "c": 2, "d": 6}
        for key, length in lengths.items():
            assert await values.get(key, partial(value, key * length)) == key * length
            kept = [key for key in lengths if values.kept(key)]
            assert kept == {"a": ["a"], "b": ["a", "b"], "c": ["b", "c"], "d": []}[key]

    asyncio.run(scene())


def test_what_is_forgotten_while_it_is_computed_is_computed_anew() -> None:
    async def scene() -> None:
        values, begun, end = ComputedOnce[str, str](2), asyncio.Event(), asyncio.Event()

        async def slow() -> str:
            begun.set()
            await end.wait()
            return "before"

        waiting = asyncio.create_task(values.get("a", slow))
        await begun.wait()
        values.forget("a")
        assert await values.get("a", lambda: value("now")) == "now"
        end.set()
        assert (await waiting, values.kept("a")) == ("before", "now")

    asyncio.run(scene())
