"""Images through a classifier: right answers, in order, in bounded memory; no thread is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opsin.commands.predict.stream import check_drawing, classify_stream
from opsin.core.errors import ImageError, RecipeError, SourceError, StorageError
from opsin.data import image_engine
from opsin.data.dataset import Dataset
from opsin.data.image_stream import ListedImage
from opsin.data.sources import open_stream
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction
from tests.conftest import write_digits
from tests.served import encoded


@pytest.fixture
def classifier(nearest_mean: Path) -> Classifier:
    return Classifier(nearest_mean, threads=1)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert all_end()


def running() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("opsin-images")]


def all_end() -> bool:
    for thread in running():
        thread.join(30)
    return not running()


@pytest.fixture
def photos(tmp_path: Path, digits: Dataset) -> Path:
    return write_digits(tmp_path / "photos", digits, range(60), lambda row: f"half {row % 2}")


@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("tta", [False, True])
def test_answers_are_those_of_predict_in_order(
    nearest_mean: Path, photos: Path, threads: int | None, tta: bool
) -> None:
    classifier = Classifier(nearest_mean, threads=threads)
    (photos / "half 0" / "7.png").write_bytes(b"no image")
    answered = list(classify_stream(classifier, open_stream(photos), tta=tta))
    assert [item.name for item, _ in answered] == [p.name for p in open_stream(photos)]
    for item, answer in answered:
        if item.name == "half 0/7.png":
            assert isinstance(answer, ImageError)
            continue
        alone = classifier.predict(item.path or "", name=item.name, tta=tta)
        assert isinstance(answer, Prediction)
        assert answer.name == item.name
        assert answer.label == alone.label
        assert np.array_equal(answer.pixels, alone.pixels)
        if threads == 1:
            # Every bit of it; that views do not suit this file is said once, not with each.
            assert answer == replace(alone, notes=answer.notes)
        for name, share in alone.probabilities.items():
            assert answer.probabilities[name] == pytest.approx(share, abs=1e-6)


def test_what_cannot_be_read_is_a_row(classifier: Classifier, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path\nphotos/half 0/0.png\ngone.png\nphotos\n")
    answers = [answer for _, answer in classify_stream(classifier, open_stream(tmp_path / "a.csv"))]
    assert isinstance(answers[0], Prediction)
    assert "gone.png: no such file" in str(answers[1])
    assert "photos: is a directory" in str(answers[2])
    known = ListedImage("x", b"", problem=ImageError("b", "c"))
    assert [str(answer) for _, answer in classify_stream(classifier, [known])] == ["b. c"]


def test_an_error_that_is_kept_keeps_no_image(classifier: Classifier, tmp_path: Path) -> None:
    torn = encoded(np.zeros((40, 40), np.uint8))[:-30]
    items = [ListedImage("torn.png", torn), ListedImage("gone.png", str(tmp_path / "gone.png"))]
    for _, answer in classify_stream(classifier, items):
        each: BaseException | None = answer if isinstance(answer, ImageError) else None
        assert each is not None
        while each is not None:
            assert each.__traceback__ is None
            each = each.__cause__ or each.__context__


def test_an_error_of_the_source_comes_behind_the_answers(
    classifier: Classifier, digits: Dataset, tmp_path: Path
) -> None:
    write_digits(tmp_path, digits, range(30), lambda _: "")
    names = [f"{number}.png" for number in range(30)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["path", *names, "../x.png"]))
    answered: list[tuple[ListedImage, Prediction | ImageError]] = []
    with pytest.raises(SourceError, match="leads out"):
        answered.extend(classify_stream(classifier, open_stream(path)))
    assert [item.name for item, _ in answered] == names


def asked_for(content: bytes, asked: list[str]) -> Iterator[ListedImage]:
    """Yield an image for ever, and keep what was asked for."""
    while True:
        asked.append(str(len(asked)))
        yield ListedImage(asked[-1], content)


def settled(asked: list[str]) -> int:
    before = -1
    while before != len(asked):
        before = len(asked)
        time.sleep(0.15)
    return before


def test_a_slow_consumer_holds_everyone_back(classifier: Classifier, digits: Dataset) -> None:
    asked: list[str] = []
    answers = classify_stream(classifier, asked_for(encoded(digits.images[0][..., 0]), asked))
    next(answers)
    most = (image_engine._BATCHES + 1) * classifier.batch_size
    assert settled(asked) <= most
    for _ in range(classifier.batch_size):
        next(answers)
    assert settled(asked) <= most + classifier.batch_size
    answers.close()
    assert all_end()


def test_ctrl_c_ends_every_thread(classifier: Classifier, digits: Dataset) -> None:
    def interrupted() -> Iterator[ListedImage]:
        yield from (ListedImage(str(n), encoded(digits.images[n][..., 0])) for n in range(20))
        os.kill(os.getpid(), signal.SIGINT)
        while running():
            time.sleep(0.01)
            yield ListedImage("more", encoded(digits.images[0][..., 0]))

    answers = classify_stream(classifier, interrupted())
    with pytest.raises(KeyboardInterrupt):
        for _ in answers:
            pass
    answers.close()
    assert all_end()


def test_a_failure_of_the_classifier_is_raised(
    classifier: Classifier, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> list[Prediction]:
        raise MemoryError("no room")

    monkeypatch.setattr(classifier, "predict_prepared", fail)
    with pytest.raises(MemoryError, match="no room"):
        list(classify_stream(classifier, open_stream(photos)))


def test_a_drawing_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    assert check_drawing(tmp_path / "new" / "plot.PNG") == tmp_path / "new" / "plot.PNG"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RecipeError, match=r"\.png, \.svg, \.pdf"):
        check_drawing(tmp_path / "plot.gif")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="not a directory"):
        check_drawing(tmp_path / "file" / "plot.png")
