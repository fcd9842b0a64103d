"""A class's surest and most typical images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opsin.inspection.embedding import portraits
from tests.inspection.made_network import made


def test_each_class_has_its_own_images(tmp_path: Path) -> None:
    classifier, _, known = made(tmp_path, count=600)
    found = portraits(classifier, known)
    assert [portrait.label for portrait in found] == list(classifier.classes)
    rows = np.sort(known.train)
    values = classifier.layers(np.asarray(known.images[rows]), ["probabilities", "embedding"])
    for place, portrait in enumerate(found):
        of = known.labels[rows] == place
        assert portrait.images == of.sum()
        mean = known.images[rows[of]].mean(axis=0)
        assert portrait.mean is not None
        assert np.abs(portrait.mean - mean).max() <= 0.5
        shares, embedding = values["probabilities"][of, place], values["embedding"][of]
        best = np.argsort(-shares, kind="stable")[:8]
        assert [one.probability for one in portrait.surest] == shares[best].tolist()
        middle = embedding.mean(axis=0)
        cosines = embedding @ middle / np.linalg.norm(embedding, axis=1) / np.linalg.norm(middle)
        order = np.argsort(-cosines)
        assert [one.row for one in portrait.nearest] == rows[of][order[:8]].tolist()
        assert [one.row for one in portrait.farthest] == rows[of][order[::-1][:8]].tolist()
        for one in portrait.farthest:
            assert np.array_equal(one.pixels, known.images[one.row])
            assert one.name == known.names[one.row]
    json.dumps([portrait.to_json() for portrait in found], allow_nan=False)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_classes_without_images_are_empty(tmp_path: Path, left: int) -> None:
    classifier, _, known = made(tmp_path)
    train = known.train[known.labels[known.train] == left]
    found = portraits(classifier, replace(known, train=train))
    assert [portrait.images for portrait in found] == [len(train) * (k == left) for k in range(3)]
    assert [portrait.mean is None for portrait in found] == [k != left for k in range(3)]
