"""A worker answers every line with one answer, and lets nothing else onto its output."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from opsin.commands.inspect_worker import answer_frames
from opsin.core.child_process import Unpacker, error_from, module_command, pack
from opsin.core.errors import OpsinError
from opsin.data.dataset import Dataset
from tests.made_runs import answers_right, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: Dataset, nearest_mean: Path) -> Path:
    root = tmp_path_factory.mktemp("runs")
    return write_run(root, "means", digits, answers_right(digits, 0.9), classifier=nearest_mean)


def ask(run: Path, folder: Path, *questions: Any, content: bytes = b"") -> list[dict[str, Any]]:
    asked = b"".join(part for each in questions for part in pack(each, [content]))
    out = io.BytesIO()
    answer_frames(run, folder, io.BytesIO(asked), out)
    return [header for header, _ in Unpacker().feed(out.getvalue())]


def answers(run: Path, folder: Path, *questions: Any, content: bytes = b"") -> list[dict[str, Any]]:
    """Return the answers to questions, without the progress sent before them."""
    sent = ask(run, folder, *questions, content=content)
    return [each for each in sent if "progress" not in each]


def question(do: str, **with_: object) -> dict[str, object]:
    return {"id": "a1", "do": do, "with": with_}


def test_a_known_image_is_shown_layer_by_layer(run: Path, tmp_path: Path) -> None:
    (said,) = answers(run, tmp_path, question("image", image="test/17"))
    assert said["page"] == str(tmp_path / "a1.html")
    page = (tmp_path / "a1.html").read_text(encoding="utf-8")
    assert "flatten" in page
    assert "test/17" in page
    assert said["said"]["actual"] in said["said"]["answer"]["probabilities"]
    (alone,) = answers(run, tmp_path, question("image", image="test/17", layer="input"))
    assert "data-units" in Path(alone["page"]).read_text(encoding="utf-8")
    assert len(Path(alone["page"]).read_text(encoding="utf-8")) < len(page)


def test_an_image_that_was_sent_is_answered_under_its_name(
    run: Path, tmp_path: Path, digits: Dataset
) -> None:
    stream = io.BytesIO()
    Image.fromarray(digits.images[0][..., 0]).save(stream, "PNG")
    asked = question("nearest", name="<b>x</b>", count=3)
    (said,) = answers(run, tmp_path, asked, content=stream.getvalue())
    assert said["page"] is None
    assert said["said"]["answer"]["image"] == "<b>x</b>"
    assert said["said"]["nearest"][0]["same"]
    assert all(each["shown"].startswith("data:image/png") for each in said["said"]["nearest"])
    asked = question("image", name="<b>x</b>")
    (page,) = answers(run, tmp_path, asked, content=stream.getvalue())
    assert "<b>x</b>" not in Path(page["page"]).read_text(encoding="utf-8")


def test_units_and_the_network_have_pages(run: Path, tmp_path: Path) -> None:
    questions = [question("layer", layer="head", limit=100), question("network") | {"id": "b2"}]
    said = ask(run, tmp_path, *questions)
    assert {"id": "a1", "progress": ["Units of head", 0, 100]} in said
    assert [each["said"] for each in said if "said" in each] == [
        {"units": 10, "images": 100}, {"layers": 3},
    ]  # fmt: skip
    assert (tmp_path / "b2.html").is_file()


def test_lessons_and_explanations_have_pages_without_script_in_an_attribute(
    run: Path, tmp_path: Path
) -> None:
    (said,) = answers(run, tmp_path, question("lesson", image="test/3", layer="head"))
    assert said["said"]["terms"] == {"dropout": ["head"], "softmax": ["head"]}
    assert (said["said"]["term"], said["said"]["layer"]) == ("dropout", "head")
    asked = question("lesson", image="test/3", term="softmax") | {"id": "b2"}
    (said,) = answers(run, tmp_path, asked)
    (explained,) = answers(run, tmp_path, question("explain", image="test/3"))
    for each in (said, explained):
        page = Path(each["page"]).read_text(encoding="utf-8")
        assert 'type="range"' in page
        # script-src-attr 'none' of the studio would stop it.
        assert not re.search(r"<[^>]*\son[a-z]+\s*=", page)
    assert "What are the checks?" in page
    asked = question("lesson", image="test/3", layer="input") | {"id": "c3"}
    (said,) = answers(run, tmp_path, asked)
    assert said["page"] is None
    assert "term" not in said["said"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (question("image", image="test/18000"), "'test/18000'"),
        (question("image", image="5"), "'5'"),  # its name, which might be a file's too
        (question("image"), "known or sent"),
        (question("image", content="aGFsbG8="), '"content"'),
        (question("layer", layer="nowhere"), "'nowhere'"),
        (question("layer", layer="head", limit=0), "0"),
        (question("lesson", image="test/1", term="pooling"), "has no pooling"),
        (question("lesson", image="test/1", term="softmax", layer="input"), "'input'"),
        (question("nowhere"), "nowhere"),
        (question("nearest", image="test/1") | {"with": []}, "[]"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    run: Path, tmp_path: Path, asked: dict[str, object], message: str
) -> None:
    (said,) = answers(run, tmp_path, asked)
    assert said["id"] == "a1"
    assert message in error_from(said["error"]).message
    assert not list(tmp_path.iterdir())


@given(
    st.dictionaries(
        st.sampled_from(["id", "do", "with"]) | st.text(),
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
    folder = tmp_path_factory.getbasetemp()
    (said,) = answers(folder / "no run", folder, asked)
    assert isinstance(error_from(said["error"]), OpsinError)


def test_the_process_says_answers_alone_and_ends_with_its_input(run: Path, tmp_path: Path) -> None:
    command = module_command("opsin.commands.inspect_worker", str(run), str(tmp_path))
    asked = [question("image", image="test/0"), question("nowhere")]
    frames = b"".join(part for each in asked for part in pack(each))
    done = subprocess.run(command, input=frames, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = [header for header, _ in Unpacker().feed(done.stdout)]
    assert [sorted(each) for each in said if "progress" not in each] == [
        ["id", "page", "said"], ["error", "id"],
    ]  # fmt: skip
