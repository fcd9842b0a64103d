"""Bytes become the same upright pixels everywhere, or a reason why not."""

import concurrent.futures
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from opsin.core.errors import ImageError
from opsin.core.metadata import Preparation
from opsin.data import images
from opsin.data.images import open_apart, open_here, open_image, prepare, read_header, read_image
from opsin.data.network_pixels import to_pixels
from tests.conftest import a_few
from tests.data.test_formats import encoded, gradient, oriented
from tests.processes import python

# Pillow's buffer for writing optimised JPEG files is sometimes too small for them.
ImageFile.MAXBLOCK = 1 << 20


TURNS = ("", "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90",
         "TRANSVERSE", "ROTATE_270")  # fmt: skip


@pytest.mark.parametrize(("orientation", "turn"), [*enumerate(TURNS, start=1)])
def test_images_are_turned_upright(orientation: int, turn: str) -> None:
    upright = Image.fromarray(gradient(6, 9))
    stored = upright.transpose(Image.Transpose[turn]) if turn else upright
    read = open_image(encoded(stored, exif=oriented(orientation)))
    assert np.array_equal(np.asarray(read), gradient(6, 9))


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    target=st.tuples(st.integers(1, 33), st.integers(1, 33)),
    channels=st.sampled_from([1, 3]),
    resize=st.sampled_from(["fit", "fill", "squash"]),
    grey=st.booleans(),
)
def test_any_image_gets_the_size_asked_for(
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


ORIENTED = {
    kind: {
        "mode": st.sampled_from(modes),
        "quality": st.sampled_from([30, 85, 100]),
        "progressive": st.booleans(),
        "subsampling": st.sampled_from([0, 1, 2]),
    }
    for kind, modes in {"JPEG": ["L", "RGB", "CMYK"], "PNG": ["L", "LA", "RGB", "RGBA"]}.items()
}


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, tuple[int, int]]:
    """A JPEG or PNG of any size, mode and orientation, and its upright height and width."""
    kind = draw(st.sampled_from(["JPEG", "PNG"]))
    options: dict[str, Any] = {name: draw(values) for name, values in ORIENTED[kind].items()}
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    orientation = draw(st.integers(1, 8))
    mode = options.pop("mode")
    image = Image.fromarray(photograph(height, width)).convert(mode)
    content = encoded(
        image, kind, exif=oriented(orientation), **(options if kind == "JPEG" else {})
    )
    return content, (height, width) if orientation < 5 else (width, height)


def photograph(height: int, width: int) -> NDArray[np.uint8]:
    """Return an image with coarse and fine detail, as a photograph has: uint8[H, W, 3]."""
    random = np.random.default_rng(height * 1009 + width)
    across, down = np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None]
    noise = np.fft.rfft2(random.normal(size=(3, height, width)))
    texture = np.fft.irfft2(
        noise / np.maximum(np.hypot(across, down), 1 / max(height, width)), s=(height, width)
    )
    texture = 120 + 40 * texture / (texture.std() or 1)
    return np.clip(texture, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()


@given(
    file=files(),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    channels=st.sampled_from([1, 3]),
    resize=st.sampled_from(["fit", "fill", "squash"]),
)
def test_any_file_is_read_the_same_by_every_door(
    file: tuple[bytes, tuple[int, int]],
    target: tuple[int, int],
    channels: Any,
    resize: Any,
    tmp_path: Path,
) -> None:
    content, size = file
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    preparation = Preparation(height=target[0], width=target[1], channels=channels, resize=resize)
    ready = prepare(path, preparation)
    pixels, its_size = ready.pixels, (ready.height, ready.width)
    assert its_size == size
    assert read_header(path)[:2] == size
    with path.open("rb") as stream:
        stream.seek(3)
        for door in (str(path), content, bytearray(content), io.BytesIO(content), stream):
            assert np.array_equal(read_image(door, preparation), pixels)  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["fit", "fill", "squash"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_less_of_a_jpeg_gives_nearly_its_pixels(orientation: int, resize: Any, mode: str) -> None:
    image = Image.fromarray(photograph(403, 501)).convert(mode)
    content = encoded(image, "JPEG", exif=oriented(orientation), quality=85)
    preparation = Preparation(height=64, width=64, channels=3, resize=resize)
    with open_here(content, preparation, "it") as upright:
        assert upright.eighths < 8
        some = to_pixels(upright, preparation).astype(int)
    whole = to_pixels(open_image(content), preparation).astype(int)
    difference = np.abs(some - whole)
    assert difference.mean() < 1
    assert difference.max() < 20


def test_what_pillow_decodes_is_what_simplejpeg_decodes() -> None:
    for mode in ("L", "RGB"):
        content = encoded(Image.fromarray(photograph(61, 83)).convert(mode), "JPEG", quality=85)
        with Image.open(io.BytesIO(content)) as upright:
            assert np.array_equal(np.asarray(open_image(content)), np.asarray(upright))


@pytest.mark.parametrize("kind", [b"P5", b"P6"])
@pytest.mark.parametrize("white", [7, 100, 4095])
def test_a_pnm_is_scaled_by_its_white_as_pillow_does_and_quickly(kind: bytes, white: int) -> None:
    numbers = np.random.default_rng(0).integers(0, white + 1, 7 * 5 * (3 if kind == b"P6" else 1))
    head, own = kind + b"\n# a comment\n%d %d\n%d\n", np.dtype(">u2" if white > 255 else "u1")
    content = head % (7, 5, white) + numbers.astype(own).tobytes()
    with Image.open(io.BytesIO(content)) as by_pillow:  # this process has Pillow's own decoder
        deep, expected = by_pillow.mode == "I", np.asarray(by_pillow)
    expected = expected >> 8 if deep else expected
    assert np.array_equal(np.asarray(open_image(content)), expected)
    assert open_image(head % (2000, 2000, white) + bytes(24_000_000)).size == (2000, 2000)


@given(part=st.floats(0.3, 0.999), progressive=st.booleans(), quality=st.sampled_from([40, 90]))
def test_a_jpeg_that_is_cut_short_is_refused(part: float, progressive: bool, quality: int) -> None:
    image = Image.fromarray(photograph(200, 300))
    content = encoded(image, "JPEG", progressive=progressive, quality=quality)
    content = content[: round(part * len(content))]
    preparation = Preparation(height=32, width=32, channels=3, resize="fit")
    try:
        with Image.open(io.BytesIO(content)) as upright:
            upright.load()
    except OSError:
        with pytest.raises(ImageError, match="cut short"):
            read_image(content, preparation)
    else:
        read_image(content, preparation)


def test_one_large_image_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_LARGE", 5_000)
    large, small = (encoded(Image.new("L", (side, side))) for side in (80, 60))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with open_here(large, None, "it"):
            waiting = pool.submit(open_image, large)
            assert pool.submit(open_image, small).result().size == (60, 60)
            assert not waiting.done()
        assert waiting.result().size == (80, 80)


def test_tensors_will_do() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
            return gradient(6, 9)

    assert np.array_equal(open_image(Tensor()), gradient(6, 9))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_pixels_are_those_that_are_decoded_here(kind: str, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    content = encoded(Image.fromarray(noise).convert(mode), kind)
    pixels, read_as = open_apart(content)
    assert read_as == kind
    assert np.array_equal(pixels.squeeze(), np.asarray(open_image(content)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS")
@pytest.mark.parametrize("kind", a_few(["LA PNG", "RGB PNG", "RGBA TGA", "P GIF", "L AVIF"], 2))
def test_no_image_takes_half_a_gigabyte(kind: str) -> None:
    """One of the largest that are allowed, in few bytes, is read or refused within 512 MB."""
    code = """
import io, resource, sys
from PIL import Image
from opsin.core.errors import ImageError
from opsin.core.metadata import Preparation
from opsin.data.images import open_image, prepare
from opsin.data.images import _sandbox
import os
open_image(b"P5 1 1 255 a")  # a process starts with what its parent has taken by then
mode, kind = sys.argv[1].split()
stream = io.BytesIO()
more = {"compression": "tga_rle"} if kind == "TGA" else {"speed": 10} if kind == "AVIF" else {}
Image.new(mode, (8900, 8900)).save(stream, kind, **more)
try:
    prepare(stream.getvalue(), Preparation(height=8, width=8, channels=3, resize="fit"))
except ImageError:
    pass
_sandbox(os.getpid()).close()
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""
    assert int(python("-c", code, kind).stdout) <= 512
