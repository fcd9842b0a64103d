"""A worker answers every line with one answer, and lets nothing else onto its output."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from opsin.commands.inspect_worker import answer_lines
from opsin.data.dataset import Dataset
from tests.made_runs import answers_right, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: Dataset, nearest_mean: Path) -> Path:
    """A finished run with a classifier that is the mean of each digit."""
    root = tmp_path_factory.mktemp("runs")
    return write_run(root, "means", digits, answers_right(digits, 0.9), classifier=nearest_mean)


def ask(run: Path, folder: Path, *lines: object) -> list[dict[str, Any]]:
    """Return the answers to lines, what is told on the way left out."""
    asked = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    out = io.StringIO()
    answer_lines(run, folder, asked, out)
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    return [each for each in said if "progress" not in each]


def question(do: str, **with_: object) -> dict[str, object]:
    return {"id": "a1", "do": do, "with": with_}


def test_a_known_image_is_shown_layer_by_layer(run: Path, tmp_path: Path) -> None:
    (said,) = ask(run, tmp_path, question("image", image="test/17"))
    assert said["page"] == str(tmp_path / "a1.html")
    page = (tmp_path / "a1.html").read_text(encoding="utf-8")
    assert "flatten" in page
    assert "test/17" in page
    assert said["said"]["actual"] in said["said"]["answer"]["probabilities"]
    (alone,) = ask(run, tmp_path, question("image", image="test/17", layer="input"))
    assert "data-units" in Path(alone["page"]).read_text(encoding="utf-8")
    assert len(Path(alone["page"]).read_text(encoding="utf-8")) < len(page)


def test_an_image_that_was_sent_is_answered_under_its_name(
    run: Path, tmp_path: Path, digits: Dataset
) -> None:
    stream = io.BytesIO()
    Image.fromarray(digits.images[0][..., 0]).save(stream, "PNG")
    content = base64.b64encode(stream.getvalue()).decode()
    (said,) = ask(run, tmp_path, question("nearest", content=content, name="<b>x</b>", count=3))
    assert said["page"] is None
    assert said["said"]["answer"]["image"] == "<b>x</b>"
    assert said["said"]["nearest"][0]["same"]
    assert all(each["shown"].startswith("data:image/png") for each in said["said"]["nearest"])
    (page,) = ask(run, tmp_path, question("image", content=content, name="<b>x</b>"))
    assert "<b>x</b>" not in Path(page["page"]).read_text(encoding="utf-8")


def test_units_and_the_network_have_pages(run: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    lines = [question("layer", layer="head", limit=100), question("network") | {"id": "b2"}]
    answer_lines(run, tmp_path, map(json.dumps, lines), out)
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {"id": "a1", "progress": ["Units of head", 0, 100]} in said
    assert [each["said"] for each in said if "said" in each] == [
        {"units": 10, "images": 100}, {"layers": 3},
    ]  # fmt: skip
    assert (tmp_path / "b2.html").is_file()


def test_an_explanation_has_its_checks_and_no_script_in_an_attribute(
    run: Path, tmp_path: Path
) -> None:
    (said,) = ask(run, tmp_path, question("explain", image="test/3"))
    page = Path(said["page"]).read_text(encoding="utf-8")
    assert "What are the checks?" in page
    assert 'type="range"' in page
    # script-src-attr 'none' of the studio would stop it.
    assert not re.search(r"<[^>]*\son[a-z]+\s*=", page)


@pytest.mark.parametrize(
    ("asked", "received"),
    [
        (question("image", image="test/18000"), "got 'test/18000'"),
        (question("image", image="/etc/passwd"), "got '/etc/passwd'"),
        (question("image", image="5"), "got '5'"),  # its name, which might be a file's too
        (question("image"), "got neither or both"),
        (question("image", content="aGFsbG8="), "no image of a known format"),
        (question("image", content="%"), "only base64 data is allowed"),
        (question("layer", layer="nowhere"), "got 'nowhere'"),
        (question("layer", layer="head", limit=0), "got 0"),
        (question("layer", layer=3), '"layer": 3'),
        (question("layer"), "got {}"),
        (question("network", image="test/1"), '"image"'),
        (question("nowhere"), "got 'nowhere'"),
        (question("nearest", image="test/1") | {"with": []}, "got []"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_three_parts(
    run: Path, tmp_path: Path, asked: dict[str, object], received: str
) -> None:
    (said,) = ask(run, tmp_path, asked)
    assert said["id"] == "a1"
    assert set(said["error"]) == {"kind", "expected", "received", "advice"}
    assert received in said["error"]["received"].lower()
    assert not list(tmp_path.iterdir())


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ).map(json.dumps),
        st.text(max_size=5).map(lambda number: json.dumps({"id": number, "do": "x"})),
    ).filter(lambda line: line.strip() != "")
)
def test_any_line_gets_one_answer(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    (said,) = ask(folder / "no run", folder, line)
    assert set(said["error"]) == {"kind", "expected", "received", "advice"}


def test_the_process_says_answers_alone_and_ends_with_its_input(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "opsin", "inspect", str(run), "--worker", "--out",
               str(tmp_path)]  # fmt: skip
    lines = "".join(json.dumps(each) + "\n" for each in (
        question("image", image="test/0"), question("nowhere")
    ))  # fmt: skip
    done = subprocess.run(
        command, input=lines, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [sorted(each) for each in said if "progress" not in each] == [
        ["id", "page", "said"], ["error", "id"],
    ]  # fmt: skip
