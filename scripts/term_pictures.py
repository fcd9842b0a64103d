"""Make the pictures of the glossary, with Opsin's own functions on `digits`.

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
from sklearn.datasets import load_sample_image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import opsin
from opsin.commands.known_images import known_images
from opsin.core.artifacts.run_report import Report
from opsin.core.glossary import glossary
from opsin.core.metadata import Preparation
from opsin.core.recipe import DataRecipe
from opsin.data.dataset import Dataset
from opsin.data.resize import to_pixels
from opsin.evaluation.intervals import wilson
from opsin.evaluation.robustness import disturbed_examples
from opsin.inspection.ablation import ablate
from opsin.inspection.occlusion import occlusion_map
from opsin.inspection.probes import probe_layers
from opsin.inspection.summary import summarise
from opsin.models.resolve import resolve
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.report.figures.style import (
    EMPTY,
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
from opsin.training.optimizers import rate_at

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


@functools.cache
def mlp() -> Classifier:
    """Return a network of dense layers."""
    return trained(model="mlp", epochs=12).classifier()


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


def flat(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return images as rows of pixels from 0 to 1."""
    pixels: NDArray[np.float64] = digits().images[rows].reshape(len(rows), -1) / 255
    return pixels


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


def bars(axes: Axes, names: Sequence[str], values: Any, colours: Any, form: str = "{:.0%}") -> None:
    """Draw named bars with their values at the ends."""
    axes.barh(range(len(names)), values, color=colours)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    for place, value in enumerate(values):
        axes.text(max(value, 0), place, f" {form.format(value)}", va="center", fontsize=7.5)


def title(axes: Axes, text: str) -> None:
    """Say what a part of the picture shows."""
    axes.set_title(text, fontsize=8.5)


def arrow(axes: Axes, text: str) -> None:
    """Draw an arrow from one picture to the next, and say what happens there."""
    axes.axis("off")
    axes.annotate("", (1, 0.5), (0, 0.5), xycoords="axes fraction",
                  arrowprops={"arrowstyle": "->", "color": MUTED, "linewidth": 1.5})  # fmt: skip
    axes.text(0.5, 0.56, text, ha="center", va="bottom", fontsize=8, transform=axes.transAxes)


# Images and labels.


def audit() -> Figure:
    data = digits()
    copies = np.concatenate([data.images[:300], data.images[4:5], np.zeros((1, 8, 8, 1), np.uint8)])
    labels = np.concatenate([data.labels[:300], [(data.labels[4] + 4) % 10, 0]])
    found = {each.kind: each for each in opsin.audit(opsin.from_arrays(copies, labels)).findings}
    figure, axes = row(4, height=1.8)
    put(axes[0], copies[4], f"label {labels[4]}")
    put(axes[1], copies[300], f"same image, label {labels[300]}", WRONG)
    put(axes[2], copies[301], "blank, label 0", WRONG)
    axes[3].axis("off")
    said = "\n".join(f"{each.count} {each.title.lower()}" for each in found.values())
    axes[3].text(0, 0.5, said, fontsize=7.5, va="center", wrap=True)
    return figure


def augmentation() -> Figure:
    recipe = resolve(DataRecipe.of("digits"), augment="symbols", erase=0.3).training
    image = torch.from_numpy(np.stack([example(3)] * 7))
    varied = augment(image, recipe, torch.Generator().manual_seed(1)).numpy()
    figure, axes = row(8, width=7.0, height=1.3)
    put(axes[0], example(3), "as it is")
    for place, each in enumerate(varied):
        put(axes[place + 1], each, f"epoch {place + 1}", MUTED)
    return figure


def photograph() -> NDArray[np.uint8]:
    """Return a photograph that scikit-learn brings along."""
    return np.asarray(Image.fromarray(load_sample_image("flower.jpg")).resize((96, 64)))


def channel() -> Figure:
    figure, axes = row(4, height=1.5)
    put(axes[0], photograph(), "colour: 3 channels")
    for place, name in enumerate(("red", "green", "blue")):
        put(axes[place + 1], photograph() * (np.arange(3) == place).astype(np.uint8), name)
    return figure


def class_() -> Figure:
    figure, axes = row(10, width=7.0, height=1.15)
    for label, each in enumerate(axes):
        put(each, example(label), digits().classes[label])
    return figure


def class_balance() -> Figure:
    labels = digits().labels
    kept = np.concatenate([np.flatnonzero(labels == label)[: 170 if label < 8 else 20]
                           for label in range(5, 10)])  # fmt: skip
    counts = np.bincount(labels[kept])[5:]
    figure, (left, right) = row(2, height=2.0)
    colours = [WRONG if count < 100 else RIGHT for count in counts]
    bars(left, list("56789"), counts, colours, "{:.0f}")
    title(left, "Images in each class")
    bars(right, list("56789"), counts.mean() / counts, colours, "{:.1f}")
    title(right, "Weight in the loss with balance")
    return figure


def duplicate() -> Figure:
    image = example(5)
    turned = Image.fromarray(image[..., 0]).resize((7, 7)).resize((8, 8))
    figure, axes = row(4, height=1.8)
    put(axes[0], image, "image")
    put(axes[1], image, "exact duplicate", WRONG)
    put(axes[2], np.asarray(turned)[..., None], "near duplicate: resized", WRONG)
    put(axes[3], example(5, 3), "no duplicate, same class", RIGHT)
    return figure


def fold() -> Figure:
    figure, axes = row(1, width=5.0, height=2.0)
    for training in range(5):
        for part in range(5):
            tested = part == training
            colour = PALETTE[1] if tested else EMPTY
            axes.add_patch(Rectangle((part, training), 0.94, 0.8, color=colour))
            axes.text(part + 0.47, training + 0.4, "test" if tested else "train", ha="center",
                      va="center", fontsize=8, color=INK)  # fmt: skip
    axes.set(xlim=(0, 5), ylim=(5, 0), xticks=[], title="Five folds, five trainings")
    axes.set_yticks(np.arange(5) + 0.4, [f"training {each}" for each in range(1, 6)], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def label() -> Figure:
    figure, axes = row(4, height=1.8)
    put(axes[0], example(3), "label 3", RIGHT)
    put(axes[1], example(8, 2), "label 8", RIGHT)
    put(axes[2], example(9), "label 9", RIGHT)
    put(axes[3], example(5, 1), "label 9, suspected", WRONG)
    return figure


def leak() -> Figure:
    figure, axes = row(3, height=1.8)
    put(axes[0], example(4, 1), "train")
    arrow(axes[1], "copied")
    put(axes[2], example(4, 1), "test: it has seen the answer", WRONG)
    return figure


def preparation() -> Figure:
    photo = Image.fromarray(photograph())
    figure, axes = row(4, height=1.7)
    put(axes[0], photograph(), "96×64 pixels")
    for place, how in enumerate(("fit", "fill", "squash")):
        made = to_pixels(photo, Preparation(height=48, width=48, channels=3, resize=how))
        put(axes[place + 1], made, f"{how}, 48×48")
    return figure


def split() -> Figure:
    parts = digits().split
    figure, axes = row(1, height=1.2)
    left = 0
    for name, rows, colour in (("train", parts.train, MUTED), ("validation", parts.val, PALETTE[4]),
                               ("test", parts.test, PALETTE[1])):  # fmt: skip
        axes.barh(0, len(rows), left=left, color=colour)
        axes.text(left + len(rows) / 2, 0.5, f"{name}\n{len(rows):,}", ha="center", va="bottom",
                  fontsize=8)  # fmt: skip
        left += len(rows)
    axes.set(ylim=(-0.5, 1.3), xticks=[], yticks=[])
    title(axes, f"{left:,} images of digits")
    axes.spines[:].set_visible(False)
    return figure


# Training.


def batch() -> Figure:
    rows = digits().split.train
    figure, axes = row(4, height=1.9)
    for place, each in enumerate(axes[:3]):
        images = digits().images[rows[16 * place : 16 * (place + 1)], ..., 0]
        tiled = np.pad(images, ((0, 0), (0, 1), (0, 1)), constant_values=128)
        whole = tiled.reshape(4, 4, 9, 9).swapaxes(1, 2).reshape(36, 36)[:-1, :-1]
        put(each, whole[..., None], f"step {place + 1}: 16 images")
    axes[3].axis("off")
    axes[3].text(0, 0.5, f"… {-(-len(rows) // 16)} steps\nmake one epoch\nof {len(rows):,} images",
                 fontsize=8, va="center")  # fmt: skip
    return figure


def curves(axes: Axes, run: opsin.Run) -> None:
    """Draw the losses of a run, named at their ends."""
    for kind, name, colour, up in (("train", "training", PALETTE[0], -4),
                                   ("val", "validation", PALETTE[1], 4)):  # fmt: skip
        points = [getattr(each, f"{kind}_loss") for each in run.history]
        axes.plot(range(1, len(points) + 1), points, color=colour)
        axes.annotate(name, (len(points), points[-1]), (4, up), textcoords="offset points",
                      color=colour, fontsize=8, va="center")  # fmt: skip
    axes.set_xlabel("epoch", fontsize=8)
    axes.set_ylabel("loss", fontsize=8)
    axes.grid(visible=True)


def epoch() -> Figure:
    figure, axes = row(1, width=5.0, height=2.3)
    curves(axes, trained(model="mlp", epochs=12))
    title(axes, "Each epoch, the network has seen every image once more")
    return figure


def gradient() -> Figure:
    rows = digits().split.train
    pixels, labels = flat(rows), digits().labels[rows] == 0
    at = np.linspace(-3, 9, 200)

    def loss(weight: float) -> float:
        shown = 1 / (1 + np.exp(-(weight * (0.5 - pixels[:, 36]) - 1)))
        return float(-np.log(np.where(labels, shown, 1 - shown)).mean())

    values = [loss(each) for each in at]
    figure, axes = row(1, width=5.0, height=2.2)
    axes.plot(at, values, color=PALETTE[0])
    here, slope = -1.5, (loss(-1.4) - loss(-1.6)) / 0.2
    axes.plot(here, loss(here), "o", color=WRONG)
    axes.plot([here - 1, here + 1.5], [loss(here) - slope, loss(here) + 1.5 * slope], color=MUTED)
    axes.annotate("one step, against the slope", (here + 1.6, loss(here + 1.6)), (25, 25),
                  textcoords="offset points", fontsize=8,
                  arrowprops={"arrowstyle": "->", "color": MUTED})  # fmt: skip
    axes.set_xlabel("one weight", fontsize=8)
    axes.set_ylabel("loss", fontsize=8)
    title(axes, "The gradient is the slope of the loss")
    return figure


def label_smoothing() -> Figure:
    figure, axes = row(2, height=2.0)
    for each, share, text in zip(axes, (0.0, 0.1), ("Target", "With label smoothing 0.1"),
                                 strict=True):  # fmt: skip
        target = [share / 10 + (1 - share) * (place == 3) for place in range(10)]
        bars(each, digits().classes, target, RIGHT, "{:.0%}")
        title(each, text)
    return figure


def learning_rate() -> Figure:
    figure, axes = row(3, width=6.6, height=2.0, sharey=True)
    for each, rate, text in zip(axes, (1e-4, 0.1, 2.0), ("too small", "good", "too large"),
                                strict=True):  # fmt: skip
        run = trained(model="mlp", epochs=8, rate=rate, schedule="constant", optimizer="sgd",
                      patience=100)  # fmt: skip
        losses = [min(epoch.train_loss, 4) for epoch in run.history]
        each.plot(range(1, len(losses) + 1), losses, color=RIGHT if text == "good" else WRONG)
        each.set_ylim(0, 4)
        each.set_xlabel("epoch", fontsize=8)
        each.grid(visible=True)
        title(each, f"{rate:g}: {text}")
    axes[0].set_ylabel("training loss", fontsize=8)
    return figure


def learning_rate_schedule() -> Figure:
    figure, axes = row(1, width=5.2, height=2.2)
    at = np.linspace(0, 1, 300)
    for schedule, colour in zip(("constant", "cosine", "one-cycle", "step"), PALETTE, strict=False):
        recipe = resolve(DataRecipe.of("digits"), schedule=schedule, rate=1e-3).training
        axes.plot(at, [rate_at(recipe, each) for each in at], color=colour, label=schedule)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xlabel("share of the training", fontsize=8)
    axes.set_ylabel("learning rate", fontsize=8)
    return figure


def log_loss() -> Figure:
    figure, axes = row(1, width=5.0, height=2.2)
    at = np.linspace(0.01, 1, 200)
    axes.plot(at, -np.log(at), color=PALETTE[0])
    for share, text in ((0.01, "1%: sure and wrong"), (0.1, "10%: guessing among ten"),
                        (0.9, "90%: nearly sure")):  # fmt: skip
        axes.plot(share, -np.log(share), "o", color=WRONG if share < 0.5 else RIGHT)
        axes.annotate(text, (share, -np.log(share)), (8, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("probability of the right class", fontsize=8)
    axes.set_ylabel("loss (nats)", fontsize=8)
    axes.grid(visible=True)
    return figure


def momentum() -> Figure:
    figure, axes = row(2, height=2.1, sharey=True)
    across, up = np.meshgrid(np.linspace(-1, 10, 100), np.linspace(-3, 3, 80))
    for each, keep in zip(axes, (0.0, 0.8), strict=True):
        each.contour(across, up, across**2 / 20 + up**2, 8, colors=MUTED, linewidths=0.6)
        place, speed, path = np.array([9.0, 2.5]), np.zeros(2), []
        for _ in range(25):
            path.append(place.copy())
            speed = keep * speed - 0.3 * (1 - keep / 2) * np.array([place[0] / 10, 2 * place[1]])
            place = place + speed
        each.plot(*np.array(path).T, "o-", color=PALETTE[0], markersize=2.5, linewidth=1)
        each.plot(0, 0, "+", color=WRONG, markersize=9)
        each.set(xticks=[], yticks=[])
        title(each, f"25 steps with momentum {keep:g}" if keep else "25 steps without momentum")
    return figure


def overfitting() -> Figure:
    data = digits()
    labels = data.labels[:400].copy()
    labels[::8] = (labels[::8] + 1) % 10
    few = opsin.from_arrays(data.images[:400], labels, val_fraction=0.4)
    run = opsin.train(few, model="mlp", hidden=(256,), epochs=60, rate=3e-3, augment="none",
                      dropout=0.0, weight_decay=0.0, label_smoothing=0.0, patience=1000,
                      schedule="constant", runs=RUNS, quiet=True)  # fmt: skip
    figure, axes = row(1, width=5.0, height=2.3)
    curves(axes, run)
    title(axes, f"{len(few.split.train)} images, every eighth label wrong, learnt by heart")
    return figure


def regularisation() -> Figure:
    rows = digits().split.train
    figure, axes = row(3, height=2.0)
    for each, strength in zip(axes, (0.001, 0.1, 100.0), strict=True):
        model = LogisticRegression(C=strength, max_iter=2000)
        weights = model.fit(flat(rows), digits().labels[rows]).coef_[3].reshape(8, 8)
        put_weights(each, weights, f"c = {strength:g}, largest weight {np.abs(weights).max():.2g}")
    return figure


def seed() -> Figure:
    figure, axes = row(1, width=5.0, height=1.7)
    scores = [
        judged(opsin.train(digits(), model="mlp", epochs=4, seed=each, runs=RUNS, quiet=True))
        for each in range(6)
    ]
    for place, each in enumerate(scores):
        axes.plot(each.accuracy, place, "o", color=PALETTE[0])
        axes.text(each.accuracy, place, f"  seed {place}: {each.accuracy:.3f}", va="center",
                  fontsize=8)  # fmt: skip
    axes.set(yticks=[], ylim=(-0.7, 5.7))
    axes.margins(x=0.25)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("accuracy on the same test images", fontsize=8)
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


def batch_normalisation() -> Figure:
    images = digits().images[digits().split.val]
    figure, axes = row(2, height=2.0, sharey=True)
    for each, name, text in zip(axes, ("block1.relu1", "block1.norm"), ("Before", "After"),
                                strict=True):  # fmt: skip
        values = layer(cnn(), images, name)
        for place, colour in enumerate(PALETTE[:4]):
            each.hist(values[:, place].ravel(), bins=np.linspace(-2, 4, 60), histtype="step",
                      color=colour, density=True)  # fmt: skip
        each.set(ylim=(0, 2), yticks=[])
        each.set_xlabel("value", fontsize=8)
        title(each, f"{text}: four channels")
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


def decision_tree() -> Figure:
    rows = digits().split.train
    few = rows[np.isin(digits().labels[rows], (0, 1, 4))]
    tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(flat(few), digits().labels[few])
    inner, figure = tree.tree_, new_figure(5.6, 2.3)
    axes = figure.subplots()
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))

    def put_node(node: int, left: float, right: float, height: float) -> None:
        middle = (left + right) / 2
        question = inner.feature[node] >= 0
        pixel = divmod(int(inner.feature[node]), 8)
        text = (
            f"pixel {pixel} brighter\nthan {255 * inner.threshold[node]:.0f}?"
            if question else f"{tree.classes_[inner.value[node][0].argmax()]}"
        )  # fmt: skip
        axes.text(middle, height, text, ha="center", va="center", fontsize=8,
                  bbox={"boxstyle": "round", "facecolor": EMPTY if question else "#e4edf6",
                        "edgecolor": "none"})  # fmt: skip
        if question:
            ends = (("no", inner.children_left[node], left, middle),
                    ("yes", inner.children_right[node], middle, right))  # fmt: skip
            for said, child, low, high in ends:
                there = (low + high) / 2
                axes.plot([middle, there], [height - 0.1, height - 0.28], color=MUTED, zorder=0)
                side = "right" if said == "no" else "left"
                axes.text((middle + there) / 2, height - 0.17, f"  {said}  ", fontsize=7.5, ha=side)
                put_node(child, low, high, height - 0.38)

    put_node(0, 0, 1, 0.9)
    return figure


def dense_layer() -> Figure:
    held = [each for each in OnnxGraph(mlp().content).weights.values() if sorted(each.shape) ==
            [10, 128]]  # fmt: skip
    weights = held[0] if held[0].shape[0] == 10 else held[0].T
    figure, axes = row(1, width=5.0, height=2.4)
    limit = np.abs(weights[:, :8]).max()
    for source in range(8):
        for target in range(10):
            weight = weights[target, source]
            axes.plot([0, 1], [source / 7, target / 9], linewidth=2.2 * abs(weight) / limit,
                      color=RIGHT if weight > 0 else WRONG)  # fmt: skip
    axes.plot([0] * 8, np.arange(8) / 7, "o", color=INK, markersize=4)
    axes.plot([1] * 10, np.arange(10) / 9, "o", color=INK, markersize=4)
    for target in range(10):
        axes.text(1.04, target / 9, digits().classes[target], va="center", fontsize=8)
    axes.text(-0.04, 0.5, "8 of\n128 units", ha="right", va="center", fontsize=8)
    axes.axis("off")
    axes.set_xlim(-0.3, 1.2)
    title(axes, "Every output is a weighted sum of all inputs (blue: +, red: −)")
    return figure


def dropout() -> Figure:
    values = layer(cnn(), example(6)[None], "block1.pool")[0]
    kept = torch.nn.functional.dropout(
        torch.from_numpy(values.reshape(8, -1)).contiguous(), 0.5
    ).numpy()
    figure, (left, middle, right) = row(3, height=1.7, width_ratios=[3, 1, 3])
    put_values(left, values.reshape(8, -1), "values of a layer", vmin=0, vmax=values.max())
    arrow(middle, "dropout 0.5")
    put_values(right, np.where(kept == 0, np.nan, kept), "half of them at zero", vmin=0,
               vmax=values.max())  # fmt: skip
    return figure


def feature_map() -> Figure:
    figure, axes = row(7, width=7.0, height=1.4)
    put(axes[0], example(2), "image")
    maps = layer(cnn(), example(2)[None], "block1.relu1")[0]
    for each, place in zip(axes[1:], np.argsort(-maps.std(axis=(1, 2)))[:6], strict=True):
        put_values(each, maps[place], f"map {place}")
    return figure


def filter_() -> Figure:
    figure, axes = row(8, width=7.0, height=1.1)
    limit = float(np.abs(filters()).max())
    for place, each in enumerate(axes):
        put_weights(each, filters()[place], f"{place}", limit)
    return figure


def flatten() -> Figure:
    figure = new_figure(6.6, 1.6)
    left, right = figure.subplots(1, 2, width_ratios=[1, 5])
    put(left, example(3), "8×8 pixels")
    put(right, example(3).reshape(2, 32, 1).repeat(2, 0)[:2], "")
    right.clear()
    put(right, np.repeat(example(3).reshape(1, 64, 1), 3, axis=0), "a row of 64 numbers")
    return figure


def global_pooling() -> Figure:
    maps = layer(cnn(), example(8)[None], "block1.relu2")[0]
    chosen = np.argsort(-maps.std(axis=(1, 2)))[:5]
    figure, axes = row(5, width=6.4, height=1.7)
    for each, place in zip(axes, chosen, strict=True):
        put_values(each, maps[place])
        y, x = np.unravel_index(maps[place].argmax(), maps[place].shape)
        frame(each, float(x), float(y), 1)
        each.set_xlabel(f"largest: {maps[place].max():.2f}", fontsize=8)
    return figure


def hidden_layer() -> Figure:
    image = example(5)
    hidden = layer(mlp(), image[None], "relu1")[0].reshape(8, 16)
    figure = new_figure(6.6, 2.0)
    axes = figure.subplots(1, 5, width_ratios=[1.2, 0.5, 2, 0.5, 1.2])
    put(axes[0], image, "image: 64 pixels")
    arrow(axes[1], "")
    put_values(axes[2], hidden, "hidden layer: 128 units")
    arrow(axes[3], "")
    shares = mlp().probabilities(image[None])[0]
    bars(axes[4], digits().classes, shares, [RIGHT if each == 5 else MUTED for each in range(10)])
    axes[4].set_title("answer", fontsize=8, fontweight="normal", loc="center")
    return figure


def logistic_regression() -> Figure:
    rows = digits().split.train
    model = LogisticRegression(C=0.1, max_iter=2000).fit(flat(rows), digits().labels[rows])
    figure, axes = row(10, width=7.0, height=1.15)
    for place, each in enumerate(axes):
        weights = model.coef_[place].reshape(8, 8)
        put_weights(each, weights, digits().classes[place], float(np.abs(model.coef_).max()))
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


def nearest_neighbours() -> Figure:
    train, image = digits().split.train, example(9, 2)
    known = embeddings(train)
    own = layer(cnn(), image[None], "embedding")[0]
    alike = known @ own / np.linalg.norm(known, axis=1) / np.linalg.norm(own)
    figure, axes = row(6, width=6.6, height=1.5)
    put(axes[0], image, "image")
    for each, place in zip(axes[1:], np.argsort(-alike)[:5], strict=True):
        put(each, digits().images[train[place]],
            f"{digits().labels[train[place]]}, {alike[place]:.3f}", MUTED)  # fmt: skip
    return figure


def normalisation() -> Figure:
    images = digits().images[digits().split.train]
    figure, axes = row(2, height=1.9)
    axes[0].hist(images.ravel(), bins=40, color=PALETTE[0])
    title(axes[0], f"Pixels: mean {images.mean():.0f}, spread {images.std():.0f}")
    values = layer(cnn(), images[:500], "input")
    axes[1].hist(values.ravel(), bins=40, color=PALETTE[0])
    title(axes[1], f"Normalised: mean {values.mean():.1f}, spread {values.std():.1f}")
    for each in axes:
        each.set_yticks([])
    return figure


def padding() -> Figure:
    image = example(1)[..., 0].astype(int)
    figure, axes = row(2, width=5.0, height=2.3)
    padded = np.ma.masked_equal(np.pad(image, 1, constant_values=-1), -1)
    put_values(axes[0], padded, "same: with a border of zeros", cmap="gray")
    axes[0].set_facecolor("#c8dcf0")
    frame(axes[0], 0, 0, 3)
    axes[0].set_xlabel("8×8 in, 8×8 out", fontsize=8)
    put_values(axes[1], image, "valid: without padding", cmap="gray")
    frame(axes[1], 0, 0, 3)
    axes[1].set_xlabel("8×8 in, 6×6 out", fontsize=8)
    return figure


def parameter() -> Figure:
    rows = [each for each in summarise(cnn(), OnnxGraph(cnn().content), timed=False).rows
            if each.parameters]  # fmt: skip
    figure, axes = row(2, width=6.4, height=1.8)
    names = [each.name for each in rows]
    bars(axes[0], names, [each.parameters for each in rows], PALETTE[0], "{:,.0f}")
    title(axes[0], "Parameters")
    bars(axes[1], [""] * len(rows), [each.multiply_adds for each in rows], PALETTE[1], "{:,.0f}")
    title(axes[1], "Multiply-adds an image")
    for each in axes:
        each.margins(x=0.3)
    return figure


def principal_components() -> Figure:
    found = PCA(40).fit(flat(digits().split.train))
    figure, axes = row(8, width=7.0, height=1.3)
    for place in range(4):
        put_weights(axes[place], found.components_[place].reshape(8, 8), f"component {place + 1}")
    values = found.transform(example(3).reshape(1, -1) / 255)
    for each, count in zip(axes[4:7], (3, 10, 40), strict=True):
        made = values[:, :count] @ found.components_[:count] + found.mean_
        put_values(each, made.reshape(8, 8), f"from {count}", cmap="gray", vmin=0, vmax=1)
    put(axes[7], example(3), "all 64 pixels")
    return figure


def receptive_field() -> Figure:
    rows = summarise(cnn(), OnnxGraph(cnn().content), timed=False).rows
    named = {each.name: each for each in rows}
    figure, axes = row(4, width=6.4, height=1.8)
    for each, name in zip(axes, ("input", "block1.conv1", "block1.conv2", "block1.pool"),
                          strict=True):  # fmt: skip
        shown, field = named[name], named[name].receptive_field
        assert field is not None
        y, x = (side // 2 for side in shown.shape[1:])
        top, left, bottom, _ = field.box(y, x, (8, 8))
        put(each, example(3), f"{name}\n{field.height}×{field.width}")
        frame(each, left, top, bottom - top)
    return figure


def residual_connection() -> Figure:
    figure, axes = row(1, width=5.4, height=1.7)
    axes.axis("off")
    axes.set(xlim=(0, 10), ylim=(0, 3))
    for left, text in ((0.2, "in"), (2.4, "Conv"), (4.4, "BatchNorm"), (6.4, "ReLU"), (8.6, "+")):
        axes.text(left + 0.6, 1, text, ha="center", va="center", fontsize=9,
                  bbox={"boxstyle": "round", "facecolor": EMPTY, "edgecolor": "none"})  # fmt: skip
    for start, end in ((1.2, 2.4), (3.5, 4.1), (6.0, 6.4), (7.6, 8.9)):
        axes.annotate("", (end, 1), (start, 1), arrowprops={"arrowstyle": "->", "color": MUTED})
    axes.annotate("", (9.2, 1.3), (0.8, 1.3),
                  arrowprops={"arrowstyle": "->", "color": RIGHT, "linewidth": 1.8,
                              "connectionstyle": "arc3,rad=-0.25"})  # fmt: skip
    axes.text(5, 2.75, "the residual connection goes past the block", ha="center", color=RIGHT,
              fontsize=8)  # fmt: skip
    return figure


def softmax() -> Figure:
    image = example(9, 1)
    logits = np.log(mlp().probabilities(image[None])[0])
    logits -= logits.mean()
    shares = np.exp(logits) / np.exp(logits).sum()
    figure, (left, middle, right) = row(3, height=2.1, width_ratios=[3, 1, 3])
    colours = [RIGHT if each == logits.argmax() else MUTED for each in range(10)]
    bars(left, digits().classes, logits, colours, "{:.1f}")
    title(left, "Logits")
    left.margins(x=0.15)
    arrow(middle, "softmax")
    bars(right, digits().classes, shares, colours, "{:.1%}")
    title(right, "Probabilities")
    right.margins(x=0.2)
    return figure


def stride() -> Figure:
    figure, axes = row(2, width=4.8, height=2.3)
    for each, step in zip(axes, (1, 2), strict=True):
        places = np.arange(1, 8 - 1, step)
        put(each, example(3), f"stride {step}: {len(places)}×{len(places)} places")
        across, down = np.meshgrid(places, places)
        each.plot(across.ravel(), down.ravel(), "o", color=PALETTE[1], markersize=4)
        for place in (0, step):
            frame(each, place, 0, 3, PALETTE[5 if place == 0 else 4])
    return figure


def support_vector_machine() -> Figure:
    rows = digits().split.train
    few = rows[np.isin(digits().labels[rows], (3, 8))][:160]
    places = PCA(2, random_state=0).fit_transform(flat(few))
    machine = SVC(kernel="linear", C=1).fit(places, digits().labels[few])
    figure, axes = row(1, width=4.8, height=2.4)
    for label, colour in ((3, PALETTE[0]), (8, PALETTE[1])):
        own = places[digits().labels[few] == label]
        axes.plot(*own.T, "o", color=colour, markersize=3.5)
        axes.text(*own.mean(axis=0), str(label), fontsize=15, color=INK, fontweight="bold")
    axes.plot(*machine.support_vectors_.T, "o", markersize=8, markerfacecolor="none",
              markeredgecolor=INK, linewidth=0)  # fmt: skip
    at = np.array(axes.get_xlim())
    (across, up), (shift,) = machine.coef_[0], machine.intercept_
    low, high = axes.get_ylim()
    axes.plot(at, -(across * at + shift) / up, color=WRONG)
    axes.set(ylim=(low, high), xticks=[], yticks=[])
    title(axes, "The border between 3 and 8; support vectors ringed")
    return figure


def unit() -> Figure:
    train = digits().split.train
    values = layer(cnn(), digits().images[train], "block1.pool").max(axis=(2, 3))
    figure = new_figure(6.4, 2.5)
    grid = figure.subplots(3, 7)
    for line, place in zip(grid, (2, 9, 17), strict=True):
        line[0].axis("off")
        line[0].text(0, 0.5, f"unit {place}", fontsize=8, va="center")
        for each, best in zip(line[1:], np.argsort(-values[:, place])[:6], strict=True):
            put(each, digits().images[train[best]])
    figure.suptitle("The training images that excite three units most", fontsize=8.5, x=0.01,
                    ha="left", fontweight="bold")  # fmt: skip
    return figure


# Answers and figures.


@functools.cache
def weak() -> opsin.Run:
    """Return a run that makes mistakes enough to show."""
    return trained(model="mlp", epochs=2, hidden=(16,), rate=0.01)


def calibration() -> Figure:
    figure, axes = row(2, width=5.4, height=2.5, sharey=True)
    rows = np.concatenate([digits().split.test, digits().split.val])
    shares = weak().classifier().probabilities(digits().images[rows])
    right = shares.argmax(axis=1) == digits().labels[rows]
    for each, power, text in zip(axes, (3.0, 1.0), ("Too sure of itself", "Calibrated"),
                                 strict=True):  # fmt: skip
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


def confidence_interval() -> Figure:
    figure, axes = row(1, width=5.2, height=1.9)
    for place, count in enumerate((50, 200, 1000, 10_000)):
        low, high = wilson(round(0.9 * count), count)
        axes.plot([100 * low, 100 * high], [place, place], color=RIGHT, linewidth=3)
        axes.plot(90, place, "o", color=INK)
        axes.text(100 * high + 0.6, place, f"{100 * low:.1f} to {100 * high:.1f}", fontsize=8,
                  va="center")  # fmt: skip
    axes.set_yticks(range(4), [f"{count:,} images" for count in (50, 200, 1000, 10_000)],
                    fontsize=8)  # fmt: skip
    axes.set_xlim(76, 104)
    axes.set_xlabel("90% right: the 95% interval", fontsize=8)
    return figure


def counts_of(axes: Axes, counts: NDArray[np.int64]) -> None:
    """Draw a confusion matrix, right ones blue and mistakes red."""
    names = digits().classes
    for (actual, answer), number in np.ndenumerate(counts):
        right = actual == answer
        share = number / max(1, counts[actual].sum())
        colour = "#e4edf6" if right else (WRONG if number else "white")
        axes.add_patch(Rectangle((answer - 0.5, actual - 0.5), 0.94, 0.94, color=colour,
                                 alpha=1 if right else min(1, 0.15 + 2 * share)))  # fmt: skip
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
    title(axes, f"{np.trace(counts)} of {counts.sum()} right: accuracy "
          f"{np.trace(counts) / counts.sum():.2f}")  # fmt: skip
    return figure


def precision() -> Figure:
    counts = np.array(judged(weak()).confusion)
    worst = int((np.diag(counts) / counts.sum(axis=1)).argmin())
    figure, axes = row(2, width=6.6, height=3.0)
    hits = counts[worst, worst]
    for each, kind, whole in zip(axes, ("Precision", "Recall"),
                                 (counts[:, worst].sum(), counts[worst].sum()),
                                 strict=True):  # fmt: skip
        counts_of(each, counts)
        corner = (worst - 0.5, -0.5) if kind == "Precision" else (-0.5, worst - 0.5)
        sides = (1, 10) if kind == "Precision" else (10, 1)
        each.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=PALETTE[1], linewidth=2))
        title(each, f"{kind} of {worst}: {hits} of {whole}")
    return figure


def none_of_these() -> Figure:
    images = digits().images[digits().split.test]
    strange = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    limit = cnn().metadata.reject
    assert limit is not None
    figure, axes = row(1, width=5.4, height=2.1)
    for shown, name, colour in ((images, "digits", RIGHT), (strange, "noise", WRONG)):
        scores = layer(cnn(), shown, "ood_score")
        axes.hist(scores, bins=np.linspace(0, 0.6, 60), color=colour, alpha=0.8)
        axes.text(float(np.median(scores)), 2, name, fontsize=9, fontweight="bold", ha="center",
                  color="white")  # fmt: skip
    axes.axvline(limit.max_ood_score, color=INK, linewidth=1)
    axes.annotate("from here on: none of these", (limit.max_ood_score, 1), (4, -8),
                  xycoords=("data", "axes fraction"), textcoords="offset points",
                  fontsize=8)  # fmt: skip
    axes.margins(y=0.25)
    axes.set_xlabel("OOD score", fontsize=8)
    axes.set_ylabel("images", fontsize=8)
    return figure


def robustness() -> Figure:
    figure, axes = row(7, width=7.0, height=1.4)
    put(axes[0], example(3), "as it is")
    examples = disturbed_examples(example(3))
    for each, (name, shown) in zip(axes[1:], examples.items(), strict=True):
        put(each, shown[-1], name, MUTED)
    return figure


def roc_curve() -> Figure:
    rows = digits().split.test
    shares = weak().classifier().probabilities(digits().images[rows])
    figure, axes = row(1, width=4.0, height=2.6)
    for label, colour in ((0, PALETTE[0]), (9, PALETTE[1])):
        own = digits().labels[rows] == label
        order = np.argsort(-shares[:, label])
        found = np.cumsum(own[order]) / own.sum()
        others = np.cumsum(~own[order]) / (~own).sum()
        area = float(np.trapezoid(found, others))
        axes.plot(others, found, color=colour, label=f"class {label}: area {area:.3f}")
    axes.plot([0, 1], [0, 1], ":", color=MUTED, label="guessing: 0.5")
    axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("others called so by mistake", fontsize=8)
    axes.set_ylabel("found", fontsize=8)
    return figure


def temperature() -> Figure:
    logits = np.log(weak().classifier().probabilities(example(9, 2)[None])[0])
    figure, axes = row(3, width=6.6, height=2.0, sharex=True)
    for each, value in zip(axes, (0.5, 1.0, 2.0), strict=True):
        shares = np.exp(logits / value) / np.exp(logits / value).sum()
        best = logits.argmax()
        bars(each, digits().classes, shares, [RIGHT if n == best else MUTED for n in range(10)])
        title(each, f"temperature {value:g}")
        each.margins(x=0.3)
    return figure


# Looking inside.


def ablation() -> Figure:
    run = weak().classifier()
    effects = ablate(run, OnnxGraph(run.content), known_images(run), "relu1").effects
    ordered = sorted(effects, key=lambda each: each.change)
    figure, axes = row(1, width=5.4, height=2.0)
    axes.bar([str(each.unit) for each in ordered], [100 * each.change for each in ordered],
             color=[WRONG if each.change < 0 else RIGHT for each in ordered])  # fmt: skip
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xlabel("unit that is switched off", fontsize=8)
    axes.set_ylabel("points of accuracy", fontsize=8)
    axes.tick_params(labelsize=7)
    return figure


def dead_unit() -> Figure:
    images = digits().images[digits().split.train[:48]]
    values = layer(mlp(), images, "relu1")
    order = np.argsort((values > 0).mean(axis=0))
    chosen = values[:, [*order[:12], *order[-36:]]]
    figure, axes = row(1, width=6.0, height=2.8)
    put_values(axes, chosen.T)
    axes.set_xlabel("48 images", fontsize=8)
    axes.set_ylabel("48 units", fontsize=8)
    title(axes, f"Dark is zero: {(values == 0).mean():.0%} of all values; a dead unit is a dark "
          "line")  # fmt: skip
    return figure


def embedding() -> Figure:
    rows = digits().split.test
    places = TSNE(2, random_state=0, init="pca").fit_transform(embeddings(rows))
    figure, axes = row(1, width=4.6, height=2.9)
    colours = [*PALETTE, "#8f8f00", "#7f7f7f", "#5b3a9e", "#a05a2c"]
    for label, colour in enumerate(colours):
        own = places[digits().labels[rows] == label]
        axes.plot(*own.T, "o", color=colour, markersize=3)
        axes.text(*np.median(own, axis=0), str(label), fontsize=12, fontweight="bold",
                  ha="center", va="center")  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    title(axes, "Test images: those that the network sees alike lie close")
    return figure


def heat_of(image: NDArray[np.uint8], target: int) -> NDArray[np.float32]:
    """Return an occlusion map of an image."""
    fill = digits().images[digits().split.train].mean(axis=(0, 1, 2)).astype(np.uint8)
    return occlusion_map(cnn().probabilities, image, target, fill)


def faithfulness() -> Figure:
    image, target = example(8, 1), 8
    heat = heat_of(image, target)
    random = np.random.default_rng(0).permutation(heat.size)
    figure, (left, right) = row(2, width=5.6, height=2.2, width_ratios=[1, 2])
    put_values(left, heat, "heat map")
    for order, name, colour in ((np.argsort(-heat.ravel()), "what it marks", RIGHT),
                                (random, "random parts", MUTED)):  # fmt: skip
        shown = np.stack([image.reshape(-1).copy() for _ in range(heat.size + 1)])
        for place in range(heat.size + 1):
            shown[place, order[:place]] = 0
        shares = cnn().probabilities(shown.reshape(-1, 8, 8, 1))[:, target]
        right.plot(np.linspace(0, 100, len(shares)), shares, color=colour, label=name)
    right.set_xlabel("% of the image hidden", fontsize=8)
    right.set_ylabel(f"probability of {target}", fontsize=8)
    right.legend(frameon=False, fontsize=8)
    return figure


def heat_map() -> Figure:
    figure, axes = row(4, width=6.4, height=1.8)
    for place, target in enumerate((3, 9)):
        image = example(target, 1)
        put(axes[2 * place], image, f"{target}, {cnn().probabilities(image[None])[0, target]:.0%}")
        put_values(axes[2 * place + 1], heat_of(image, target), "bright parts speak for it")
    return figure


def linear_probe() -> Figure:
    run = cnn()
    found = probe_layers(run, OnnxGraph(run.content), known_images(run)).probes
    figure, axes = row(1, width=5.2, height=2.2)
    names = [each.layer for each in found]
    bars(axes, names, [each.accuracy for each in found], PALETTE[0], "{:.1%}")
    axes.margins(x=0.15)
    title(axes, "How well a linear classifier tells the digits apart behind each layer")
    return figure


def quantisation() -> Figure:
    values = np.sort(filters().ravel())[::6]
    limit = np.abs(values).max()
    figure, axes = row(1, width=5.4, height=2.1)
    axes.plot(values, "o", color=RIGHT, markersize=3, label="float32")
    axes.plot(np.round(values / limit * 7) / 7 * limit, color=PALETTE[1], drawstyle="steps-mid",
              linewidth=1.2, label="15 steps (int8 has 255)")  # fmt: skip
    axes.set_xlabel("weights, from the smallest to the largest", fontsize=8)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(visible=True)
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
    keys = {term.image for section in glossary().values() for term in section if term.image}
    for key in sorted(wanted or keys):
        name = key.replace("-", "_")
        draw = globals().get(name) or globals()[f"{name}_"]
        with styled():
            content = written(draw())
        if len(content) > MOST:
            raise SystemExit(f"{key}: {len(content):,} bytes, more than {MOST:,}")
        (FOLDER / f"{key}.png").write_bytes(content)
        print(f"{key:<26}{len(content):>7,}")


if __name__ == "__main__":
    main(sys.argv[1:])
