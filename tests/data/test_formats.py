"""Each kind of image is read, or refused with a reason, by a dataset and a classifier alike."""

import base64
import io
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from PIL import Image

import opsin
from opsin.core.metadata import Preparation
from opsin.data import images
from opsin.data.formats import FORMATS, exif_orientation, orientation_of, plain
from opsin.data.images import open_image
from opsin.data.network_pixels import to_pixels
from tests.conftest import Cli, shape_image, write_shapes
from tests.processes import python


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def oriented(number: int, **more: Any) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    exif[0x010F] = "A camera"
    for tag, value in more.items():
        exif[int(tag[1:])] = value
    return exif


def gradient(height: int = 12, width: int = 18) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 20, columns * 14, rows + columns], axis=2).astype(np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Write a PNG by hand: Pillow writes no 16-bit colours and no lies."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def sixteen_bit_colour() -> bytes:
    rows = b"".join(
        b"\0" + (line.astype(">u2") * 256 + 77).astype(">u2").tobytes() for line in gradient()
    )
    return png(18, 12, 16, 2, rows)


def turned() -> bytes:
    upright = Image.fromarray(gradient())
    return encoded(upright.transpose(Image.Transpose.ROTATE_90), exif=oriented(6))


def palette() -> bytes:
    image = Image.fromarray(np.repeat([[0], [1]], 4, axis=1).astype(np.uint8), "P")
    image.putpalette([0, 0, 200, 10, 20, 30])
    return encoded(image, transparency=1)


def with_alpha(mode: str) -> Image.Image:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[0] = (200, 200, 200, 255)
    pixels[1] = (0, 0, 0, 102)
    return Image.fromarray(pixels).convert(mode)


def tiff(*entries: tuple[int, ...], data: bytes = b"") -> bytes:
    """Write a little-endian TIFF of entries: tag, type (3 short, 4 long), value, and their number.

    A value of -1 is the place of the data, -7 the sixth byte from there.
    """
    start = 8 + 2 + 12 * len(entries) + 4
    body = b"".join(
        struct.pack("<HHII", tag, kind, *(more or [1]), start - 1 - value if value < 0 else value)
        for tag, kind, value, *more in entries
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + data


GREY = (Image.fromarray(gradient()[:, :, 1]), 0)
COLOUR = (Image.fromarray(gradient()), 0)


@dataclass(frozen=True)
class Kind:
    """A row of the table in docs/reference/images.md: a file, and what it becomes, or why not."""

    content: Callable[[], bytes]
    expected: tuple[Image.Image, int] | str  # and how far a value may be from it, or the reason
    suffix: str = ".png"


def over_white(mode: str) -> Image.Image:
    levels = np.array([200, 153, 255, 255], np.uint8)
    grey = Image.fromarray(np.repeat(levels[:, None], 4, axis=1))
    return grey.convert(mode)


KINDS = {
    "turned by the camera": Kind(turned, COLOUR),
    "grey": Kind(lambda: encoded(GREY[0]), GREY),
    "one bit": Kind(
        lambda: encoded(Image.new("1", (4, 4), 1)), (Image.new("L", (4, 4), 255), 0)
    ),
    "16-bit grey": Kind(
        lambda: encoded(Image.fromarray(gradient()[:, :, 1].astype(np.uint16) * 256 + 99)), GREY
    ),
    "16-bit colour": Kind(sixteen_bit_colour, COLOUR),
    "palette with transparency": Kind(
        palette,
        (Image.fromarray(np.repeat([[[0, 0, 200]], [[255] * 3]], 4, axis=1).astype(np.uint8)), 0),
    ),
    "alpha": Kind(lambda: encoded(with_alpha("RGBA")), (over_white("RGB"), 0)),
    "grey with alpha": Kind(lambda: encoded(with_alpha("LA")), (over_white("L"), 0)),
    "CMYK": Kind(
        lambda: encoded(Image.new("CMYK", (9, 9), (0, 0, 0, 255)), "JPEG"),
        (Image.new("RGB", (9, 9)), 40), ".jpg",
    ),
    "animated": Kind(
        lambda: encoded(Image.new("L", (8, 8), 60), "GIF", save_all=True,
                        append_images=[Image.new("L", (8, 8), 200)]),
        (Image.new("RGB", (8, 8), (60, 60, 60)), 0), ".gif",
    ),
    "animated WebP": Kind(
        lambda: encoded(Image.new("RGB", (8, 8), (60, 9, 9)), "WEBP", save_all=True, lossless=True,
                        append_images=[Image.new("RGB", (8, 8), (0, 200, 0))]),
        (Image.new("RGB", (8, 8), (60, 9, 9)), 0), ".webp",
    ),
    "one pixel": Kind(
        lambda: encoded(Image.new("RGB", (1, 1), (9, 8, 7))),
        (Image.new("RGB", (1, 1), (9, 8, 7)), 0),
    ),
    "20,000 pixels wide": Kind(
        lambda: encoded(Image.new("RGB", (20_000, 3), (9, 80, 7))),
        (Image.new("RGB", (20_000, 3), (9, 80, 7)), 0),
    ),
    "wrong suffix": Kind(lambda: encoded(COLOUR[0]), COLOUR, ".jpg"),
    "stray bytes in a JPEG": Kind(
        lambda: encoded(COLOUR[0], "JPEG", quality=95)[:-2] + b"\1\2\3\4\xff\xd9", (COLOUR[0], 30),
        ".jpg",
    ),
    "JPEG cut short": Kind(
        lambda: encoded(Image.fromarray(gradient(90, 90)), "JPEG")[:800], "cut short", ".jpg"
    ),
    "PNG cut short": Kind(
        lambda: encoded(Image.fromarray(gradient(90, 90)))[:90], "cut short"
    ),
    "TIFF cut short": Kind(
        lambda: encoded(Image.fromarray(gradient(90, 90)), "TIFF")[:9000], "cut short|damaged",
        ".tif",
    ),
    "no image": Kind(lambda: b"label,path\n", "no image of a known format"),
    "empty": Kind(lambda: b"", "no image of a known format", ".jpg"),
    "another program's": Kind(
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image", ".jpg"
    ),
    "floating point": Kind(
        lambda: encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point",
        ".tif",
    ),
    "bomb": Kind(
        lambda: png(20_000, 20_000, 1, 0, bytes(2501 * 20_000)), "20,000 × 20,000"
    ),
    "bomb in one tile": Kind(
        lambda: tiff((256, 4, 8), (257, 4, 8), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
                     (322, 4, 60_000), (323, 4, 60_000), (324, 4, -1), (325, 4, 30),
                     data=zlib.compress(bytes(999))),
        "60,000 × 60,000", ".tif",
    ),
}  # fmt: skip
if "AVIF" in FORMATS:
    KINDS["AVIF"] = Kind(
        lambda: encoded(Image.new("RGB", (16, 16), (9, 200, 7)), "AVIF", quality=95),
        (Image.new("RGB", (16, 16), (9, 200, 7)), 4),
        ".avif",
    )


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> opsin.Dataset:
    root = write_shapes(tmp_path_factory.mktemp("kinds"))
    for number, kind in enumerate(KINDS.values()):
        (root / "disc" / f"{1000 + number}{kind.suffix}").write_bytes(kind.content())
    return opsin.load(root, size=(8, 8), channels=1, max_unreadable=1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_and_a_classifier_read_or_refuse_each_kind_alike(
    kind: str, loaded: opsin.Dataset, nearest_mean: Path
) -> None:
    expected, classifier = KINDS[kind].expected, opsin.Classifier(nearest_mean)
    name = f"disc/{1000 + list(KINDS).index(kind)}{KINDS[kind].suffix}"
    file = Path(loaded.recipe.sources[0]) / name
    if isinstance(expected, str):
        assert re.search(expected, dict(loaded.unreadable)[name])
        for source in (file, file.read_bytes()):
            with pytest.raises(opsin.ImageError, match=expected):
                classifier.predict(source)
        return
    assert open_image(file).mode == expected[0].mode
    read = loaded.images[loaded.names.index(name)]
    wanted = to_pixels(expected[0], Preparation(height=8, width=8, channels=1, resize="fit"))
    assert np.abs(read.astype(int) - wanted).max() <= expected[1]
    for source in (file, file.read_bytes()):
        assert np.array_equal(classifier.predict(source, as_is=True).pixels, read)
    matched = classifier.predict(file)
    assert matched.notes or np.array_equal(matched.pixels, read)


_CHILD = """
import sys
from pathlib import Path
from opsin.data.images import open_image
from opsin.core.errors import ImageError

def peak():  # in KiB; getrusage would count what the process that started this one had
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

open_image(Path(sys.argv[1]).parent / "ordinary.png")
before = peak()
for file in sys.argv[1:]:
    try:
        open_image(file)
    except ImageError:
        pass
print((peak() - before) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")
def test_what_is_refused_takes_no_memory_and_says_nothing_past_python(tmp_path: Path) -> None:
    Image.fromarray(shape_image("disc", 0)).save(tmp_path / "ordinary.png")
    files = []
    for name, kind in KINDS.items():
        if isinstance(kind.expected, str):
            files.append(tmp_path / f"{name}{kind.suffix}")
            files[-1].write_bytes(kind.content())
    # Damage that libtiff itself would write about: a deflated strip that is none.
    size = (256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 8), (262, 3, 1)
    place = (273, 4, -1), (277, 3, 1), (278, 4, 64), (279, 4, 40)
    strip = tiff(*size, *place, data=b"no deflated strip" * 3)
    files.append(tmp_path / "strip.tif")
    files[-1].write_bytes(strip)
    done = python("-W", "error", "-c", _CHILD, *files)
    assert done.stderr == ""
    assert int(done.stdout) < 64


def test_a_file_beyond_the_limit_is_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 3_000_000)
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk is that patient
    with pytest.raises(opsin.ImageError, match=r"long\.png: larger than 3 MB"):
        open_image(tmp_path / "long.png")


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
def test_damaged_heic_is_refused(brand: bytes, tmp_path: Path) -> None:
    photo = tmp_path / "IMG_0042.heic"
    photo.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + bytes(64))
    for ask in (images.open_image, images.read_header):
        with pytest.raises(opsin.ImageError, match=r"IMG_0042\.heic: "):
            ask(photo)


HEIC = base64.b64decode((Path(__file__).parent / "telephone.heic.txt").read_bytes())


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_turned_once_by_its_own_rotation(brand: bytes) -> None:
    # EXIF says 6 as well, and must be ignored: a telephone writes both.
    photo = open_image(HEIC.replace(b"ftypheic", b"ftyp" + brand, 1))
    assert photo.size == (32, 48)
    pixels = np.asarray(photo).astype(int)
    # Red, green / blue, white, stored lying on their side.
    quarters = [pixels[y, x].argmax() for y, x in ((12, 24), (36, 8))]
    assert quarters == [0, 2]
    assert pixels[36, 24].min() > 200
    assert images.read_header(HEIC) == (48, 32, True)


def test_a_class_of_heic_alone_is_read_or_said_to_need_its_reader(
    cold_cli: Cli, tmp_path: Path
) -> None:
    photos = write_shapes(tmp_path / "photos", count=10)
    (photos / "telephone").mkdir()
    for number in range(10):
        # Bytes behind the last box change no pixel, and make each file another one.
        content = HEIC + b"\0\0\0\x09free" + bytes([number])
        (photos / "telephone" / f"IMG_{number}.HEIC").write_bytes(content)
    (tmp_path / "without" / "pi_heif").mkdir(parents=True)
    (tmp_path / "without" / "pi_heif" / "__init__.py").write_text("raise ImportError")
    without = os.environ | {"PYTHONPATH": str(tmp_path / "without")}
    refused = cold_cli("data", "photos", "--no-draw", env=without)
    assert refused.returncode == 1
    assert "telephone/IMG_0.HEIC: HEIC needs pi-heif" in refused.stderr
    assert "10 of " in refused.stderr and "pip install pi-heif" in refused.stderr
    data = opsin.look_at(photos)  # once it is installed, what was refused is read
    assert np.bincount(data.labels).tolist() == [10, 10, 10]
    middle = data.images[int(np.flatnonzero(data.labels == 2)[0])][16, 32].astype(int)
    assert middle[0] > 200 > middle[1]  # the red half is on top


@pytest.mark.parametrize("kind", ["TGA", "PCX", "ICO", "JPEG2000", "MPO"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_rarer_formats_are_read(kind: str, mode: str) -> None:
    original = Image.fromarray(gradient(16, 16)).convert(mode)
    content = encoded(original, kind)
    read = np.asarray(open_image(content).convert("RGB")).astype(int)
    off = 20 if kind == "MPO" else 0  # JPEG, which blurs colours
    assert np.abs(read - np.asarray(original.convert("RGB"))).mean() <= off


LIKE = Preparation(height=16, width=16, channels=3, resize="fit")


def noisy(kind: str = "JPEG", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return encoded(Image.fromarray(noise), kind, **options)


XMP = b'<rdf:Description tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    "content",
    [
        noisy(), noisy(progressive=True), noisy(exif=oriented(6)),
        noisy(exif=oriented(3), xmp=XMP, comment=b"of a boot", icc_profile=bytes(200_000)),
        noisy("PNG"), noisy("PNG", exif=oriented(8), icc_profile=bytes(3000)),
    ],
)  # fmt: skip
def test_what_cameras_and_editors_write_is_plain(content: bytes) -> None:
    stated = plain(content)
    assert stated is not None
    assert (stated.width, stated.height) == (30, 40)


@pytest.mark.parametrize(
    "content",
    [
        noisy("WEBP"), noisy("GIF"), noisy(xmp=XMP), noisy(exif=oriented(6).tobytes()[:-9]),
        noisy()[:300], noisy("PNG")[:-20], b"\xff\xd8" + b"\xff\xfe\0\2" * 100 + noisy()[2:],
        b"\xff\xd8" + (b"\xff\xe1\0\x0aExif\0\0II" * 2) + noisy()[2:],
    ],
)  # fmt: skip
def test_what_is_unusual_is_not(content: bytes) -> None:
    assert plain(content) is None


@given(damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_an_orientation_is_that_which_pillow_finds(damage: list[tuple[int, int]]) -> None:
    exif = bytearray(oriented(6, t256=40, t282=72.5, t306="2026").tobytes())
    for place, value in damage:
        exif[6 + place % (len(exif) - 6)] = value
    stated = exif_orientation(bytes(exif[6:]))
    image = Image.new("L", (2, 2))
    image.info["exif"] = bytes(exif)
    if stated is not None:
        assert (stated if 1 <= stated <= 8 else 1) == orientation_of(image)


@given(damage=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=3))
def test_damaged_files_are_read_the_same_in_either_process(damage: list[tuple[int, int]]) -> None:
    content = bytearray(noisy(exif=oriented(6), quality=30))
    for place, value in damage:
        content[place % len(content)] = value
    here: list[bytes] = []
    apart: list[bytes] = []
    for kept, read in ((here, images.prepare), (apart, partial(images.prepare_here, match=False))):
        try:
            kept.append(read(bytes(content), LIKE, "x").pixels.tobytes())
        except opsin.ImageError:
            kept.append(b"refused")
    assert apart in (here, [b"refused"])
