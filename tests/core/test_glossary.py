"""Every term that is printed has its entry in the glossary, and every entry is whole."""

import re
from collections import Counter
from pathlib import Path

import pytest

from opsin.classical.classical_recipe import TRAIN_OPTIONS
from opsin.cli.verbs import VERBS
from opsin.core.glossary import Term, find_term, glossary, term_of_layer
from opsin.core.metadata import LayerOp
from opsin.evaluation.metric_table import METRICS

ROOT = Path(__file__).parents[2]
TERMS = [term for section in glossary().values() for term in section]
PAGES = {"", "Photos", "Train", "Results", "Try", "Look inside", "Compare"}

#: Options whose help says everything: where things lie, and limits.
PLAIN_OPTIONS = {
    "--bits", "--columns", "--device", "--ema", "--follow-links", "--images",
    "--max-unreadable", "--outside",
}  # fmt: skip


@pytest.mark.parametrize("op", [op for op in LayerOp if op is not LayerOp.OTHER])
def test_a_kind_of_layer_has_an_entry(op: LayerOp) -> None:
    assert term_of_layer(f"{op} 3")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_a_metric_has_an_entry_under_each_of_its_names(metric: object) -> None:
    for name in ("title", "heading", "column", "name"):
        text = getattr(metric, name)
        assert not text or find_term(text), text


@pytest.mark.parametrize("flag", sorted(option.flag for option in TRAIN_OPTIONS.values()))
def test_an_option_has_an_entry_or_is_plain(flag: str) -> None:
    assert (find_term(flag) is None) == (flag in PLAIN_OPTIONS)


def test_a_word_leads_to_one_term() -> None:
    words = Counter(word.lower() for term in TERMS for word in {term.title, *term.words})
    words.update(word for term in TERMS for word in term.layers)
    assert [word for word, count in words.items() if count > 1 and word.islower()] == []
    assert max(Counter(term.key for term in TERMS).values()) == 1
    assert len(TERMS) > 60


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.key)
def test_a_term_is_whole(term: Term) -> None:
    assert len(term.says) == 3
    for sentence in term.says:
        assert re.fullmatch(r'["A-Z0-9`].{10,220}[.?]', sentence), sentence
    assert term.studio in PAGES
    words = term.command.split()
    assert words[0] == "opsin"
    assert words[1] in VERBS
    section = (ROOT / "docs" / "reference" / "commands" / f"{words[1]}.md").read_text("utf-8")
    for flag in (word for word in words if word.startswith("--")):
        assert f"{flag} " in section or f"{flag}\n" in section or f"{flag}/" in section, flag
