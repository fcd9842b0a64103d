"""Bytes become the same upright pixels everywhere, or a reason why not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from opsin.data.images import MAX_PIXELS, SUFFIXES, open_image, read_image
from opsin.errors import ImageError
from opsin.metadata import Preparation


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(height: int = 6, width: int = 9) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 20, columns * 20, rows + columns], axis=2).astype(np.uint8)


def transparent(mode: str) -> Image.Image:
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    return image.convert(mode)


def palette_with_transparency() -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    image.info["transparency"] = 1
    return image


# What happens to each kind of picture: its mode, and the values of its first and last pixel.
KINDS = {
    "grey": (Image.new("L", (4, 4), 7), "L", 7, 7),
    "one bit": (Image.new("1", (4, 4), 1), "L", 255, 255),
    "colour": (Image.new("RGB", (4, 4), (1, 2, 3)), "RGB", (1, 2, 3), (1, 2, 3)),
    "16 bits": (
        Image.fromarray(np.full((4, 4), 0xABCD, np.uint16)), "L", 0xAB, 0xAB
    ),
    "alpha over white": (transparent("RGBA"), "RGB", (0, 0, 0), (255, 255, 255)),
    "grey alpha": (transparent("LA"), "L", 0, 255),
    "palette": (palette_with_transparency(), "RGB", (0, 0, 0), (255, 255, 255)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_grey_or_colour(kind: str) -> None:
    image, mode, first, last = KINDS[kind]
    read = open_image(encoded(image))
    assert read.mode == mode
    assert read.getpixel((0, 0)) == first
    assert read.getpixel((3, 3)) == last


def test_cmyk_is_converted() -> None:
    read = open_image(encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "JPEG"))
    assert read.mode == "RGB"
    assert max(read.getpixel((0, 0))) < 40  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int) -> None:
    upright = Image.fromarray(gradient())
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)  # fmt: skip
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(np.asarray(open_image(encoded(stored, exif=exif))), gradient())


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    target=st.tuples(st.integers(1, 33), st.integers(1, 33)),
    channels=st.sampled_from([1, 3]),
    resize=st.sampled_from(["fit", "fill", "squash"]),
    grey=st.booleans(),
)
def test_any_picture_gets_the_size_asked_for(
    height: int, width: int, target: tuple[int, int], channels: Any, resize: Any, grey: bool
) -> None:
    random = np.random.default_rng(height * 41 + width)
    pixels = random.integers(0, 256, (height, width) if grey else (height, width, 3), np.uint8)
    preparation = Preparation(height=target[0], width=target[1], channels=channels, resize=resize)
    read = read_image(pixels, preparation)
    assert read.shape == (*target, channels)
    assert read.dtype == np.uint8
    assert int(read.min()) >= int(pixels.min()) - 1
    assert int(read.max()) <= int(pixels.max()) + 1


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    preparation = Preparation(height=6, width=9, channels=3, resize="fit")
    assert np.array_equal(read_image(gradient(), preparation), gradient())


def test_fit_fills_with_the_borders_colour() -> None:
    wide = np.full((10, 20, 3), (200, 100, 50), np.uint8)
    wide[4:6, 9:11] = 0
    read = read_image(wide, Preparation(height=20, width=20, channels=3, resize="fit"))
    assert read[0, 0].tolist() == [200, 100, 50]


def test_the_same_bytes_give_the_same_pixels_by_every_door(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(gradient(60, 90)), "JPEG", quality=80)
    file = tmp_path / "boot mit Ümlaut.jpg"
    file.write_bytes(content)
    preparation = Preparation(height=28, width=28, channels=1, resize="fit")
    first, *others = (
        read_image(door, preparation)
        for door in (file, str(file), content, io.BytesIO(content), Image.open(file))
    )
    assert all(np.array_equal(first, other) for other in others)


@given(cut=st.integers(0, 400), seed=st.integers(0, 9))
def test_damaged_files_are_read_or_refused_with_a_reason(cut: int, seed: int) -> None:
    content = bytearray(encoded(Image.fromarray(gradient(20, 30)), "PNG"))
    random = np.random.default_rng(seed)
    for place in random.integers(0, len(content), 3):
        content[place] = int(random.integers(256))
    try:
        open_image(bytes(content[:cut]), "holiday.png")
    except ImageError as error:
        assert "holiday.png" in str(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no picture of a known format"),
        (b"label,path\n", "no picture of a known format"),
        (encoded(Image.fromarray(gradient(90, 90)), "JPEG")[:800], "cut short"),
        (encoded(Image.fromarray(gradient(90, 90)))[:60], "cut short"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a known format"),
    ],
)
def test_the_reason_is_told(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        open_image(content)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    bomb = encoded(Image.new("1", (side, side)))
    assert len(bomb) < 100_000
    with pytest.raises(ImageError, match="million pixels"):
        open_image(bomb)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no.png", tmp_path):
        with pytest.raises(ImageError, match=path.name):
            open_image(path)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_arrays_of_another_kind_are_refused(array: Any) -> None:
    with pytest.raises(ImageError, match="uint8"):
        open_image(array)


def test_float_pictures_are_refused_rather_than_guessed() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        open_image(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


def test_suffixes_are_of_formats_that_are_read(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        kind = Image.registered_extensions()[suffix] if suffix != ".jfif" else "JPEG"
        mode = "1" if suffix == ".pbm" else "RGB"
        file = tmp_path / f"a{suffix}"
        file.write_bytes(encoded(Image.new(mode, (5, 5)), kind))
        assert open_image(file).size == (5, 5)
