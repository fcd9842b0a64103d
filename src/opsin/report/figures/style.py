"""One look for every figure."""

from __future__ import annotations

import contextlib
import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from opsin.core.storage import atomic_file
from opsin.report.terminal import printable

#: Right and wrong, everywhere; told apart by colour-blind readers too.
RIGHT: Final = "#2166ac"
WRONG: Final = "#b2182b"
#: Every other series (Okabe and Ito, "Color universal design", 2008).
PALETTE: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
#: The colour of text and axes, reserved so that a page can replace it.
INK: Final = "#1c2127"
MUTED: Final = "#8a929c"
EMPTY: Final = "#e9ecef"
DPI: Final = 150

# For class names in scripts that matplotlib's own font lacks; those that are installed are used.
_FONTS: Final = (
    "DejaVu Sans", "Noto Sans CJK JP", "Noto Sans", "Microsoft YaHei", "Hiragino Sans",
    "Arial Unicode MS", "Segoe UI Symbol",
)  # fmt: skip


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw and save in Opsin's look, without touching the caller's settings."""
    installed = set(font_manager.get_font_names())
    style: Any = {
        "font.family": [name for name in _FONTS if name in installed],
        "font.size": 9,
        "text.color": INK,
        "text.parse_math": False,  # a class may be called "5 $"
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.autolayout": False,
        "figure.constrained_layout.use": False,
        "grid.color": MUTED,
        "grid.alpha": 0.25,
        "xtick.color": INK,
        "ytick.color": INK,
        "svg.hashsalt": "opsin",  # the same figure gives the same file
        "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        # A name in a script without an installed font is drawn as boxes; that is no error.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure; the file's ending decides the format."""
    kind = path.suffix.removeprefix(".").lower() or "png"
    with atomic_file(path) as temporary:
        _write(figure, temporary, kind)
    return path


def svg_of(figure: Figure) -> str:
    """Return a figure as SVG, for a page that holds it."""
    stream = io.BytesIO()
    _write(figure, stream, "svg")
    return stream.getvalue().decode("utf-8")


def _write(figure: Figure, file: Path | io.BytesIO, kind: str) -> None:
    # Left to itself, matplotlib lays it out twice for each file, and draws it once for nothing.
    engine = figure.get_layout_engine()
    if engine is not None and figure.axes:
        engine.execute(figure)
        figure.set_layout_engine(None)
    if kind == "png":
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        # Without the fourth channel, and packed in a quarter of the time into as many bytes.
        pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
        pixels.save(file, "png", compress_level=1, dpi=(DPI, DPI))
        return
    # Without dates, so that the same figure gives the same file.
    metadata = {"Date": None} if kind == "svg" else {}
    # A page lends an SVG its own background.
    figure.savefig(file, format=kind, metadata=metadata, transparent=kind == "svg")


def show_pixels(axes: Axes, pixels: Any, **options: Any) -> Any:
    """Draw an image enlarged, each pixel a square, without axes."""
    grey = pixels.shape[2] == 1
    if grey:
        options = {"cmap": "gray", "vmin": 0, "vmax": 255, **options}
    drawn = axes.imshow(pixels[:, :, 0] if grey else pixels, interpolation="nearest", **options)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return drawn


def title_of(figure: Figure, text: str) -> None:
    """Write the finding over a figure, on as many lines as it takes."""
    # About ten of the bold letters go to an inch.
    lines = textwrap.wrap(text, int(10 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10.5, fontweight="bold")


def name_ends(axes: Axes, ends: Sequence[tuple[str, str, float, float]]) -> None:
    """Write names beside the ends of drawn lines (name, colour, x, y), moved apart."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    to_share = axes.transData + axes.transAxes.inverted()

    def height(end: tuple[str, str, float, float]) -> float:
        share = float(to_share.transform(end[2:])[1])
        return share if math.isfinite(share) else 0.0

    # The height of a line of text, as a share of the axes.
    step = min(0.075, 1 / max(1, len(ends)))
    ordered = sorted(ends, key=height)
    heights = [height(end) for end in ordered]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + step)
    heights[-1] = min(heights[-1], 1.0)
    for i in reversed(range(len(heights) - 1)):
        heights[i] = min(heights[i], heights[i + 1] - step)
    for (name, colour, x, y), at in zip(ordered, heights, strict=True):
        line = {"color": colour, "linewidth": 0.6, "linestyle": ":", "shrinkA": 0}
        axes.annotate(
            name,
            (x, y),
            (1.03, at),
            textcoords="axes fraction",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", **line},
            color=colour,
            fontsize=8,
            fontweight="bold",
            va="center",
        )


def shorten(text: str, length: int = 18) -> str:
    """Shorten in the middle, where names differ least."""
    text = printable(" ".join(text.split()))
    if len(text) <= length:
        return text
    front = length // 2
    return f"{text[:front]}…{text[len(text) - (length - front - 1) :]}"
