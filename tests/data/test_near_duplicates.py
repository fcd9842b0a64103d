"""Near duplicates are found whatever was done to them, and likenesses are not taken for them."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from opsin.core.events import SILENT, Watcher
from opsin.data import near_duplicates
from opsin.data.cache import digest_rows
from opsin.data.near_duplicates import find_near_duplicates
from tests.conftest import Notes, a_few
from tests.data.test_formats import encoded

Photo = Image.Image


def scenes(count: int, side: int = 64, seed: int = 0) -> list[Photo]:
    """Paint images with structure at every scale, as photographs have it."""
    random = np.random.default_rng(seed)
    painted = []
    for _ in range(count):
        whole = np.zeros((side, side, 3))
        for cells in (2, 4, 8, 16, 32):
            noise = random.normal(0, 120 / cells**0.5, (cells, cells, 3))
            for channel in range(3):
                layer = Image.fromarray(noise[..., channel].astype(np.float32))
                whole[..., channel] += np.asarray(
                    layer.resize((side, side), Image.Resampling.BICUBIC)
                )
        painted.append(Image.fromarray((whole + 128).clip(0, 255).astype(np.uint8)))
    return painted


def cropped(photo: Photo, number: int) -> Photo:
    random = np.random.default_rng(number)
    side = photo.width
    kept = round(0.9 * side)
    left, top = random.integers(0, side - kept + 1, 2)
    return photo.crop((left, top, left + kept, top + kept))


CHANGES: dict[str, Callable[[Photo, int], Photo]] = {
    "recoded": lambda photo, _: Image.open(io.BytesIO(encoded(photo, "JPEG", quality=50))),
    "cropped": cropped,
    "resized": lambda photo, number: ImageOps.scale(photo, (0.5, 0.75, 1.5)[number % 3]),
    "mirrored": lambda photo, _: ImageOps.mirror(photo),
    "brightened": lambda photo, n: ImageEnhance.Brightness(photo).enhance((0.7, 1.25)[n % 2]),
}


def arrays(photos: list[Photo], side: int, channels: int = 3) -> NDArray[np.uint8]:
    mode = "RGB" if channels == 3 else "L"
    small = [p.convert(mode).resize((side, side), Image.Resampling.BILINEAR) for p in photos]
    return np.stack([np.asarray(photo).reshape(side, side, channels) for photo in small])


@pytest.mark.parametrize("side", a_few([32, 64], 1))
@pytest.mark.parametrize("change", CHANGES)
def test_changed_images_are_found(change: str, side: int) -> None:
    originals = scenes(300)
    copies = [CHANGES[change](photo, n) for n, photo in enumerate(originals[:40])]
    images = arrays(originals + copies, side)
    found = find_near_duplicates(images, np.arange(len(images)))
    wanted = {(row, 300 + row) for row in range(40)}
    pairs = set(map(tuple, found.pairs.tolist()))
    assert len(wanted & pairs) >= 38
    assert pairs <= wanted
    assert bool(found.mirrored.all()) == (change == "mirrored")


def test_mirror_images_count_only_where_a_mirrored_image_is_of_its_class() -> None:
    originals = scenes(100)
    images = arrays([*originals, ImageOps.mirror(originals[0])], 32)
    assert find_near_duplicates(images, np.arange(101)).pairs.tolist() == [[0, 100]]
    assert not len(find_near_duplicates(images, np.arange(101), mirrored=False).pairs)


def test_shapes_that_look_alike_are_no_duplicates() -> None:
    # White discs on black, a little apart: alike as the trousers of Fashion-MNIST are.
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    images = np.stack(
        [
            200.0 * ((rows - 14) ** 2 + (columns - 14) ** 2 < random.uniform(80, 120))
            for _ in range(400)
        ]
    )
    images += random.normal(0, 12, images.shape)
    pixels = images.clip(0, 255).astype(np.uint8)[..., None]
    assert len(find_near_duplicates(pixels, np.arange(400)).pairs) <= 2


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (0, 32, 32, 3), (50, 8, 8, 1), (2, 16, 90, 1)])
def test_too_few_and_too_small_images_have_none(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert len(find_near_duplicates(images, np.arange(shape[0])).pairs) == 0


def test_images_of_one_colour_are_not_compared() -> None:
    random = np.random.default_rng(0)
    images = np.full((20_000, 16, 16, 1), 90, np.uint8)
    images[np.arange(20_000), random.integers(0, 16, 20_000), random.integers(0, 16, 20_000)] = 91
    assert len(find_near_duplicates(images, np.arange(20_000)).pairs) == 0


def kept(images: NDArray[np.uint8], watcher: Watcher = SILENT) -> NDArray[np.int64]:
    return near_duplicates.near_duplicates(
        images, digest_rows(images), mirrored=True, watcher=watcher
    ).pairs


@pytest.mark.slow
def test_a_copy_that_is_drawn_at_random_does_not_hide_its_original() -> None:
    # So many that few are drawn: what counts then is the nearest of those, the copy apart.
    random = np.random.default_rng(0)
    coarse = random.integers(40, 215, (9000, 8, 8), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    images = (coarse + random.integers(0, 40, coarse.shape, np.uint8))[..., None]
    images[8700:] = images[:300] // 2 + random.integers(40, 60, (300, 32, 32, 1), np.uint8)
    found = find_near_duplicates(images, np.arange(9000))
    assert found.pairs[np.argsort(found.pairs[:, 0])].tolist() == [
        [row, 8700 + row] for row in range(300)
    ]


def test_a_search_is_kept_for_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (60, 24, 24, 1), np.uint8)
    images[41] = images[3] // 2 + 30
    images[50] = images[3]  # an exact copy, for which one of the two stands
    assert kept(images).tolist() == [[3, 41]]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(near_duplicates, "find_near_duplicates", refuse)
    order = np.random.default_rng(1).permutation(60)
    ((one, other),) = kept(images[order])
    assert {int(order[one]), int(order[other])} in ({3, 41}, {50, 41})
    monkeypatch.setattr(near_duplicates, "find_near_duplicates", find_near_duplicates)
    for file in (tmp_path / "near").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert kept(images).tolist() == [[3, 41]]


def test_without_scikit_learn_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "sklearn.neighbors", None)
    notes = Notes()
    assert not len(kept(arrays(scenes(20), 32), notes))
    assert "opsin[evaluate]" in notes.notes[0]
    assert not (tmp_path / "near").exists()
