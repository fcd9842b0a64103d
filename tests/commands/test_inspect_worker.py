"""A worker answers every question with one frame: plain data, and the images in its body."""

from __future__ import annotations

import io
import itertools
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from opsin.commands.inspect_model import Inspection
from opsin.commands.inspect_worker import InspectWorker, on_photograph
from opsin.core.child_process import Unpacker, error_from, module_command, pack
from opsin.core.errors import OpsinError
from opsin.core.metadata import Resize
from opsin.data.dataset import Dataset
from tests.inspection.lesson_network import write_lesson_network
from tests.made_runs import answers_right, write_run
from tests.served import encoded

Frame = tuple[dict[str, Any], bytes]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: Dataset, nearest_mean: Path) -> Path:
    root = tmp_path_factory.mktemp("runs")
    return write_run(root, "means", digits, answers_right(digits, 0.9), classifier=nearest_mean)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """A run of a network with a layer of every lesson."""
    root = tmp_path_factory.mktemp("deep")
    network = write_lesson_network(root / "network.onnx")
    return write_run(root, "deep", digits, answers_right(digits, 0.9), classifier=network)


def ask(run: Path, *questions: Any, content: bytes = b"") -> list[Frame]:
    asked = b"".join(part for question in questions for part in pack(question, [content]))
    out = io.BytesIO()
    InspectWorker(run, out).answer_frames(io.BytesIO(asked))
    return list(Unpacker().feed(out.getvalue()))


def answers(run: Path, *questions: Any, content: bytes = b"") -> list[Frame]:
    """Return the answers to questions, without the progress sent before them."""
    frames = ask(run, *questions, content=content)
    return [frame for frame in frames if "progress" not in frame[0]]


def question(do: str, **with_: object) -> dict[str, object]:
    return {"do": do, "with": with_}


def images_of(frame: Frame) -> list[Image.Image]:
    header, body = frame
    ends = [0, *itertools.accumulate(header["images"])]
    return [Image.open(io.BytesIO(body[low:high])) for low, high in itertools.pairwise(ends)]


def test_a_layers_maps_are_images_in_the_colours_of_their_numbers(deep: Path) -> None:
    look = Inspection(deep)
    name = "conv1"
    (frame,) = answers(deep, question("maps", image="test/3", layer=name))
    said, images = frame[0]["said"], images_of(frame)
    (view,) = look.layers("test/3", [name])
    assert [unit["unit"] for unit in said["units"]] == view.order.tolist()
    assert said["answer"]["label"] in {*look.classifier.classes, "none of these"}
    assert images[said["image"]].size == (8, 8)
    for unit in said["units"]:
        values = view.values[unit["unit"]]
        assert unit["high"] == pytest.approx(float(values.max()))
        drawn = np.asarray(images[unit["image"]])  # indices of colours
        assert drawn.shape == values.shape
        assert drawn.flat[values.argmax()] == drawn.max()
        assert drawn.flat[values.argmin()] == drawn.min()
        top, left, bottom, right = unit["box"]
        assert 0 <= top < bottom <= 8
        assert 0 <= left < right <= 8


def test_further_units_follow_and_one_can_be_asked_for_alone(run: Path) -> None:
    first, rest, alone = answers(
        run,
        question("maps", image="test/17", layer="flatten"),
        question("maps", image="test/17", layer="flatten", first=48),
        question("maps", image="test/17", layer="flatten", unit=5),
    )
    units = [unit["unit"] for frame in (first, rest) for unit in frame[0]["said"]["units"]]
    assert len(first[0]["said"]["units"]) == 48
    assert sorted(units) == list(range(64)) == list(range(first[0]["said"]["total"]))
    assert [unit["unit"] for unit in alone[0]["said"]["units"]] == [5]


def test_an_image_that_was_sent_is_answered_under_its_name(run: Path, digits: Dataset) -> None:
    asked = question("maps", name="<b>x</b>", layer="head")
    ((header, _),) = answers(run, asked, content=encoded(digits.images[0][..., 0]))
    assert header["said"]["answer"]["name"] == "<b>x</b>"
    assert header["said"]["answer"]["actual"] is None
    assert header["said"]["names"] == list("0123456789")


def test_a_units_photographs_come_with_what_it_sees(deep: Path) -> None:
    look = Inspection(deep)
    name = next(layer.name for layer in look.classifier.metadata.layers if len(layer.shape) == 3)
    frames = ask(deep, question("unit", layer=name, unit=0, limit=100))
    assert frames[0][0]["progress"] == [f"Units of {name}", 0, 100]
    said, images = frames[-1][0]["said"], images_of(frames[-1])
    unit = look.units(name, limit=100).unit(0)
    assert said["images"] == 100 < said["total"]
    assert [best["value"] for best in said["best"]] == [best.value for best in unit.best]
    for best, top in zip(said["best"], unit.best, strict=True):
        assert images[best["image"]].size == (8, 8)
        if best["patch"] is not None:
            assert images[best["patch"]].size[::-1] == top.patch.shape[:2]


def test_a_layer_without_a_lesson_names_those_that_there_are(run: Path) -> None:
    ((header, _),) = answers(run, question("lesson", image="test/3", layer="input"))
    assert header["said"] == {"terms": {"dropout": ["head"], "softmax": ["head"]}, "lesson": None}


def test_heat_maps_come_with_their_verdicts(run: Path) -> None:
    *before, frame = ask(run, question("explain", image="test/3"))
    what, done, total = next(
        header["progress"] for header, _ in before if "Heat maps" in str(header)
    )
    assert (what, done) == ("Heat maps and their checks", 0) and total > 300
    said = frame[0]["said"]
    assert {heat["method"] for heat in said["maps"]} >= {"occlusion"}
    for heat in said["maps"]:
        assert heat["trusted"] is not heat["verdict"].startswith("not to be trusted")
        assert images_of(frame)[heat["image"]].mode == "RGB"
    assert len(said["nearest"]) == 9


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (question("maps", image="test/18000"), "'test/18000'"),
        (question("maps", image="5"), "'5'"),  # its name, which might be a file's too
        (question("maps"), "known or sent"),
        (question("maps", image="test/1", layer="head", unit=10), "no unit 10"),
        (question("maps", image="test/1", layer="head", unit=-1), "no unit -1"),
        (question("maps", image="test/1", layer="head", first=-1), '"first"'),
        (question("maps", content="aGFsbG8="), '"content"'),
        (question("unit", layer="nowhere"), "'nowhere'"),
        (question("unit", layer="head", limit=0), "0"),
        (question("unit", layer="head", unit=10), "no unit 10"),
        (question("lesson", image="test/1", term="pooling"), "has no pooling"),
        (question("lesson", image="test/1", term="softmax", layer="input"), "'input'"),
        (question("nowhere"), "nowhere"),
        (question("explain", image="test/1") | {"with": []}, "[]"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    run: Path, asked: dict[str, object], message: str
) -> None:
    ((header, body),) = answers(run, asked)
    assert message in error_from(header["error"]).message
    assert body == b""


@given(
    st.dictionaries(
        st.sampled_from(["do", "with"]) | st.text(),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_question_gets_one_answer(
    tmp_path_factory: pytest.TempPathFactory, asked: dict[str, Any]
) -> None:
    ((header, _),) = answers(tmp_path_factory.getbasetemp() / "no run", asked)
    assert isinstance(error_from(header["error"]), OpsinError)


def test_the_process_says_answers_alone_and_ends_with_its_input_or_its_reader(run: Path) -> None:
    command = module_command("opsin.commands.inspect_worker", str(run))
    asked = [question("maps", image="test/0", layer="head"), question("nowhere")]
    frames = b"".join(part for one in asked for part in pack(one))
    done = subprocess.run(command, input=frames, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = [header for header, _ in Unpacker().feed(done.stdout)]
    kinds = [sorted(header) for header in said if "progress" not in header]
    assert kinds == [["images", "said"], ["error"]]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, bufsize=0) as process:  # type: ignore[call-overload]
        process.stdin.write(frames)
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(60) in (0, -signal.SIGPIPE)
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("squash", [[1, 1, 2, 2], [1, 1, 2, 2]]),
        ("fill", [[0, 1, 2, 0], [0, 1, 2, 0]]),  # its sides were cut off
        ("fit", [[1, 1, 2, 2], [1, 1, 2, 2]]),  # above and below it was filled up
    ],
)
def test_a_heat_map_lies_where_the_network_looked(
    resize: Resize, expected: list[list[int]]
) -> None:
    """A photograph of 4 × 2 pixels, and a network of 2 × 2 (as large as it, for "fit")."""
    heat = np.array([[1, 2], [1, 2]], np.float32)
    if resize == "fit":
        heat = np.array([[9] * 4, [1, 1, 2, 2], [1, 1, 2, 2], [9] * 4], np.float32)
    found = on_photograph(heat, resize, (2, 4))
    assert np.abs(found - expected).max() < 0.5


def test_an_image_that_is_sent_is_answered_and_shown_with_what_counts(
    run: Path, digits: Dataset
) -> None:
    content = encoded(np.kron(digits.images[3][..., 0], np.ones((3, 5), np.uint8)))
    asked = question("predict", name="x.png"), question("where", name="x.png")
    predicted, where = answers(run, *asked, content=content)
    answer = Inspection(run).predict(content, name="x.png")
    said = predicted[0]["said"]
    assert (said["label"], said["probabilities"]) == (answer.label, answer.probabilities)
    assert (said["name"], said["rejected"], "pixels" in said) == ("x.png", answer.rejected, False)
    (drawn,) = images_of(where)
    assert (drawn.size, drawn.mode) == ((40, 24), "RGB")
