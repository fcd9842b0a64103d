"""Inspection of a classifier, and its results."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from opsin.commands.known_images import known_images
from opsin.core.arguments import checked
from opsin.core.arrays import Floats, Pixels
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ImageError, MissingExtraError, ModelFileError, OpsinError
from opsin.core.events import SILENT, Watcher
from opsin.data.images import ImageLike
from opsin.data.lazy_images import ReferenceSet
from opsin.data.run_images import Places
from opsin.data.spelling import check_choices, places_among
from opsin.inspection.lessons.lesson_terms import Term
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction
from opsin.runtime.providers import CPU

try:
    from opsin.inspection.ablation import Ablation, ablate
    from opsin.inspection.activity import Activity, activity_of
    from opsin.inspection.decision import SECONDS, Decision, MethodHeat, explain
    from opsin.inspection.layers import LayerView, layer_views
    from opsin.inspection.lessons.lesson_layers import explain_layer, lesson_layers
    from opsin.inspection.lessons.windows import Lesson
    from opsin.inspection.neighbours import Neighbour, nearest
    from opsin.inspection.summary import NetworkSummary, summarise
    from opsin.inspection.units import UnitGallery, unit_gallery
    from opsin.inspection.weights import WeightView, weight_views
    from opsin.onnx_files.onnx_graph import OnnxGraph
except ImportError as error:
    raise MissingExtraError("looking inside a network", "evaluate") from error

if TYPE_CHECKING:
    from opsin.models.onnx_network import TorchNetwork


@checked
class Inspection:
    """A classifier.onnx opened for inspection; only gradient heat maps need PyTorch.

    Args:
        model: A run directory, a ``classifier.onnx`` or an open classifier.
        data: Images with labels to look at it with (default: those of its run).
        watcher: Receives the progress of the work.

    Raises:
        RunError: There is no such run, or it has no classifier yet.
        ModelFileError: The file is damaged or was not written by Opsin.
        MissingExtraError: What reads the graph is not installed.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> look = opsin.Inspection(run)
        >>> [view.name for view in look.layers(np.zeros((8, 8), np.uint8))]
        ['input', 'flatten', 'dense1', 'relu1', 'head']
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Classifier,
        *,
        data: Places = (),
        watcher: Watcher = SILENT,
    ) -> None:
        if not isinstance(model, Classifier):
            # Its numbers are compared with those of single layers, to the last bit.
            model = Classifier(model, device=CPU, watcher=watcher)
        self.classifier = model
        self._sources = [data] if isinstance(data, str | os.PathLike) else list(data)
        self.watcher = watcher
        self._rows: dict[str, int] = {}

    @cached_property
    def network(self) -> OnnxGraph:
        """The graph of layers with their weights.

        Raises:
            ModelFileError: A weight is infinite or no number.
        """
        network = OnnxGraph(self.classifier.content)
        for name, value in network.weights.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ModelFileError(
                    f"{name} in {self.classifier.path} holds weights that are no finite numbers",
                    "Train again, best at a smaller --learning-rate.",
                )
        return network

    @cached_property
    def known(self) -> ReferenceSet:
        """The known images.

        Raises:
            SourceError: The file lies in no run and no source was given, or they cannot be read.
        """
        return known_images(self.classifier, self._sources, watcher=self.watcher)

    @property
    def run(self) -> RunDirectory | None:
        """The run directory that the file lies in."""
        run = RunDirectory(self.classifier.path.parent)
        return run if run.recipe.is_file() else None

    @property
    def has_images(self) -> bool:
        """Whether known images should be available."""
        return bool(self._sources) or self.run is not None

    @property
    def first_image(self) -> str:
        """The first known image, from the test set if possible: ``test/0``.

        Raises:
            SourceError: There are none.
        """
        parts = {"test": self.known.test, "val": self.known.val, "train": self.known.train}
        return f"{next(part for part, rows in parts.items() if len(rows))}/0"

    def predict(
        self, image: ImageLike, *, as_is: bool = False, name: str | None = None
    ) -> Prediction:
        """Classify one image: a file, or a known one by its name or place: ``test/17``.

        Raises:
            ImageError: The image cannot be read, and no known one has that name.
        """
        if isinstance(image, list | tuple):
            raise ImageError(f"One image is needed, not a list of {len(image)}")
        wanted = os.fspath(image) if isinstance(image, str | os.PathLike) else None
        if wanted is None or os.path.exists(wanted) or not self.has_images:  # noqa: PTH110
            return self.classifier.predict(image, as_is=as_is, name=name)
        row = self.known.row_called(wanted)
        if row is None:
            raise ImageError(
                f"{wanted} is neither a file nor one of the known images",
                f"Those are called {self.known.names[0]}, or by part and number: test/17.",
            )
        name = name or wanted
        self._rows[name] = row
        return self.classifier.predict(self.known.images[row], as_is=True, name=name)

    def _answer(self, image: ImageLike | Prediction) -> Prediction:
        return image if isinstance(image, Prediction) else self.predict(image)

    def actual(self, answer: Prediction) -> int | None:
        """Return the right class of a known image, else ``None``."""
        row = self._rows.get(answer.name)
        return None if row is None else int(self.known.labels[row])

    def class_called(self, label: str) -> int:
        """Return a class's index.

        Raises:
            RecipeError: There is no such class.
        """
        (index,) = places_among([label], self.classifier.classes)
        if index < 0:
            check_choices("class", [label], self.classifier.classes)
        return index

    def summary(self) -> NetworkSummary:
        """Describe each layer: shape, parameters, work, receptive field."""
        return summarise(self.classifier, self.network)

    def layers(
        self, image: ImageLike | Prediction, names: Sequence[str] | None = None
    ) -> list[LayerView]:
        """Return what layers, by default all, make of an image: raw numbers and figures.

        Raises:
            ModelFileError: There is no such layer.
            ImageError: The image cannot be read.
        """
        return layer_views(self.classifier, self._answer(image).pixels, names=names)

    def activity(self) -> Activity | None:
        """Return how active each unit is over 1,000 training images; ``None`` without any."""
        known = (lambda: self.known) if self.has_images else None
        return activity_of(self.classifier, self.network, known, watcher=self.watcher)

    def weights(self) -> list[WeightView]:
        """Return the weights of each layer that has any: figures, histograms, images."""
        return weight_views(self.network)

    def units(self, layer: str, *, limit: int | None = None) -> UnitGallery:
        """Return what excites each unit of a layer, over ``limit`` training images or all of them.

        Raises:
            ModelFileError: There is no such layer.
        """
        return unit_gallery(
            self.classifier, self.network, self.known, layer, limit=limit, watcher=self.watcher
        )

    def ablation(self, layer: str, units: Sequence[int] | None = None) -> Ablation:
        """Return the validation accuracy without each of the units, by default all.

        Raises:
            ModelFileError: There is no such layer or unit.
        """
        return ablate(
            self.classifier, self.network, self.known, layer, units=units, watcher=self.watcher
        )

    def explain(
        self, image: ImageLike | Prediction, label: str | None = None, *, seconds: float = SECONDS
    ) -> Decision:
        """Return heat maps of what speaks for a class, by default the answer, with their checks.

        After ``seconds`` maps get no finer, and those that would take longer are left out.

        Raises:
            RecipeError: There is no such class.
        """
        pixels = self._answer(image).pixels
        target = None if label is None else self.class_called(label)
        return explain(
            self.classifier,
            self.network,
            pixels,
            target=target,
            gradient_maps=gradient_maps,
            seconds=seconds,
            watcher=self.watcher,
        )

    def nearest(self, image: ImageLike | Prediction, count: int = 9) -> list[Neighbour]:
        """Return the training images whose embeddings are most similar to this one's."""
        pixels = self._answer(image).pixels
        return nearest(self.classifier, self.known, pixels, count=count, watcher=self.watcher)

    def terms(self) -> dict[Term, tuple[str, ...]]:
        """Return the terms that have lessons here, each with its layers."""
        lessons = lesson_layers(self.network)
        return {term: tuple(layer.name for layer in layers) for term, layers in lessons.items()}

    def lesson(
        self, term: Term, image: ImageLike | Prediction | None = None, layer: str | None = None
    ) -> Lesson:
        """Return what a layer does to an image, in numbers.

        By default it is the first layer of its kind, and the image is `first_image`.

        Raises:
            ModelFileError: There is no such layer.
            ImageError: The image cannot be read.
            SourceError: None is given, and there are none.
        """
        pixels = self._answer(self.first_image if image is None else image).pixels
        return explain_layer(self.classifier, self.network, pixels, term, layer)


def nearest_if_any(look: Inspection, answer: Prediction) -> list[Neighbour]:
    """Return the nearest training images, or none, and a note, where they cannot be read."""
    try:
        return look.nearest(answer) if look.has_images else []
    except OpsinError as error:
        look.watcher.note(f"nearest training images are not shown: {error}")
        return []


def gradient_maps(
    network: OnnxGraph, random_file: bytes | None, pixels: Pixels, target: int, fill: Pixels
) -> tuple[dict[str, Callable[[], MethodHeat]], list[str]]:
    """Saliency, Grad-CAM and Integrated Gradients, as `opsin.inspection.decision` asks for them."""
    try:
        from opsin.models import attribution  # noqa: PLC0415  needs PyTorch
        from opsin.models.onnx_network import TorchNetwork  # noqa: PLC0415

        with attribution.captum_methods():  # before anything is drawn
            trained = TorchNetwork(network.with_weights({}))
        random = None if random_file is None else TorchNetwork(random_file)
    except MissingExtraError as error:
        names = "Saliency, Grad-CAM and Integrated Gradients need PyTorch and Captum"
        return {}, [f"{names}. {error.advice}"]
    except ModelFileError as error:
        names = "Saliency, Grad-CAM and Integrated Gradients need gradients"
        return {}, [f"{names}: {error.message}. Occlusion needs none."]

    def both(method: Callable[[TorchNetwork], Floats]) -> MethodHeat:
        return MethodHeat(method(trained), None if random is None else method(random))

    def integrated() -> MethodHeat:
        heat, gap = attribution.integrated_gradients(trained, pixels, target, baseline=fill)
        other = random and attribution.integrated_gradients(
            random, pixels, target, baseline=fill, most=attribution.STEPS[0]
        )
        words = f"Adds up to the change of the class's score, but for {gap:.1%}."
        if gap > attribution.GAP:
            words += " That is much: take it with caution."
        return MethodHeat(heat, other[0] if other else None, (words,))

    # The last hidden layer with a spatial map.
    maps = [
        layer.name
        for layer in network.layers
        if layer.name != "input" and len(layer.shape) == 3 and layer.shape[1] * layer.shape[2] > 1
    ]
    methods = {
        "saliency": lambda: both(lambda net: attribution.saliency(net, pixels, target)),
        "integrated-gradients": integrated,
    }
    if not maps:
        return methods, ["Grad-CAM needs a layer with maps, and this network has none."]
    methods["grad-cam"] = lambda: both(
        lambda net: attribution.grad_cam(net, pixels, target, layer=maps[-1])
    )
    return methods, []


@dataclass
class Insight:
    """The result of `inspect`; parts not requested are ``None`` or empty.

    ``page`` was written, and ``files`` beside it. ``views`` are the outputs of layers for the
    image, ``galleries`` and ``ablations`` those of units, by layer; ``decision`` has the heat maps.
    """

    JSON: ClassVar = (
        "model page files summary answer activity decision layers=views galleries ablations "
        "weights neighbours"
    )
    model: Path
    page: Path | None = None
    files: list[Path] = field(default_factory=list)
    summary: NetworkSummary | None = None
    answer: Prediction | None = None
    views: list[LayerView] = field(default_factory=list)
    activity: Activity | None = None
    galleries: dict[str, UnitGallery] = field(default_factory=dict)
    ablations: dict[str, Ablation] = field(default_factory=dict)
    weights: list[WeightView] = field(default_factory=list)
    decision: Decision | None = None
    neighbours: list[Neighbour] = field(default_factory=list)
