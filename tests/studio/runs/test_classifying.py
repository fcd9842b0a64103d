"""A run's classifier is asked in processes that may die, and answers as it does everywhere."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ModelFileError, SandboxError
from opsin.data.dataset import Dataset
from opsin.inspection.occlusion import fill_of, occlusion_map, training_mean
from opsin.runtime.classifier import Classifier
from opsin.studio.runs.classifying import Classifying, ModelContent
from tests.made_classifier import unsound_for_sevens


def png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(stream, "PNG")
    return stream.getvalue()


def run_of(folder: Path, content: bytes) -> RunDirectory:
    directory = RunDirectory(folder)
    directory.path.mkdir(exist_ok=True)
    directory.recipe.write_text("{}")
    directory.classifier.write_bytes(content)
    return directory


@pytest.fixture
def classifying() -> Iterator[Classifying]:
    made = Classifying()
    yield made
    made.close()


def sessions() -> int:
    return sum(issubclass(type(each), onnxruntime.InferenceSession) for each in gc.get_objects())


def test_answers_and_maps_are_the_classifiers_and_it_is_not_loaded_here(
    classifying: Classifying, tmp_path: Path, nearest_mean: Path, digits: Dataset
) -> None:
    before = sessions()
    asked = ModelContent.read(run_of(tmp_path / "run", nearest_mean.read_bytes()))
    found = [classifying.predict(asked, png(digits.images[row]), f"{row}") for row in range(3)]
    heat, resize = classifying.heat(asked, found[0])
    assert resize == Classifier(nearest_mean).metadata.preparation.resize
    assert sessions() == before
    here = Classifier(nearest_mean)
    assert found == [here.predict(png(digits.images[row]), name=f"{row}") for row in range(3)]
    pixels = found[0].pixels
    target = here.classes.index(found[0].label)
    expected = occlusion_map(
        here.probabilities, pixels, target, fill_of(pixels, training_mean(here))
    )
    assert np.allclose(heat, expected, atol=1e-6)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the children are found in /proc")
def test_a_process_that_dies_costs_one_answer_at_most(
    classifying: Classifying, tmp_path: Path, nearest_mean: Path, digits: Dataset
) -> None:
    def children() -> set[int]:
        found: set[int] = set()
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
                found |= {int(pid) for pid in (task / "children").read_text().split()}
        return found

    others = children()
    asked = ModelContent.read(run_of(tmp_path / "run", nearest_mean.read_bytes()))
    content = png(digits.images[5])
    answer = classifying.predict(asked, content, "five")
    for process in children() - others:
        if b"classifying" in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, signal.SIGKILL)
    with contextlib.suppress(SandboxError):
        classifying.predict(asked, content, "five")
    assert classifying.predict(asked, content, "five") == answer


def test_an_unsound_answer_is_refused_and_the_next_one_is_given(
    classifying: Classifying, tmp_path: Path
) -> None:
    asked = ModelContent.read(run_of(tmp_path / "run", unsound_for_sevens()))
    eights, sevens = (png(np.full((8, 8, 1), value, np.uint8)) for value in (8, 7))
    answer = classifying.predict(asked, eights, "eights")
    with pytest.raises(ModelFileError):
        classifying.predict(asked, sevens, "sevens")
    assert classifying.predict(asked, eights, "eights") == answer
