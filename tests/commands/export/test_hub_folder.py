"""The folder for the hub says what the run says, and nothing of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.evaluation.metric_table import known_metrics
from opsin.report.card import Publication, model_card
from tests.conftest import without_drawing, write_shapes

TO = "hf:someone/shapes"


def exported(run: Path | opsin.Run, to: str = TO, **options: Any) -> opsin.HubExport:
    found = opsin.export_model(run, to, **options)
    assert isinstance(found, opsin.HubExport)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> opsin.Run:
    """A model without layers that knows shapes, from a folder with a path of its own."""
    pytest.importorskip("sklearn", "1.9")
    root = tmp_path_factory.mktemp("ann-onymous")
    folder = write_shapes(root / "shapes", 40, kinds=("disc", "square", "cross"))
    with without_drawing():
        return opsin.train(folder, model="logistic", runs=root / "runs", quiet=True)


@pytest.fixture(scope="module")
def folder(trained: opsin.Run) -> Path:
    return exported(trained, licence="cc-by-4.0").path


def test_the_hubs_own_library_reads_the_figures_of_the_report(
    folder: Path, trained: opsin.Run
) -> None:
    cards = pytest.importorskip("huggingface_hub")
    card = cards.ModelCard.load(folder / "README.md")
    said = card.data
    assert (said.license, said.library_name, said.pipeline_tag) == (
        "cc-by-4.0",
        "onnx",
        "image-classification",
    )
    results = {each.metric_type: each for each in said.eval_results}
    figures = trained.report.judged
    kinds = {"macro_f1": "f1"}
    assert results.keys() == {kinds.get(m.key, m.key) for m in known_metrics(figures)}
    for metric in known_metrics(figures):
        result = results[kinds.get(metric.key, metric.key)]
        assert result.metric_value == pytest.approx(metric.value(figures), abs=1e-6)
        assert (result.dataset_name, result.dataset_split) == ("shapes", "test")
    assert said.model_name == "someone/shapes"
    assert f"On {figures.images:,} test images" in card.text
    assert f"{figures.low:.4f} to {figures.high:.4f}" in card.text


def test_without_a_test_part_every_figure_is_called_optimistic(plain_run: Path) -> None:
    report = opsin.Run(plain_run).report
    own = report.model_copy(update={"split": "val"})
    cards = pytest.importorskip("huggingface_hub")
    text = model_card(own, 0, name="a/b", source="digits", publication=Publication("a/b", "mit"))
    card = cards.ModelCard(text)
    assert all("validation, optimistic" in each.metric_name for each in card.data.eval_results)
    assert {each.dataset_split for each in card.data.eval_results} == {"validation"}
    assert "This is optimistic" in card.text
    assert "no test images, so that every figure is optimistic" in card.text


def test_a_card_that_was_changed_is_not_overwritten(plain_run: Path) -> None:
    exported(plain_run)
    card = exported(plain_run, licence="mit").path / "README.md"  # ours may be written anew
    card.write_text(changed := card.read_text() + "\nBy Ann.\n")
    with pytest.raises(opsin.RecipeError, match=r"changed by hand.*Remove it"):
        exported(plain_run)
    assert card.read_text() == changed
    card.unlink()
    assert "By Ann" not in exported(plain_run).path.joinpath("README.md").read_text()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_something_else_stays(plain_run: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        folder = out if kind == "folder" else tmp_path / "elsewhere"
        folder.mkdir()
        (folder / "holiday.jpg").write_text("mine")
    if kind == "link":
        out.symlink_to(folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(opsin.RecipeError, match="is no earlier export"):
        exported(plain_run, out=out)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("to", "options", "said"),
    [
        ("hf:boots", {}, "hf:owner/name"),
        ("hf:someone/boots@v2", {}, "Leave it out"),
        (TO, {"data": ["digits"]}, "no force and no data"),
        ("bundle", {"licence": "mit"}, "is for the hub"),
        ("hub", {}, "hf:owner/name, not 'hub'"),
    ],
)
def test_options_that_do_not_go_together(
    plain_run: Path, to: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(opsin.RecipeError, match=said):
        opsin.export_model(plain_run, to, **options)
    assert not list(plain_run.glob("hub-*"))


def test_a_file_without_its_run_has_no_figures_for_a_card(
    plain_run: Path, nearest_mean: Path
) -> None:
    with pytest.raises(opsin.RunError, match=r"no finished run.*Give the run directory"):
        exported(nearest_mean)
    (plain_run / "classifier-int8.onnx").write_bytes(nearest_mean.read_bytes())
    with pytest.raises(opsin.RunError, match="Give the run directory"):
        exported(plain_run / "classifier-int8.onnx")
