"""Untrusted classifiers of runs, loaded and used in sandboxed processes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory, find_classifier
from opsin.core.child_process import Header
from opsin.core.metadata import Resize
from opsin.core.sandbox import Sandbox
from opsin.inspection.occlusion import fill_of, occlusion_map, training_mean
from opsin.runtime.classifier import Classifier
from opsin.runtime.model_check import check_model, read_classifier
from opsin.runtime.prediction import Prediction

# Most seconds of a call, and those after which a heat map gets no finer.
_SECONDS: Final = 120.0
_FINE: Final = 6.0
_MEMORY: Final = 2 << 30
# Most classifiers open in a process.
_OPEN: Final = 2


@dataclass(frozen=True)
class ModelContent:
    """The content of a run's classifier file."""

    content: bytes = field(repr=False)
    path: str
    most: int | None
    digest: str

    @classmethod
    def read(cls, directory: RunDirectory) -> ModelContent:
        """Read it, and check that it is safe to load."""
        path = find_classifier(directory.path)
        content = read_classifier(path)
        most = check_model(content, str(path))
        return cls(content, str(path), most, hashlib.sha256(content).hexdigest())


class Classifying:
    """Classifies images in sandboxes; thread-safe."""

    def __init__(self) -> None:
        self._sandbox = Sandbox(f"{__name__}:ask", seconds=_SECONDS, memory=_MEMORY, processes=2)

    def predict(self, model: ModelContent, content: bytes, name: str) -> Prediction:
        """Classify an image, as `Classifier.predict` does."""
        answer, pixels = self._call(model, content, {"do": "predict", "name": name})
        shape, notes = answer.pop("shape"), tuple(answer.pop("notes"))
        pixels_there = np.frombuffer(pixels, np.uint8).reshape(shape)
        return Prediction(**answer, notes=notes, pixels=pixels_there)

    def heat(self, model: ModelContent, answer: Prediction) -> tuple[NDArray[np.float32], Resize]:
        """Return the occlusion map of an answer, ``float32[H, W]``, and how its pixels arose."""
        pixels = answer.pixels
        question = {"do": "heat", "label": answer.label, "shape": pixels.shape}
        about, heat = self._call(model, pixels.tobytes(), question)
        return np.frombuffer(heat, np.float32).reshape(pixels.shape[:2]), about["resize"]

    def _call(self, model: ModelContent, content: bytes, question: Header) -> tuple[Header, bytes]:
        question |= {"digest": model.digest, "most": model.most, "path": model.path}
        answer = self._sandbox.call(question | {"size": 0}, content)
        if "unknown" in answer[0]:  # to this process: the file, of many megabytes, goes along once
            header = question | {"size": len(model.content)}
            answer = self._sandbox.call(header, model.content + content)
        return answer

    def close(self) -> None:
        """End the processes."""
        self._sandbox.close()


# The rest runs in the sandbox.

_opened: OrderedDict[str, Classifier] = OrderedDict()


def ask(header: Header, body: memoryview) -> tuple[Header, Sequence[bytes]]:
    """Use an open classifier, or the one at the start of the body, in the sandbox."""
    content, rest = body[: header["size"]], body[header["size"] :]
    digest = header["digest"]
    if digest not in _opened:
        if not content:
            return {"unknown": True}, []
        path = Path(header["path"])
        _opened[digest] = Classifier.of_content(path, bytes(content), most=header["most"])
        if len(_opened) > _OPEN:
            _opened.popitem(last=False)
    _opened.move_to_end(digest)
    classifier = _opened[digest]
    if header["do"] == "predict":
        values = dict(vars(classifier.predict(bytes(rest), name=header["name"])))
        pixels = values.pop("pixels")
        return values | {"shape": pixels.shape}, [pixels.tobytes()]
    pixels = np.frombuffer(rest, np.uint8).reshape(header["shape"])
    target = classifier.classes.index(header["label"])
    fill = fill_of(pixels, training_mean(classifier))
    heat = occlusion_map(classifier.probabilities, pixels, target, fill, seconds=_FINE)
    return {"resize": classifier.metadata.preparation.resize}, [heat.tobytes()]
