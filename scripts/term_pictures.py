"""Make the pictures of the glossary's twelve terms that need one, with Opsin's own functions.

    python scripts/term_pictures.py [TERM…]

Each function is called after the key of the term that it draws. A picture has 40 kB at most.
"""

# ruff: noqa: D103  each function draws the term that it is called after
from __future__ import annotations

import functools
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from sklearn.manifold import TSNE

import opsin
from opsin.core.artifacts.run_report import Report
from opsin.core.glossary import glossary
from opsin.core.recipe import DataRecipe
from opsin.data.dataset import Dataset
from opsin.inspection.occlusion import occlusion_map
from opsin.inspection.summary import summarise
from opsin.models.resolve import resolve
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.report.figures.style import (
    INK,
    MUTED,
    PALETTE,
    RIGHT,
    WRONG,
    new_figure,
    show_pixels,
    styled,
)
from opsin.runtime.classifier import Classifier
from opsin.training.augment import augment

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "terms"
RUNS = tempfile.mkdtemp()
MOST = 40_000


# What the pictures are made of.


@functools.cache
def digits() -> Dataset:
    """Return the images that all pictures are about."""
    return opsin.load("digits")


@functools.cache
def trained(**options: Any) -> opsin.Run:
    """Return a run on the digits."""
    return opsin.train(digits(), runs=RUNS, quiet=True, seed=0, **options)


@functools.cache
def cnn() -> Classifier:
    """Return a small convolutional network."""
    return trained(model="cnn", depth=1, epochs=12).classifier()


def example(label: int, place: int = 0) -> NDArray[np.uint8]:
    """Return a test image of a class."""
    rows = digits().split.test
    image: NDArray[np.uint8] = digits().images[rows[digits().labels[rows] == label][place]]
    return image


def layer(classifier: Classifier, images: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
    """Return what a layer puts out for images."""
    values: NDArray[np.float32] = classifier.layers(images, [name])[name]
    return values


def judged(run: opsin.Run) -> Any:
    """Return a run's figures on the test images."""
    return run.directory.read(Report).judged


# How they are drawn.


def row(count: int, width: float = 6.0, height: float = 1.9, **options: Any) -> tuple[Figure, Any]:
    """Return a figure and its axes side by side."""
    figure = new_figure(width, height)
    return figure, figure.subplots(1, count, **options)


def put(axes: Axes, pixels: NDArray[np.uint8], title: str = "", colour: str = INK) -> None:
    """Draw an image with a line above it."""
    show_pixels(axes, pixels)
    axes.set_title(title, loc="center", fontsize=8, fontweight="normal", color=colour)


def put_values(axes: Axes, values: NDArray[Any], title: str = "", **options: Any) -> None:
    """Draw numbers as colours, each a square: viridis, or those that are given."""
    axes.imshow(values, interpolation="nearest", **{"cmap": "viridis", **options})
    axes.set_title(title, loc="center", fontsize=8, fontweight="normal")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def put_weights(axes: Axes, values: NDArray[Any], title: str = "", limit: float = 0.0) -> None:
    """Draw weights in a diverging map, centred on 0."""
    limit = limit or float(np.abs(values).max())
    put_values(axes, values, title, cmap="RdBu", vmin=-limit, vmax=limit)


def write_numbers(axes: Axes, values: NDArray[Any], colour: str = "white") -> None:
    """Write each number of a map into its square."""
    for (y, x), value in np.ndenumerate(values):
        axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)


def frame(axes: Axes, left: float, top: float, side: float, colour: str = PALETTE[5]) -> None:
    """Mark a square of an image."""
    box = Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=colour, linewidth=2)
    axes.add_patch(box)


def title(axes: Axes, text: str) -> None:
    """Say what a part of the picture shows."""
    axes.set_title(text, fontsize=8.5)


def arrow(axes: Axes, text: str) -> None:
    """Draw an arrow from one picture to the next, and say what happens there."""
    axes.axis("off")
    axes.annotate(
        "",
        (1, 0.5),
        (0, 0.5),
        xycoords="axes fraction",
        arrowprops={"arrowstyle": "->", "color": MUTED, "linewidth": 1.5},
    )
    axes.text(0.5, 0.56, text, ha="center", va="bottom", fontsize=8, transform=axes.transAxes)


# Images and labels.


def augmentation() -> Figure:
    recipe = resolve(DataRecipe.of("digits"), augment="symbols", erase=0.3).training
    image = torch.from_numpy(np.stack([example(3)] * 7))
    varied = augment(image, recipe, torch.Generator().manual_seed(1)).numpy()
    figure, axes = row(8, width=7.0, height=1.3)
    put(axes[0], example(3), "as it is")
    for place, each in enumerate(varied):
        put(axes[place + 1], each, f"epoch {place + 1}", MUTED)
    return figure


# Training.


def curves(axes: Axes, run: opsin.Run) -> None:
    """Draw the losses of a run, named at their ends."""
    for kind, name, colour, up in (
        ("train", "training", PALETTE[0], -4),
        ("val", "validation", PALETTE[1], 4),
    ):
        points = [getattr(each, f"{kind}_loss") for each in run.history]
        axes.plot(range(1, len(points) + 1), points, color=colour)
        axes.annotate(
            name,
            (len(points), points[-1]),
            (4, up),
            textcoords="offset points",
            color=colour,
            fontsize=8,
            va="center",
        )
    axes.set_xlabel("epoch", fontsize=8)
    axes.set_ylabel("loss", fontsize=8)
    axes.grid(visible=True)


def learning_rate() -> Figure:
    figure, axes = row(3, width=6.6, height=2.0, sharey=True)
    for each, rate, text in zip(
        axes, (1e-4, 0.1, 2.0), ("too small", "good", "too large"), strict=True
    ):
        run = trained(
            model="mlp",
            epochs=8,
            learning_rate=rate,
            schedule="constant",
            optimizer="sgd",
            patience=100,
        )
        losses = [min(epoch.train_loss, 4) for epoch in run.history]
        each.plot(range(1, len(losses) + 1), losses, color=RIGHT if text == "good" else WRONG)
        each.set_ylim(0, 4)
        each.set_xlabel("epoch", fontsize=8)
        each.grid(visible=True)
        title(each, f"{rate:g}: {text}")
    axes[0].set_ylabel("training loss", fontsize=8)
    return figure


def overfitting() -> Figure:
    data = digits()
    labels = data.labels[:400].copy()
    labels[::8] = (labels[::8] + 1) % 10
    few = opsin.from_arrays(data.images[:400], labels, val_fraction=0.4)
    run = opsin.train(
        few,
        model="mlp",
        hidden=(256,),
        epochs=60,
        learning_rate=3e-3,
        augment="none",
        dropout=0.0,
        weight_decay=0.0,
        label_smoothing=0.0,
        patience=1000,
        schedule="constant",
        runs=RUNS,
        quiet=True,
    )
    figure, axes = row(1, width=5.0, height=2.3)
    curves(axes, run)
    title(axes, f"{len(few.split.train)} images, every eighth label wrong, learnt by heart")
    return figure


# Networks and models.


def activation_function() -> Figure:
    figure, axes = row(4, width=6.6, height=1.8, sharey=True)
    at = torch.linspace(-3, 3, 200)
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "ReLU": torch.relu,
        "GELU": torch.nn.functional.gelu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
    }
    for each, (name, function) in zip(axes, functions.items(), strict=True):
        each.plot(at.numpy(), function(at).numpy(), color=PALETTE[0])
        each.axhline(0, color=MUTED, linewidth=0.6)
        each.set_xticks([-3, 0, 3])
        title(each, name)
    return figure


def filters() -> NDArray[np.float32]:
    """Return the filters of the first convolution, ``float32[filters, 3, 3]``."""
    content = OnnxGraph(cnn().content)
    held = next(each for each in content.weights.values() if each.shape[1:] == (1, 3, 3))
    return np.asarray(held[:, 0], np.float32)


def convolution() -> Figure:
    image, maps = example(7), layer(cnn(), example(7)[None], "block1.conv1")[0]
    chosen = int(maps.std(axis=(1, 2)).argmax())
    figure, axes = row(4, width=6.6, height=1.8, width_ratios=[2, 1, 0.8, 2])
    put(axes[0], image, "image")
    frame(axes[0], 2, 2, 3)
    put_weights(axes[1], filters()[chosen], "filter")
    arrow(axes[2], "fits?")
    put_values(axes[3], maps[chosen], "map")
    frame(axes[3], 3, 3, 1)
    return figure


def dropout() -> Figure:
    values = layer(cnn(), example(6)[None], "block1.pool")[0]
    kept = torch.nn.functional.dropout(
        torch.from_numpy(values.reshape(8, -1)).contiguous(), 0.5
    ).numpy()
    figure, (left, middle, right) = row(3, height=1.7, width_ratios=[3, 1, 3])
    put_values(left, values.reshape(8, -1), "values of a layer", vmin=0, vmax=values.max())
    arrow(middle, "dropout 0.5")
    put_values(
        right, np.where(kept == 0, np.nan, kept), "half of them at zero", vmin=0, vmax=values.max()
    )
    return figure


def max_pooling() -> Figure:
    maps = layer(cnn(), example(0)[None], "block1.relu2")[0]
    chosen = maps[maps.std(axis=(1, 2)).argmax()] * 10
    figure, (left, middle, right) = row(3, width=5.4, height=2.1, width_ratios=[2, 1, 2])
    put_values(left, chosen, "6×6")
    write_numbers(left, chosen)
    for y in range(0, 6, 2):
        for x in range(0, 6, 2):
            frame(left, x, y, 2, "white")
    arrow(middle, "largest of\neach 2×2")
    smaller = chosen.reshape(3, 2, 3, 2).max(axis=(1, 3))
    put_values(right, smaller, "3×3", vmin=chosen.min(), vmax=chosen.max())
    write_numbers(right, smaller)
    return figure


def embeddings(rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return what the layer before the last puts out."""
    return layer(cnn(), digits().images[rows], "embedding")


def receptive_field() -> Figure:
    rows = summarise(cnn(), OnnxGraph(cnn().content)).rows
    named = {each.name: each for each in rows}
    figure, axes = row(4, width=6.4, height=1.8)
    for each, name in zip(
        axes, ("input", "block1.conv1", "block1.conv2", "block1.pool"), strict=True
    ):
        shown, field = named[name], named[name].receptive_field
        assert field is not None
        y, x = (side // 2 for side in shown.shape[1:])
        top, left, bottom, _ = field.box(y, x, (8, 8))
        put(each, example(3), f"{name}\n{field.height}×{field.width}")
        frame(each, left, top, bottom - top)
    return figure


# Answers and figures.


@functools.cache
def weak() -> opsin.Run:
    """Return a run that makes mistakes enough to show."""
    return trained(model="mlp", epochs=2, hidden=(16,), learning_rate=0.01)


def calibration() -> Figure:
    figure, axes = row(2, width=5.4, height=2.5, sharey=True)
    rows = np.concatenate([digits().split.test, digits().split.val])
    shares = weak().classifier().probabilities(digits().images[rows])
    right = shares.argmax(axis=1) == digits().labels[rows]
    for each, power, text in zip(
        axes, (3.0, 1.0), ("Too sure of itself", "Calibrated"), strict=True
    ):
        told = shares**power / (shares**power).sum(axis=1, keepdims=True)
        sure = told.max(axis=1)
        each.plot([0, 1], [0, 1], ":", color=MUTED)
        for low in np.arange(0.2, 1, 0.16):
            here = (sure > low) & (sure <= low + 0.16)
            if here.sum() > 5:
                x, y = sure[here].mean(), right[here].mean()
                each.plot([x, x], [x, y], color=WRONG, linewidth=1.2)
                each.plot(x, y, "o", color=RIGHT)
        each.set_xlabel("confidence", fontsize=8)
        title(each, text)
    axes[0].set_ylabel("accuracy", fontsize=8)
    return figure


def counts_of(axes: Axes, counts: NDArray[np.int64]) -> None:
    """Draw a confusion matrix, right ones blue and mistakes red."""
    names = digits().classes
    for (actual, answer), number in np.ndenumerate(counts):
        right = actual == answer
        share = number / max(1, counts[actual].sum())
        colour = "#e4edf6" if right else (WRONG if number else "white")
        axes.add_patch(
            Rectangle(
                (answer - 0.5, actual - 0.5),
                0.94,
                0.94,
                color=colour,
                alpha=1 if right else min(1, 0.15 + 2 * share),
            )
        )
        if number:
            axes.text(answer, actual, str(number), ha="center", va="center", fontsize=7)
    axes.set(xlim=(-0.5, 9.5), ylim=(9.5, -0.5))
    axes.set_xticks(range(10), names, fontsize=7)
    axes.set_yticks(range(10), names, fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("answer", fontsize=8)
    axes.set_ylabel("class", fontsize=8)


def confusion_matrix() -> Figure:
    counts = np.array(judged(weak()).confusion)
    figure, axes = row(1, width=4.2, height=3.2)
    counts_of(axes, counts)
    title(
        axes,
        f"{np.trace(counts)} of {counts.sum()} right: accuracy "
        f"{np.trace(counts) / counts.sum():.2f}",
    )
    return figure


# Looking inside.


def embedding() -> Figure:
    rows = digits().split.test
    places = TSNE(2, random_state=0, init="pca").fit_transform(embeddings(rows))
    figure, axes = row(1, width=4.6, height=2.9)
    colours = [*PALETTE, "#8f8f00", "#7f7f7f", "#5b3a9e", "#a05a2c"]
    for label, colour in enumerate(colours):
        own = places[digits().labels[rows] == label]
        axes.plot(*own.T, "o", color=colour, markersize=3)
        axes.text(
            *np.median(own, axis=0),
            str(label),
            fontsize=12,
            fontweight="bold",
            ha="center",
            va="center",
        )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    title(axes, "Test images: those that the network sees alike lie close")
    return figure


def heat_of(image: NDArray[np.uint8], target: int) -> NDArray[np.float32]:
    """Return an occlusion map of an image."""
    fill = digits().images[digits().split.train].mean(axis=(0, 1, 2)).astype(np.uint8)
    return occlusion_map(cnn().probabilities, image, target, fill)


def heat_map() -> Figure:
    figure, axes = row(4, width=6.4, height=1.8)
    for place, target in enumerate((3, 9)):
        image = example(target, 1)
        put(axes[2 * place], image, f"{target}, {cnn().probabilities(image[None])[0, target]:.0%}")
        put_values(axes[2 * place + 1], heat_of(image, target), "bright parts speak for it")
    return figure


def written(figure: Figure) -> bytes:
    """Return a figure as a PNG file with as many colours as it needs, and no more."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white", bbox_inches="tight", pad_inches=0.06)
    image = Image.open(stream).convert("RGB")
    for colours in (128, 24):
        small = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        if small.tell() <= MOST:
            break
    return small.getvalue()


def main(wanted: Sequence[str]) -> None:
    """Make the pictures of some terms, or of all."""
    FOLDER.mkdir(exist_ok=True)
    keys = {term.picture for section in glossary().values() for term in section if term.picture}
    for key in sorted(wanted or keys):
        draw = globals()[key.replace("-", "_")]
        with styled():
            content = written(draw())
        if len(content) > MOST:
            raise SystemExit(f"{key}: {len(content):,} bytes, more than {MOST:,}")
        (FOLDER / f"{key}.png").write_bytes(content)
        print(f"{key:<26}{len(content):>7,}")


if __name__ == "__main__":
    main(sys.argv[1:])
