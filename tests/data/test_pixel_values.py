"""Values become bytes: one white for a dataset, its classifier and its predictions."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import opsin
from opsin.core.metadata import Preparation
from opsin.data import fill_cache
from opsin.data.images import PreparedImage, prepare, read_image
from opsin.data.pixel_values import image_from_array
from tests.conftest import Notes
from tests.data import test_formats

Deep = NDArray[np.uint16]


def levels(largest: int, channels: int = 1, seed: int = 0) -> Deep:
    """Return an image whose numbers reach the largest one."""
    pixels = np.random.default_rng(seed).integers(0, largest + 1, (8, 8, channels), np.uint16)
    pixels[0, 0] = largest
    return pixels


def png(pixels: Deep) -> bytes:
    """Write a PNG of 16 bits a channel; Pillow writes no colours of them."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return test_formats.png(width, height, 16, {1: 0, 3: 2, 4: 6}[channels], rows)


def tiff(pixels: Deep) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(stream, "TIFF")
    return stream.getvalue()


def strip_tiff(content: bytes, side: int, bits: int, channels: int) -> bytes:
    """Write a TIFF of one strip, the lower byte first; Pillow writes neither of both."""
    colour = channels == 3
    size = (256, 3, side), (257, 3, side), (258, 3, -1 if colour else bits, channels), (259, 3, 1)
    kind = (262, 3, 2 if colour else 1), (277, 3, channels)
    strip = (273, 4, -7), (278, 3, side), (279, 4, len(content))
    data = struct.pack("<3H", bits, bits, bits) + content
    return test_formats.tiff(*sorted([*size, *kind, *strip]), data=data)


def colour_tiff(pixels: Deep) -> bytes:
    return strip_tiff(pixels.astype("<u2").tobytes(), pixels.shape[0], 16, 3)


def packed_tiff(pixels: Deep) -> bytes:
    """Write a TIFF whose samples have 12 bits each."""
    content = b"".join(
        bytes([one >> 4, (one & 15) << 4 | two >> 8, two & 255])
        for one, two in pixels.reshape(-1, 2).tolist()
    )
    return strip_tiff(content, pixels.shape[0], 12, 1)


def pnm(pixels: Deep, white: int = 65535) -> bytes:
    height, width, channels = pixels.shape
    head = f"P{5 if channels == 1 else 6} {width} {height} {white}\n"
    return head.encode() + pixels.astype(">u2").tobytes()


def folder(
    root: Path, ending: str, write: Callable[[Deep], bytes], largest: int, **more: int
) -> Path:
    """Write a collection of two classes, one of which is dark; one image alone is the brightest."""
    for row in range(24):
        place = root / ("dim" if row % 2 else "bright") / f"{row:02}{ending}"
        place.parent.mkdir(parents=True, exist_ok=True)
        own = largest if row == 12 else largest // (8 if row % 2 else 2)
        place.write_bytes(write(levels(own, more.get("channels", 1), row)))
    return root


def exact(pixels: Deep, bits: int) -> NDArray[np.uint8]:
    return (np.minimum(pixels, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)


FILES: dict[str, tuple[str, Callable[[Deep], bytes], int]] = {
    "PNG": (".png", png, 1), "PNG in colour": (".png", png, 3), "TIFF": (".tif", tiff, 1),
    "TIFF in colour": (".tif", colour_tiff, 3), "PGM": (".pgm", pnm, 1), "PPM": (".ppm", pnm, 3),
}  # fmt: skip


@pytest.mark.parametrize(("ending", "write", "channels"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_white_is_what_the_brightest_image_needs(
    tmp_path: Path, ending: str, write: Callable[[Deep], bytes], channels: int, bits: int
) -> None:
    source = folder(tmp_path / "images", ending, write, (1 << bits) - 1, channels=channels)
    data = opsin.load(source)
    assert data.recipe.bits == data.preparation.bits == bits
    for row, name in enumerate(data.names):
        own = int(name[-6:-4])
        largest = (1 << bits) - 1
        pixels = levels(largest if own == 12 else largest // (8 if own % 2 else 2), channels, own)
        assert np.array_equal(data.images[row], exact(pixels, bits)), name
        assert np.array_equal(read_image(source / name, data.preparation), data.images[row])


def test_bits_have_pixels_of_their_own_and_bytes_stay(tmp_path: Path) -> None:
    source = folder(tmp_path / "images", ".png", png, 4095)
    most = [int(opsin.load(source, bits=bits).ranges.max()) for bits in (None, 16, 12, 14, None)]
    assert most == [255, 15, 255, 63, 255]
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(source / "dim" / "99.png")
    data = opsin.load(source)
    assert data.recipe.bits == 12
    assert data.images[data.names.index("dim/99.png")].max() == 63


def test_the_white_that_files_state_is_used_where_no_image_is_that_bright(tmp_path: Path) -> None:
    data = opsin.load(folder(tmp_path / "images", ".pgm", lambda pixels: pnm(pixels, 4095), 900))
    assert data.recipe.bits == 12
    assert int(data.ranges.max()) == 900 >> 4


def test_a_file_that_states_its_white_needs_no_collection() -> None:
    pixels = levels(4095)
    for bits in (None, 8, 12, 16):
        like = Preparation(height=8, width=8, channels=1, resize="fit", bits=bits)
        for content in (pnm(pixels, 4095), packed_tiff(pixels)):
            assert np.abs(read_image(content, like).astype(int) - exact(pixels, 12)).max() <= 1


def test_arrays_follow_the_same_rule(tmp_path: Path) -> None:
    pixels = np.stack([levels(4095 if row == 7 else 2000, 1, row) for row in range(20)])
    labels = np.arange(20) % 2
    np.savez(tmp_path / "deep.npz", images=pixels, labels=labels)
    data = opsin.from_arrays(pixels, labels)
    for each in (data, opsin.load(tmp_path / "deep.npz")):
        assert each.recipe.bits == 12
        assert np.array_equal(each.images, exact(pixels, 12))
    assert np.array_equal(read_image(pixels[3], data.preparation), data.images[3])
    larger = opsin.load(tmp_path / "deep.npz", size=4)
    assert larger.recipe.bits == 12
    assert int(larger.ranges.max()) > 100
    assert opsin.from_arrays((pixels >> 4), labels).recipe.bits is None


def test_a_brighter_image_is_clipped_and_that_is_said() -> None:
    like = Preparation(height=8, width=8, channels=1, resize="fit", bits=12)
    for content in (png(levels(9000)), levels(9000)):
        ready = prepare(content, like, "it")
        assert np.array_equal(ready.pixels, exact(levels(9000), 12))
        assert ready.notes == (
            "brighter than the training images' range: whatever is above 4,095 (12 bits) is white",
        )
    assert prepare(png(levels(4095)), like, "it").notes == ()


def test_the_classifier_carries_its_white(tmp_path: Path) -> None:
    source = folder(tmp_path / "images", ".png", png, 4095)
    data = opsin.load(source)
    classifier = opsin.train(data, model="logistic", runs=tmp_path / "run").classifier()
    assert classifier.metadata.preparation.bits == 12
    answers = classifier.predict([source / name for name in data.names])
    assert np.array_equal([answer.pixels for answer in answers], data.images[:])
    brighter = folder(tmp_path / "brighter", ".png", png, 9000)
    notes = Notes()
    opsin.evaluate(classifier, brighter, watcher=notes)
    assert any("12 images: brighter than the training images" in text for text in notes.notes)
    assert classifier.predict(brighter / "bright" / "12.png").notes


def test_a_killed_second_pass_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path / "images", ".png", png, 4095)
    asked: list[object] = []

    def stopped(*args: Any, **options: Any) -> PreparedImage:
        asked.append(args)
        if len(asked) == 30:
            raise KeyboardInterrupt
        return prepare(*args, **options)

    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))  # no other set has these images
    monkeypatch.setattr(fill_cache, "THREADS", 1)
    monkeypatch.setattr(fill_cache, "prepare", stopped)
    with pytest.raises(KeyboardInterrupt):
        opsin.load(source)
    data = opsin.load(source)
    assert len(asked) <= 2 * 24 + 24
    assert data.recipe.bits == 12
    assert int(data.ranges.max()) == 255


def grey(height: int = 6, width: int = 9) -> NDArray[np.uint8]:
    values = np.arange(height * width) * 255 / (height * width - 1)
    return values.round().astype(np.uint8).reshape(height, width)


COLOUR = np.stack([grey(), grey()[::-1], grey()[:, ::-1]], axis=2)


def read(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(image_from_array(array, "it")[0])


@pytest.mark.parametrize(
    "array",
    [
        grey(), grey()[..., None], grey()[None], grey()[None, ..., None], grey()[None, None],
        *(grey().astype(kind) for kind in ("int16", "int64", "uint16", "float32", "float64")),
        grey() / 255, (grey() / np.float32(255)), np.asfortranarray(grey()),
    ],
)  # fmt: skip
def test_what_can_mean_one_thing_is_taken(array: NDArray[Any]) -> None:
    assert np.array_equal(read(array), grey())


def test_what_numbers_were_taken_for_is_said() -> None:
    assert image_from_array(grey(), "it")[1] is None
    assert image_from_array(grey().astype(int), "it")[1] is None
    assert "0 to 1" in str(image_from_array(grey() / 255, "it")[1])
    mask, note = image_from_array(grey() > 100, "it")
    assert "True taken as white" in str(note)
    assert np.array_equal(np.asarray(mask), np.where(grey() > 100, 255, 0))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (COLOUR.transpose(2, 0, 1), r"\[3, 6, 9\].*channels last"),
        (np.stack([COLOUR] * 2), r"\[2, 6, 9, 3\].*several images as a list"),
        (np.stack([grey(), grey()], axis=2), r"\[6, 9, 2\]"),
        (grey().astype(np.uint16) * 257, "from 0 to 65535"),
        (grey() / 127.5 - 1, "from -1 to 1"),
    ],
)
def test_what_can_mean_several_things_is_refused(array: NDArray[Any], words: str) -> None:
    with pytest.raises(opsin.ImageError, match=words):
        read(array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 9)), np.zeros((6, 0, 3)), np.array(7), np.array(None), np.array("a.png"),
        np.array([["a"]]), np.full((4, 4), 1j), np.full((4, 4), None), np.full((4, 4), np.nan),
        np.full((4, 4), np.inf), np.zeros((4, 4), "datetime64[s]"), np.zeros((4, 4), "V3"),
        np.arange(17), np.full((3, 4), 1e300), np.full((3, 4), -(2**62)),
    ],
)  # fmt: skip
def test_nothing_else_is_raised(array: NDArray[Any]) -> None:
    with pytest.raises(opsin.ImageError):
        read(array)
