from __future__ import annotations

from typing import Self

import pytest

from opsin.core.errors import ImageError, StorageError
from opsin.data.image_engine import ImageSteps, answer_images
from opsin.data.image_stream import ListedImage
from opsin.stores.bucket import StoredObject


class Stored(ListedImage):
    """An image of a store that gives no answer after the twentieth."""

    def with_content(self) -> Self:
        if self.name == "20":
            raise StorageError("no answer")
        return self


def test_a_store_that_fails_costs_no_answer_before() -> None:
    objects = (StoredObject("bucket", str(number), 1, "") for number in range(40))
    steps = ImageSteps[str, str](lambda item: item.name, list, pixels=1, batch=8)
    answered: list[str | ImageError] = []
    with pytest.raises(StorageError, match="no answer"):
        answered.extend(
            answer for _, answer in answer_images(steps, (Stored(o.key, o) for o in objects))
        )
    assert answered == list(map(str, range(20)))
