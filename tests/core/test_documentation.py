"""A page of the documentation is found by what people call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opsin import OpsinError
from opsin.core.glossary import find_page

PLACES = {
    "index.html": "Opsin",
    "how-to/index.html": "Do",
    "how-to/serving.html": "A server",
    "how-to/serving.html#dropout": "dropout",
    "how-to/train.html": "Train",
    "how-to/train.html#batch-size": "Batch size",
    "reference/commands/train.html": "opsin train",
    "reference/glossary.html": "Glossary",
    "reference/glossary.html#dropout": "dropout",
    "understand/calibration.html#train": "Train",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    items = [{"location": place, "title": title} for place, title in PLACES.items()]
    (tmp_path / "search.json").write_text(json.dumps({"items": items}), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("topic", "page"),
    [
        ("", "index.html"),
        ("  ", "index.html"),
        ("serving", "how-to/serving.html"),
        ("Serving", "how-to/serving.html"),
        ("how-to/serving", "how-to/serving.html"),
        ("how-to", "how-to/index.html"),
        ("a server", "how-to/serving.html"),
        ("train", "how-to/train.html"),  # a page before a section
        ("opsin train", "reference/commands/train.html"),
        ("dropout", "reference/glossary.html#dropout"),  # the glossary before other pages
        ("Batch Size", "how-to/train.html#batch-size"),
    ],
)
def test_a_topic_leads_to_its_page(topic: str, page: str, site: Path) -> None:
    assert find_page(topic, site) == page


def test_what_is_not_there_is_said_with_what_is_near(site: Path) -> None:
    with pytest.raises(OpsinError, match=r"nothing in it is called 'servng'; serving.* comes near"):
        find_page("servng", site)
