"""The raw numbers of any layer, of an image or of more than the memory holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.core.errors import ModelFileError, RecipeError, SourceError
from opsin.data.dataset import Dataset
from opsin.inspection.save_layers import save_layers


def test_a_whole_source(tmp_path: Path, nearest_mean: Path, digits: Dataset) -> None:
    classifier = opsin.Classifier(nearest_mean)
    names = [f"{row} 漢字" for row in range(len(digits))]
    layers = ["head", "input", "embedding", "head"]
    said = save_layers(
        classifier, tmp_path / "raw.npz", layers, digits.images, image_names=names,
        labels=digits.labels,
    )  # fmt: skip
    with np.load(tmp_path / "raw.npz", allow_pickle=False) as found:
        assert list(found) == ["names", "labels", "classes", "head", "input", "embedding"]
        assert found["names"].tolist() == names
        assert np.array_equal(found["labels"], digits.labels)
        assert tuple(found["classes"]) == digits.classes
        expected = classifier.layers(np.asarray(digits.images), ["head", "input"])
        assert np.allclose(found["head"], expected["head"], atol=1e-5)
        assert np.array_equal(found["input"], expected["input"])
        assert found["embedding"].dtype == np.float32
    assert said.images == len(digits)
    assert said.layers["input"] == [len(digits), 8, 8, 1]
    assert said.bytes == (tmp_path / "raw.npz").stat().st_size


def test_what_cannot_be_saved(tmp_path: Path, nearest_mean: Path, digits: Dataset) -> None:
    classifier = opsin.Classifier(nearest_mean)
    file = tmp_path / "raw.npz"
    with pytest.raises(ModelFileError, match="no layer 'conv9' among"):
        save_layers(classifier, file, ["conv9"], digits.images, image_names=digits.names)
    with pytest.raises(RecipeError, match="no layer to save"):
        save_layers(classifier, file, [], digits.images, image_names=digits.names)
    with pytest.raises(SourceError, match="no images to save"):
        save_layers(classifier, file, ["head"], digits.images[:0], image_names=[])
    assert list(tmp_path.iterdir()) == []


_CHILD = """
import sys
from pathlib import Path
import numpy as np
import opsin
from opsin.inspection.save_layers import save_layers

class Made:
    dtype, ndim = np.dtype(np.uint8), 4
    def __init__(self, count):
        self.shape, self.nbytes = (count, 8, 8, 1), count * 64
    def __len__(self):
        return self.shape[0]
    def __getitem__(self, rows):
        return np.full((len(rows), 8, 8, 1), 7, np.uint8)

def peak():  # in KiB; getrusage would count what the process that started this one had
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

classifier = opsin.Classifier(sys.argv[1])
peaks, names = [], [f"{place:08}.png" for place in range(100_000)]
for count in (25_000, 100_000):
    file = Path(sys.argv[2])
    layers = ["input", "flatten"]
    said = save_layers(classifier, file, layers, Made(count), image_names=names[:count])
    peaks.append(peak())
    print(peaks[-1] // 1024, said.bytes >> 20)
with np.load(file) as found:
    assert found["names"][-1] == "00099999.png"
    assert found["flatten"].shape == (100_000, 64)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")
def test_four_times_the_images_take_no_more_memory(tmp_path: Path, nearest_mean: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CHILD, nearest_mean, tmp_path / "raw.npz"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    (small, _), (large, written) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert written > 50
    assert large - small < 16  # the names among it
