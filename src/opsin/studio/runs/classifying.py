"""Classifiers of runs, perhaps a stranger's, loaded and asked in processes that may die."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory, find_classifier
from opsin.core.child_process import Header, whole
from opsin.core.errors import SandboxError
from opsin.core.metadata import Preparation
from opsin.core.sandbox import Sandbox
from opsin.data.images import prepare
from opsin.inspection.hidden_pixels import fill_of, training_mean
from opsin.inspection.occlusion import occlusion_map
from opsin.runtime.classifier import Classifier
from opsin.runtime.model_check import check_model, read_classifier
from opsin.runtime.prediction import Prediction, Prepared

# A heat map asks a network hundreds of times; one that never ends was found out before.
_SECONDS: Final = 60.0
_MEMORY: Final = 2 << 30
_PROCESSES: Final = 2
# Classifiers that stay open in a process.
_OPEN: Final = 2


@dataclass(frozen=True)
class OpenedClassifier:
    """A classifier that the processes have opened, or open anew."""

    content: bytes
    digest: str
    most: int | None
    preparation: Preparation
    classes: tuple[str, ...]


class Classifying:
    """Asks classifiers about images; may be called from any thread."""

    def __init__(self) -> None:
        self._sandbox = Sandbox(
            f"{__name__}:ask", seconds=_SECONDS, memory=_MEMORY, processes=_PROCESSES
        )

    def open(self, directory: RunDirectory) -> OpenedClassifier:
        """Load a run's classifier."""
        path = find_classifier(directory.path)
        content = read_classifier(path)
        most = check_model(content, str(path))
        digest = hashlib.sha256(content).hexdigest()
        about = {"do": "open", "model": digest, "most": most, "path": str(path)}
        said, _ = self._sandbox.call(about, content)
        preparation = Preparation.model_validate(said["preparation"])
        return OpenedClassifier(
            content, digest, most, preparation, tuple(map(str, said["classes"]))
        )

    def predict(self, classifier: OpenedClassifier, content: bytes, name: str) -> Prediction:
        """Classify an image, as `Classifier.predict` does."""
        made = prepare(content, classifier.preparation, name)
        ready = Prepared.of(name, made.pixels, made.notes)
        said, _ = self._call(classifier, {"do": "predict"}, ready.pixels)
        probabilities = dict(
            zip(classifier.classes, map(float, said["probabilities"]), strict=True)
        )
        best = max(probabilities, key=lambda label: probabilities[label])
        known = said["ood_score"]
        return Prediction(
            name=name,
            label=best,
            confidence=probabilities[best],
            probabilities=probabilities,
            ood_score=None if known is None else float(known),
            rejected=said["rejected"],
            notes=ready.notes,
            pixels=ready.pixels,
        )

    def heat(self, classifier: OpenedClassifier, answer: Prediction) -> NDArray[np.float32]:
        """Return the occlusion map of an answer, ``float32[H, W]``."""
        pixels = answer.pixels
        question = {"do": "heat", "target": classifier.classes.index(answer.label)}
        _, heat = self._call(classifier, question, pixels)
        return np.frombuffer(heat, np.float32).reshape(pixels.shape[:2])

    def _call(
        self, classifier: OpenedClassifier, question: Header, pixels: NDArray[np.uint8]
    ) -> tuple[Header, bytes]:
        question |= {"model": classifier.digest, "shape": list(pixels.shape)}
        for _ in range(2 * _PROCESSES):
            said, body = self._sandbox.call(question, pixels.tobytes())
            if not said.get("unknown"):
                return said, body
            # This process is new, or has opened others since. The next call may meet another one.
            about = {
                "do": "open",
                "model": classifier.digest,
                "most": classifier.most,
                "path": "it",
            }
            self._sandbox.call(about, classifier.content)
        raise SandboxError("an answer", "others were asked for all the time", "Ask again.")

    def close(self) -> None:
        """End the processes."""
        self._sandbox.close()


# What follows runs in such a process.

_opened: OrderedDict[str, Classifier] = OrderedDict()


def ask(header: Header, body: memoryview) -> tuple[Header, Sequence[bytes]]:
    """Load a classifier, or ask it: `opsin.core.sandbox` runs this."""
    if header["do"] == "open":
        return _open(header, whole(body)), []
    classifier = _opened.get(header["model"])
    if classifier is None:
        return {"unknown": True}, []
    _opened.move_to_end(header["model"])
    pixels = np.frombuffer(body, np.uint8).reshape(header["shape"])
    return _ASKED[header["do"]](classifier, pixels, header)


def _open(header: Header, content: bytes) -> Header:
    classifier = Classifier.of_content(Path(header["path"]), content, most=header["most"])
    _opened[header["model"]] = classifier
    while len(_opened) > _OPEN:
        _opened.popitem(last=False)
    return {
        "classes": list(classifier.classes),
        "preparation": classifier.metadata.preparation.model_dump(mode="json"),
    }


def _predict(
    classifier: Classifier, pixels: NDArray[np.uint8], _: Header
) -> tuple[Header, Sequence[bytes]]:
    (answer,) = classifier.predict_prepared([Prepared("", pixels)])
    return {
        "probabilities": list(answer.probabilities.values()),
        "ood_score": answer.ood_score,
        "rejected": answer.rejected,
    }, []


def _heat(
    classifier: Classifier, pixels: NDArray[np.uint8], header: Header
) -> tuple[Header, Sequence[bytes]]:
    fill = fill_of(pixels, training_mean(classifier))
    heat = occlusion_map(classifier.probabilities, pixels, header["target"], fill)
    return {}, [np.ascontiguousarray(heat, np.float32).tobytes()]


_ASKED: Final[
    dict[str, Callable[[Classifier, NDArray[np.uint8], Header], tuple[Header, Sequence[bytes]]]]
] = {"predict": _predict, "heat": _heat}
