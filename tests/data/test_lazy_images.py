"""Images that are read on the fly are those that the cache would hold."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import opsin
from opsin.core.errors import ImageError
from opsin.core.recipe import DataRecipe
from opsin.data import fill_cache
from opsin.data.dataset import Dataset
from opsin.data.lazy_images import ImageSubset, LazyImages
from opsin.models.resolve import resolve
from tests.conftest import Notes, shape_image, write_shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several kinds and sizes, and two that are none."""
    root = write_shapes(tmp_path_factory.mktemp("fly"), count=14)
    for kind in ("disc", "square"):
        for number in range(3):
            image = Image.fromarray(shape_image(kind, 50 + number, size=90 + 40 * number))
            image.save(root / kind / f"{50 + number}.jpg")
        (root / kind / "60.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def stored(folder: Path) -> Dataset:
    return opsin.load(folder, size=(20, 24), disk_limit=1)


@pytest.fixture(scope="module")
def fresh(folder: Path, empty_cache: Path) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(empty_cache))
        return opsin.load(folder, size=(20, 24), disk_limit=0)


@pytest.fixture(scope="module")
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the images are not on the disk already: then they would be taken from there."""
    return tmp_path_factory.mktemp("cache")


def test_all_but_the_pixels_is_the_same_and_these_are_not_kept(
    stored: Dataset, fresh: Dataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(fresh.images, LazyImages)
    assert isinstance(stored.images, ImageSubset)
    assert fresh.fingerprint == stored.fingerprint
    assert fresh.names == stored.names
    assert fresh.unreadable == stored.unreadable
    assert len(fresh.unreadable) == 2
    assert np.array_equal(fresh.digests, stored.digests)
    for part in ("train", "val", "test"):
        assert np.array_equal(fresh.split.rows(part), stored.split.rows(part))
    assert fresh.preparation == stored.preparation
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path))
    recipes = [DataRecipe.of(str(folder), disk_limit=limit) for limit in (0, 1)]
    one, two = (fill_cache.read(recipe) for recipe in recipes)
    assert np.array_equal(one.sizes, two.sizes)
    assert np.array_equal(one.ranges, two.ranges)
    assert len(list(tmp_path.glob("decoded/*/rows-16.npy"))) == 2
    assert len(list(tmp_path.glob("decoded/*/images-16.npy"))) == 1


ROWS = st.one_of(
    st.integers(-34, 33),
    st.slices(34),
    st.lists(st.integers(-34, 33), max_size=50).map(lambda rows: np.array(rows, np.int64)),
    st.lists(st.booleans(), min_size=34, max_size=34).map(np.array),
    st.tuples(st.integers(0, 33), st.slices(20), st.integers(0, 23)),
    st.tuples(st.slices(34), st.integers(0, 19)),
)


@given(rows=ROWS)
def test_rows_are_taken_as_from_an_array(stored: Dataset, fresh: Dataset, rows: Any) -> None:
    expected = stored.images[rows]
    taken = fresh.images[rows]
    assert taken.dtype == np.uint8
    assert np.array_equal(taken, expected)


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "gone")
    data = opsin.load(root, disk_limit=0)
    (root / "disc" / "3.png").unlink()
    assert data.images[data.names.index("disc/4.png")].any()
    with pytest.raises(ImageError, match=r"disc/3\.png"):
        data.images[:]


@pytest.mark.torch
def test_training_gives_the_same_weights(stored: Dataset, fresh: Dataset, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from opsin.models import build_network
    from opsin.models.statistics import statistics_of
    from opsin.training.batches import TrainingBatches
    from opsin.training.checkpoint import Checkpoints
    from opsin.training.trainer import fit

    def weights(data: Dataset) -> list[bytes]:
        recipe = resolve(
            data.recipe, model="mlp", epochs=2, batch_size=8, hidden=(4,), balance="none"
        )
        statistics = statistics_of(data.images, data.split.train)
        torch.manual_seed(0)
        network = build_network.build(recipe.model, (20, 24, 3), 2, statistics=statistics)
        fit(
            network,
            TrainingBatches(data.images, data.labels, data.split.train, torch.device("cpu")),
            TrainingBatches(data.images, data.labels, data.split.val, torch.device("cpu")),
            recipe.training,
            classes=2,
            checkpoints=Checkpoints(tmp_path / str(id(data))),
            watcher=Notes(),
            stop=threading.Event(),
        )
        return [value.numpy().tobytes() for value in network.state_dict().values()]

    assert weights(stored) == weights(fresh)


@given(
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
    rows=st.one_of(st.integers(-3, 2), st.slices(4), st.lists(st.integers(-1, 0), max_size=5)),
)
def test_remaining_images_are_taken_as_from_an_array(
    count: int, seed: int, rows: int | slice | list[int]
) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (12, 4, 5, 3), np.uint8)
    kept = np.sort(random.permutation(12)[: max(3, count)])
    view, copy = ImageSubset(images, kept), images[kept]
    wanted: Any = np.array(rows, np.int64) if isinstance(rows, list) else rows
    assert np.array_equal(view[wanted], copy[wanted])
    if not isinstance(rows, int):
        assert np.array_equal(view[wanted, 1:, :, 0], copy[wanted, 1:, :, 0])
    assert np.array_equal(np.asarray(view), copy)
    assert (len(view), view.shape, view.nbytes) == (len(copy), copy.shape, copy.nbytes)
    with pytest.raises(IndexError):
        view[12]
