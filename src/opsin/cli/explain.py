"""`opsin explain`: a page on what a layer does, with real numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from opsin.cli.output import columns, console, plain, print_json
from opsin.core.format import percent
from opsin.core.stored_json import plain_data
from opsin.inspection.lessons.lesson_terms import SENTENCES, Term
from opsin.report.terminal import for_people, printable
from opsin.runtime.prediction import CANNOT_TELL

if TYPE_CHECKING:
    from opsin.commands.inspect import Explained


def explain(
    model: Path,
    image: str | None = None,
    *,
    term: Term | None = None,
    layer: str | None = None,
    data: list[str] | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Explain what a layer does, with its real numbers for one image.

    Writes a page into inspection in the run directory, or here; --json writes none.

    Example: opsin explain runs/2026-11-21-fashion-mnist-cnn --term convolution

    Example: opsin explain runs/2026-11-21-fashion-mnist-cnn boot.jpg --term softmax

    Options:
        image (IMAGE): An image; or one of the run's, by name, or by part and number: test/17
            (default: the first test image).
        term: What to explain (default: list what this network has).
        layer (NAME): At which layer (default: the first one of that kind).
    """
    from opsin.commands.inspect import explain as workflow  # noqa: PLC0415  slow to load

    explained = workflow(
        model,
        term,
        image,
        layer=layer,
        data=data or (),
        page=not as_json,
        watcher=for_people(quiet=quiet),
    )
    if as_json:
        print_json(plain_data(explained))
    else:
        _show(console(), explained)


def _show(screen: Console, explained: Explained) -> None:
    lesson, answer = explained.lesson, explained.answer
    if lesson is None or answer is None:
        terms = columns("Term", "Layers", "What it does", gap=2)
        for term, sentence in SENTENCES.items():
            layers = explained.terms.get(term, ())
            more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
            terms.add_row(term, plain(", ".join(layers[:3]) + more) or "none here", sentence)
        screen.print(terms)
        return
    words = printable(answer.name), printable(answer.answer), percent(answer.confidence)
    screen.print("   ".join(words), markup=False)
    if answer.rejected is None:
        screen.print(f"{CANNOT_TELL}.", style="dim")
    screen.print(f"{printable(lesson.layer)}   {printable(lesson.kind)}", markup=False)
    screen.print(SENTENCES[lesson.term], markup=False)
    screen.print(f"\nLook      {explained.page}", markup=False, soft_wrap=True)
