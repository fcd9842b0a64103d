"""An undo bar takes back the change that it names, and no other person's."""

import contextlib
from types import SimpleNamespace as Namespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import numpy as np
import pytest

from opsin.core.errors import SourceError
from opsin.studio.context import Studio
from opsin.studio.pages.photos import _Photos
from opsin.studio.pages.result_images import ResultImages
from tests.conftest import write_shapes

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("where", ["photos", "results"])
async def test_a_bar_takes_back_its_own_change(
    studio: Studio, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio, "changed", Namespace(emit=str))
    albums, made = studio.albums, studio.sets.new_empty(["disc", "square"])
    write_shapes(studio.sets.get(made.id).place, 3)
    bar, said = Mock(), list[str]()
    page: Any = object.__new__(_Photos if where == "photos" else ResultImages)
    page._studio, page._id, page._topic = studio, made.id, ""

    async def change() -> None:
        page._album = album = await albums.open(made.id)
        if where == "photos":
            page._frame = Namespace(undo=bar)
            page._status = Namespace(errors=contextlib.nullcontext, say=said.append)
            await page._do(albums.move(album, [0], "square"))
        else:
            page._undo, page._places, page._read = bar, np.arange(6), AsyncMock()
            await page.relabel(0, "square")

    await change()
    await albums.add_class(made.id, "star")
    text, undo, *_ = bar.offer.call_args.args
    assert text == "1 photograph moved to square"
    with pytest.raises(SourceError, match="Something else was changed since"):
        await undo()
    assert "star" in (await albums.open(made.id)).classes
    await albums.undo(made.id)
    await undo()
    assert (await albums.open(made.id)).counts == {"disc": 3, "square": 3}
    assert said == ["Undone: 1 photograph moved to square"] * (where == "photos")
