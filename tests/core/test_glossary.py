"""Every term that is printed has its entry in the glossary, and every entry is whole."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsin.classical.classical_recipe import TRAIN_OPTIONS
from opsin.cli.verbs import VERBS
from opsin.core.glossary import Term, find_term, glossary, term_of_layer
from opsin.core.metadata import LayerOp
from opsin.evaluation.metric_table import METRICS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "opsin"
TERMS = [term for section in glossary().values() for term in section]
PAGES = {
    "Data", "A dataset", "Train", "A run, Training", "A run, Report", "A run, Mistakes", "Inside",
    "Try", "Compare",
}  # fmt: skip

#: What is printed and needs no explanation: plain words, names, places, times, and options that
#: their own help explains.
PLAIN = {
    # Columns of tables.
    "", "all", "an image", "count", "curve", "date", "deviation", "device", "for", "image",
    "images", "input", "largest", "least typical", "licence", "lower than the rest", "mean",
    "most typical", "name", "on", "operator", "run", "size", "source", "state", "surest",
    "time", "trained", "value", "what", "work",
    # Names of facts.
    "budget", "done", "further", "goes on", "machine", "repeat", "repeats", "rests on", "resumed",
    # Columns of a lesson, whose page says what they hold.
    "dropped", "e^(logit/t)", "mean after", "mean before", "mean in training", "mix", "off",
    "scale", "shift", "term", "what it does",
    # Headings, quantities and charts of the studio.
    "add images", "curves", "estimate", "export", "how was it trained?", "memory", "queue",
    "settings",
}  # fmt: skip
#: Options whose help says everything: where things lie, and limits.
PLAIN_OPTIONS = {
    "--bits", "--columns", "--device", "--disk-limit", "--ema", "--follow-links", "--images",
    "--max-unreadable", "--outside",
}  # fmt: skip


def texts(node: ast.AST) -> Iterator[str]:
    """Return the texts in a piece of code; f-strings hold what is not known here."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif not isinstance(node, ast.JoinedStr):
        for each in ast.iter_child_nodes(node):
            yield from texts(each)


def name_of(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def calls(file: Path, *names: str) -> Iterator[ast.Call]:
    """Return the calls of functions, or methods, of these names in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and name_of(node) in names:
            yield node


def loops(file: Path, name: str) -> Iterator[ast.expr]:
    """Return what the loops in a file go over that call a function of this name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.For | ast.GeneratorExp) and any(
            isinstance(each, ast.Call) and name_of(each) == name for each in ast.walk(node)
        ):
            yield node.iter if isinstance(node, ast.For) else node.generators[0].iter


def of_the_terminal() -> set[str]:
    """Return the headings of the terminal's tables."""
    files = [*(SOURCE / "cli").glob("*.py"), SOURCE / "report" / "terminal.py"]
    found = set()
    for file in files:
        for loop in loops(file, "heading"):
            found |= set(texts(loop))
        for call in calls(file, "heading", "_table"):
            found |= {text for each in call.args for text in texts(each)}
    for file in [*(SOURCE / "cli").glob("*.py"), *(SOURCE / "commands").rglob("*.py")]:
        for call in calls(file, "fact"):
            found |= set(texts(call.args[0]))
    return found


def of_the_studio() -> set[str]:
    """Return the headings of the studio's panels, tables and charts, and its quantities' names."""
    found = set()
    for file in (SOURCE / "studio").rglob("*.py"):
        for call in calls(file, "ImageSheet", "panel", "word"):
            told = name_of(call) == "word" and len(call.args) > 1  # which term it is
            found |= set(texts(call.args[0])) if call.args and not told else set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [getattr(each, "id", "") for each in getattr(node, "targets", [])]
            names.append(getattr(getattr(node, "target", None), "id", ""))
            value = getattr(node, "value", None)
            tables = {"_CHARTS", "_COLUMNS", "_CURVES", "_VIEWS"}
            if tables & set(names) and isinstance(value, ast.Tuple):
                found |= {list(texts(row))[1] for row in value.elts}
            elif "facts" in names and value is not None:
                pairs = [each for each in ast.walk(value) if isinstance(each, ast.Tuple)]
                found |= {next(texts(pair)) for pair in pairs}
    return found


TEMPLATES = "".join(
    file.read_text(encoding="utf-8") for file in (SOURCE / "report").rglob("*.html")
)


def of_the_pages() -> set[str]:
    """Return the words that the templates of pages mark."""
    return set(re.findall(r'"([^"]+)"\|term', TEMPLATES))


PRINTED = of_the_terminal() | of_the_studio()


def test_headings_are_found() -> None:
    assert {"Layer", "Sees", "Images/s", "train loss", "Model", "Confuses"} <= of_the_terminal()
    found = {"Multiply-adds", "Learning rate", "Confusion matrix", "Why this answer", "Accuracy"}
    assert found <= of_the_studio()
    assert {"Precision", "Sparsity", "Epoch"} <= of_the_pages()


@pytest.mark.parametrize("text", sorted(PRINTED))
def test_what_is_printed_has_an_entry_or_is_plain(text: str) -> None:
    if find_term(text) is None:
        assert text.strip(" (:").lower() in PLAIN


def test_no_plain_word_is_left_over() -> None:
    printed = {text.strip(" (:").lower() for text in PRINTED}
    assert PLAIN - printed == set()
    assert {text for text in PLAIN if find_term(text)} == set()


def test_pages_mark_each_heading_that_has_an_entry() -> None:
    headings = set(re.findall(r"<th[^>]*>([^<{]+)</th>", TEMPLATES))
    assert len(headings) > 10
    assert {text for text in headings if find_term(text)} == set()


@pytest.mark.parametrize("text", sorted(of_the_pages()))
def test_what_a_page_marks_has_an_entry(text: str) -> None:
    assert find_term(text)


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


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.key)
def test_a_terms_picture_is_small_and_its_own_or_that_of_another(term: Term) -> None:
    pictures = ROOT / "docs" / "images" / "terms"
    if term.image:
        assert (pictures / f"{term.image}.png").stat().st_size <= 40_000
        assert next(each for each in TERMS if each.key == term.image).picture is None


def test_no_picture_is_left_over() -> None:
    pictures = {file.stem for file in (ROOT / "docs" / "images" / "terms").glob("*")}
    assert pictures == {term.image for term in TERMS if term.image}
