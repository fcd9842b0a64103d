"""A list of images on the disk is the list that was written."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opsin.core.errors import ImageError
from opsin.data import listed_images
from opsin.data.image_stream import Unlabelled
from opsin.data.listed_images import ListedImages
from opsin.stores.store_address import StoredObject

# Names that are no Unicode have lone surrogates.
texts = st.text(st.characters(exclude_categories=[]), min_size=1)
problems = st.none() | st.builds(ImageError, texts, texts, texts)
objects = st.builds(StoredObject, texts, texts, st.integers(-1, 2**40), texts)
files = st.builds(Unlabelled, texts, texts, st.none() | texts, problems)
images = files | st.builds(Unlabelled, texts, objects, st.none(), problems)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_images, "_BLOCK", 3)


def told(image: Unlabelled) -> tuple[object, ...]:
    problem = None if image.problem is None else image.problem.args
    return image.name, image.image, image.path, problem


@given(
    given_images=st.lists(images, max_size=20), start=st.integers(0, 20), more=st.integers(0, 20)
)
@pytest.mark.usefixtures("small_blocks")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_those_that_were_added(
    given_images: list[Unlabelled], start: int, more: int
) -> None:
    listed = ListedImages()
    for image in given_images:
        listed.add(image)
    rows = range(len(given_images))[start : start + more]
    for _ in range(2):
        found = [told(image) for image in listed.rows(rows)]
        assert found == [told(given_images[row]) for row in rows]
