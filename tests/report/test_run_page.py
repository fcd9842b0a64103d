"""The page and the card are whole, honest and safe, whatever the names."""

import json
import re

import numpy as np
import pytest

from opsin.core.artifacts.run_report import Report, SuspectedLabel
from opsin.core.recipe import DataRecipe
from opsin.evaluation.mistakes import cells_of
from opsin.evaluation.slices import slice_accuracy
from opsin.models.resolve import resolve
from opsin.report.card import model_card
from opsin.report.run_page import PageImages, render
from tests.report.test_figures import HISTORY, HOSTILE, answers, figures_for

RECIPE = resolve(DataRecipe(sources=("digits",)), model="mlp")


def report_of(names: list[str], split: str = "test") -> Report:
    refused = {"count": 3, "images": 200, "share": 0.015, "low": 0.01, "high": 0.04}
    figures = figures_for(names).model_dump(mode="json", exclude_unset=True) | {
        "uncalibrated": {"log_loss": 2.0, "calibration_error": 0.2},
        "refused": refused | {"accuracy_of_others": 0.5},
        "without_leaks": {"images": 190, "accuracy": 0.1, "low": 0.05, "high": 0.2},
    }
    right, light = np.arange(200) % 3 > 0, np.arange(200, dtype=np.float64) % 7
    epochs = {"best_epoch": 2, "epochs": 2, "asked": 3, "stopped": True, "device": "CPU"}
    return Report.model_validate(
        {
            "opsin": "1",
            "source": names[0],
            "model": "mlp",
            "dataset": "200 images",
            "split": split,
            "figures": {split: figures},
            "unreadable": 2,
            "leaks": {"exact": 1, "near": 0},
            "looks": 3,
            "findings": [{"count": 3, "title": "Odd <b>", "opsin": "keeps them"}],
            "training": epochs | {"parameters": 5, "trainable": 4, "multiply_adds": 9},
            "file": {"bytes": 1000, "parity_images": 512, "difference": 2e-6},
            "calibration": {"temperature": 0.8, "images": 50, "log_loss": [0.3, 0.2]},
            "reject": {"max_ood_score": 0.5, "rate": 0.02, "images": 50},
            "failures": {
                "suspects": [],
                "suspected": 1,
                "slices": slice_accuracy(right, {"brightness": light}),
            },
            "layers": [],
            "seconds": {"train": 72.0},
        }
    )


def rendered(names: list[str], split: str = "test") -> str:
    shown = answers(names)
    labels = np.arange(30) % len(names)
    shares = np.random.default_rng(0).dirichlet(np.ones(len(names)), 30).astype(np.float32)
    cells = [(cell, shown[:1]) for cell in cells_of(shares, labels)]
    suspected = SuspectedLabel(
        row=0, name=names[0], digest="", label=names[0], suggested=names[1], score=0.9, example=1
    )
    suspect = (suspected, shown[0].pixels, shown[1].pixels)
    images = PageImages(shown, shown, shown[:1], cells, [suspect])
    drawn = {"calibration": '<svg width="9pt" height="9pt"><text>a</text></svg>'}
    return render(
        report_of(names, split), RECIPE, HISTORY, name=names[0], images=images, drawn=drawn
    )


@pytest.mark.parametrize("names", [HOSTILE, [f"class {n}" for n in range(40)]])
def test_the_page_is_self_contained_and_nothing_in_a_name_runs(names: list[str]) -> None:
    text = rendered(names)
    assert "<img src=x" not in text
    assert text.count("<script") == 1
    assert re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', text) == []
    assert "stopped in epoch 2 of 3" in text
    assert len(re.findall(r"<img(?![^>]*alt=)", text)) == 0


def test_what_the_page_must_not_hide() -> None:
    text = rendered(["a", "b"])
    assert "looked at 3 times by the runs of this folder" in text
    assert "Without them the accuracy is 0.1000 ± 0.1000 (190 images)" in text
    assert "0.2000 without" in text
    assert "2.0% of good images are refused by mistake" in text
    assert "optimistic" not in text


def test_without_test_data_the_page_says_optimistic() -> None:
    text = rendered(["a", "b"], split="val")
    assert "This is optimistic" in text
    assert "<small>optimistic</small>" in text


@pytest.mark.parametrize("names", [["boot", "bag"], HOSTILE])
def test_the_card_has_a_header_that_machines_read(names: list[str]) -> None:
    card = model_card(report_of(names), 0, name=names[0], source=names[0])
    _, header, body = card.split("---\n", 2)
    # Each value is JSON, which YAML contains.
    fields = {
        key: json.loads(value)
        for key, value in (line.split(": ", 1) for line in header.splitlines())
    }
    (model,) = fields["model-index"]
    assert model["name"] == names[0]
    assert model["results"][0]["metrics"][0]["type"] == "accuracy"
    assert fields["pipeline_tag"] == "image-classification"
    assert "<img" not in body.replace("\\<img", "")
    assert "none of these" in body
    assert "1 test image has an exact copy" in body
