"""What is removed and restored on the first page is told to all pages."""

import asyncio
import contextlib
from types import SimpleNamespace as Namespace
from typing import Any

import pytest

from opsin.studio.context import Studio
from opsin.studio.pages.home import _Home


def test_pages_of_classifiers_hear_that_a_project_went_and_came(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, offered = list[str](), list[Any]()
    monkeypatch.setattr(studio, "changed", Namespace(emit=told.append))
    made = studio.sets.new_empty(["disc", "square"])
    page: Any = object.__new__(_Home)
    page._studio, page._status = studio, Namespace(errors=contextlib.nullcontext)
    page._frame = Namespace(undo=Namespace(offer=lambda _, undo: offered.append(undo)))
    asyncio.run(page._remove(studio.projects.get(made.id)))
    assert (sorted(told), studio.projects.all()) == (["runs", "sets"], [])
    asyncio.run(offered[0]())
    assert sorted(told) == ["runs", "runs", "sets", "sets"]
