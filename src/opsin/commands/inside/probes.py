"""A linear probe behind each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import Images
from opsin.data.reference_set import ReferenceSet
from opsin.runtime.classifier import Classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from opsin.inspection.network import Network
    from opsin.inspection.probes import Reduction

#: Training pictures that probes are fitted to, and validation pictures they are judged by, at most.
FITTED: Final = 4000
JUDGED: Final = 2000
#: What the file's own answer is called among the layers.
CLASSIFIER: Final = "classifier"
# Numbers of all pictures and layers that are held at once: 300 MB.
_HELD: Final = 75_000_000
# Pictures of a batch, and pixels of it: the maps of all layers may be in memory at once.
_BATCH, _PIXELS = 64, 100_000


@dataclass(frozen=True)
class Probe:
    """How well the classes can be told apart behind a layer.

    Args:
        layer: Its name; ``pixels`` for what goes in, ``classifier`` for the file's own answer.
        accuracy: Share of the validation pictures that the probe gets right.
        low: Lower end of its 95% interval (Wilson).
        high: Upper end.
        outputs: Numbers that the layer puts out for a picture.
        features: Numbers that the probe looked at.
        how: How they were made: ``whole``, ``pooled``, ``projected``; ``own`` for the classifier.
        block: Height and width of the blocks of places that were averaged.
    """

    layer: str
    accuracy: float
    low: float
    high: float
    outputs: int
    features: int
    how: str
    block: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return said | {"block": list(self.block)}


@dataclass(frozen=True)
class Probes:
    """The probes of all layers.

    Args:
        probes: The pixels first, then the layers in the order of their work, the classifier's own
            answer last.
        fitted: Training pictures that the probes were fitted to.
        judged: Validation pictures that they were judged by.
        source: Where the pictures come from.
    """

    probes: tuple[Probe, ...]
    fitted: int
    judged: int
    source: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Each probe as plain data, with the numbers of pictures."""
        counts = {"fitted": self.fitted, "judged": self.judged}
        return [probe.to_json() | counts for probe in self.probes]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "source": self.source,
            "fitted": self.fitted,
            "judged": self.judged,
            "rows": [probe.to_json() for probe in self.probes],
        }


def probe_layers(
    classifier: Classifier,
    network: Network,
    known: ReferenceSet,
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
    watcher: Watcher = SILENT,
) -> Probes:
    """Fit a linear probe to each layer's output, on training pictures; score it on others.

    The others are validation pictures, never test pictures. Layers that only pass on what they are
    given are left out.

    Args:
        classifier: An open classifier.
        network: The network in it.
        known: Pictures whose classes are known.
        names: Layers (default: all that change something); named ones are all probed.
        seed: Decides which pictures are taken, where there are more than are needed.
        watcher: Is told how far the work is.

    Raises:
        ModelFileError: There is no such layer.
        SourceError: There are no validation pictures, or no two classes to learn.

    Example:
        >>> import opsin, tempfile
        >>> from opsin.inspection.network import Network
        >>> from opsin.commands.known_images import known_images
        >>> run = opsin.train("digits", model="mlp", epochs=5, runs=tempfile.mkdtemp(), quiet=True)
        >>> file = run.classifier()
        >>> network = Network(file.content, file.metadata.layers)
        >>> found = probe_layers(file, network, known_images(file))
        >>> [probe.layer for probe in found.probes]
        ['pixels', 'dense1', 'relu1', 'head', 'classifier']
        >>> found.probes[0].accuracy > 0.8
        True
    """
    from opsin.evaluation.intervals import wilson  # noqa: PLC0415  scipy takes a second to load
    from opsin.inspection.probes import PIXELS, probe_hits, reduction_of  # noqa: PLC0415

    layers = _layers(network, names)
    train, val = (_some(rows, most, seed) for rows, most in ((known.train, FITTED),
                                                             (known.val, JUDGED)))  # fmt: skip
    if len(np.unique(known.labels[train])) < 2 or not len(val):
        raise SourceError(
            "training pictures of at least two classes, and validation pictures",
            f"{known.source} has {len(val):,} for validation, and "
            f"{len(np.unique(known.labels[train]))} classes to learn",
            "Give other pictures: --data SOURCE.",
        )
    labels, judged = known.labels[train], known.labels[val]
    shapes = {layer.name: layer.shape for layer in network.layers}
    shapes[PIXELS] = known.images.shape[3:] + known.images.shape[1:3]
    sizes = [reduction_of(name, shapes[name]).features for name in (PIXELS, *layers)]
    probes: list[Probe] = []
    own = np.zeros(0, np.bool_)
    for group in _groups([PIXELS, *layers], sizes, len(train) + len(val)):
        reductions, features, answers = _features(
            network,
            group,
            known.images,
            np.concatenate([train, val]),
            seed=seed,
            watcher=watcher,
        )
        own = answers[len(train) :].argmax(axis=1) == judged
        watcher.begin("Probes", len(group), "layers")
        for done, reduction in enumerate(reductions, start=1):
            values = features.pop(0)  # its memory is free for the next one's
            right = probe_hits(values[: len(train)], labels, values[len(train) :], judged)
            ends = wilson(int(right.sum()), len(right))
            probes.append(_probe(reduction, float(right.mean()), ends))
            watcher.advance(done)
        watcher.end()
    classes = len(classifier.classes)
    accuracy, (low, high) = float(own.mean()), wilson(int(own.sum()), len(own))
    probes.append(Probe(CLASSIFIER, accuracy, low, high, classes, classes, "own", (1, 1)))
    return Probes(tuple(probes), len(train), len(val), known.source)


def probe_figures(rows: Sequence[dict[str, Any]]) -> dict[str, Callable[[], Figure]]:
    """Return what draws each figure of the probes, by name.

    Args:
        rows: Of `Probes`.
    """
    from opsin.report.figures.inspection_charts import draw_probes  # noqa: PLC0415  loads matplotlib

    return {"probes": lambda: draw_probes(rows)}


def _probe(reduction: Reduction, accuracy: float, ends: tuple[float, float]) -> Probe:
    return Probe(
        layer=reduction.layer,
        accuracy=accuracy,
        low=ends[0],
        high=ends[1],
        outputs=reduction.outputs,
        features=reduction.features,
        how=reduction.how,
        block=reduction.block,
    )


def _layers(network: Network, names: Sequence[str] | None) -> list[str]:
    """Return the layers to probe, in the order of their work."""
    from opsin.inspection.probes import passes_on  # noqa: PLC0415  loads scikit-learn

    known = [layer.name for layer in network.layers]
    if names is None:
        return [name for name in known if not passes_on(network, name)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ModelFileError(
            f"layers among {', '.join(known)}", f"got {', '.join(unknown)}", "Choose there."
        )
    return [name for name in known if name in names]


def _some(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return some rows at random, ascending, as they lie on the disk."""
    if len(rows) <= most:
        return np.sort(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _groups(names: Sequence[str], sizes: Sequence[int], pictures: int) -> Iterator[list[str]]:
    """Split layers so that the features of each part fit into the memory that is meant for them.

    Example:
        >>> list(_groups(["a", "b", "c"], [30_000, 30_000, 50_000], 1000))
        [['a', 'b'], ['c']]
    """
    group: list[str] = []
    held = 0
    for name, size in zip(names, sizes, strict=True):
        if group and held + size * pictures > _HELD:
            yield group
            group, held = [], 0
        group.append(name)
        held += size * pictures
    yield group


def _features(
    network: Network,
    names: Sequence[str],
    images: Images,
    rows: NDArray[np.int64],
    *,
    seed: int,
    watcher: Watcher,
) -> tuple[list[Reduction], list[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what probes see of some layers, and the file's answers, each a row a picture."""
    from opsin.inspection.probes import iter_features, probe_file  # noqa: PLC0415

    content, reductions = probe_file(network, names, seed=seed)
    size = max(8, min(_BATCH, _PIXELS // (images.shape[1] * images.shape[2])))
    batches = (images[rows[start : start + size]] for start in range(0, len(rows), size))
    watcher.begin("Layers", len(rows), "pictures")
    kept = [np.empty((len(rows), reduction.features), np.float32) for reduction in reductions]
    answers = []
    done = 0
    for *features, probabilities in iter_features(content, len(names), batches):
        for whole, part in zip(kept, features, strict=True):
            whole[done : done + len(part)] = part
        answers.append(probabilities)
        done += len(probabilities)
        watcher.advance(done)
    watcher.end()
    return reductions, kept, np.concatenate(answers)
