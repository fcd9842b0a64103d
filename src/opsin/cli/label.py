"""`opsin label` and `opsin find`: a heap of photographs is labelled and searched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from opsin.cli import recipe_flags
from opsin.cli.options import expect
from opsin.cli.output import columns, console, plain, print_json, say_unreadable
from opsin.core.format import counted
from opsin.report.terminal import for_people

if TYPE_CHECKING:
    from opsin.commands.label import Labelled


@recipe_flags.takes("columns", "follow_links", "outside", after="backbone")
def label(
    source: str,
    *,
    classes: str | None = None,
    next: int = 0,  # noqa: A002
    labels: str | None = None,
    undo: bool = False,
    who: str = "",
    overlap: float = 0.0,
    write: Literal["folders", "csv"] | None = None,
    out: str | None = None,
    move: bool = False,
    file: str | None = None,
    backbone: Annotated[str, typer.Option("--from")] = "efficientnet-lite2",
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
) -> None:
    """Label a heap of photographs with few questions, and see how good it is by now.

    Example: opsin label heap --classes paper,metal,glass --next 20 --json

    Example: opsin label heap --labels answers.csv --next 20 --json

    Example: opsin label heap --who ada --overlap 0.1 --next 20 --json

    Example: opsin label heap --write folders --out sorted

    Options:
        source (HEAP): Photographs without classes: a folder, a table, an archive.
        classes (A,B,…): Classes to begin with, or the path of a run or a source that has them
            (runs/waste, ./photos); labels bring further ones.
        next (COUNT): Photographs to ask about now.
        labels (FILE): Take the answers of this table first: columns path and label.
        undo: Take back the last answers.
        who (NAME): Whose answers these are: no photograph is asked of two people.
        overlap (SHARE): Ask this share of the questions of everybody, to see how far you agree.
        write (FORM): Write what is labelled: photographs into a folder for each class, or a table.
        out (PLACE): The new folder or table.
        move: Move photographs into the folders instead of copying them; undone by opsin undo.
        file (FILE): Keep labels here (default: in your account's state folder).
        backbone (NETWORK): Network that tells photographs apart.
    """
    from opsin.commands.label import label as workflow  # noqa: PLC0415  loads onnx

    expect(not move or write == "folders", "--write folders beside it", "--move")
    names = [name.strip() for name in (classes or "").split(",") if name.strip()]
    if classes is not None and os.sep in classes and os.path.lexists(classes):
        from opsin.commands.classes import classes_of  # noqa: PLC0415  likewise

        names = [*classes_of(classes)]
    done = workflow(
        source,
        classes=names,
        next=next,
        labels=labels,
        undo=undo,
        who=who,
        overlap=overlap,
        write=write,
        out=out,
        by="move" if move else "copy",
        file=file,
        backbone=backbone,
        watcher=for_people(quiet=quiet),
        **fields,
    )
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        _print(done)


def _print(done: Labelled) -> None:
    screen, now = console(), done.progress
    counts = " · ".join(f"{plain(name)} {count:,}" for name, count in now.counts.items())
    screen.print(
        f"[bold]Labels[/]    {now.labelled:,} of {counted(now.images, 'photograph')}"
        f"{f' · {counts}' if counts else ''}"
    )
    for title, sentence in zip(("Accuracy  ", "Further   "), now.sentences, strict=False):
        screen.print(f"[bold]{title}[/]{sentence}")
    for pair in now.agreements:
        first, second = (plain(name) or "somebody" for name in pair.who)
        kappa = "too few for kappa"
        if pair.kappa is not None and pair.interval is not None:
            low, high = pair.interval
            kappa = f"Cohen's kappa {pair.kappa:.2f} ({low:.2f} to {high:.2f})"
        screen.print(
            f"[bold]Agreed[/]    {first} and {second} on {pair.same} of {pair.photographs}: {kappa}"
        )
    if done.out is not None:
        screen.print(
            f"[bold]Written[/]   {plain(str(done.out))} · {counted(done.written, 'photograph')}"
        )
    if done.next:
        table = columns("Photograph", "Guess", "Probability", "Why")
        for one in done.next:
            share = "" if one.probability is None else f"{one.probability:.1%}"
            table.add_row(plain(one.image), plain(one.guess or ""), share, one.why)
        screen.print(table)
    say_unreadable(done.unreadable)


@recipe_flags.takes("columns", "follow_links", "outside", after="backbone")
def find(
    source: str,
    like: list[str],
    *,
    unlike: list[str] | None = None,
    count: int = 20,
    out: str | None = None,
    file: str | None = None,
    backbone: Annotated[str, typer.Option("--from")] = "efficientnet-lite2",
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
) -> None:
    """Find the photographs of a heap that are most like some.

    Example: opsin find heap boot.jpg

    Example: opsin find heap img_0412.jpg img_0017.jpg --unlike img_0020.jpg --out like.png

    Example: opsin find heap metal --count 50 --json

    Options:
        source (HEAP): Photographs, with or without classes: a folder, a table, an archive.
        like (QUERY...): What to look for: names of the heap's photographs, classes of its labels,
            image files, or folders of these.
        unlike (QUERY): What to avoid; may be given several times.
        count: Photographs to find at most.
        out (FILE): Write an image of the first 25: PNG, SVG or PDF.
        file (FILE): The heap's labels (default: in your account's state folder).
        backbone (NETWORK): Network that compares photographs.
    """
    from opsin.commands.label import find as workflow  # noqa: PLC0415  likewise

    done = workflow(
        source,
        *like,
        unlike=unlike or (),
        count=count,
        out=out,
        file=file,
        backbone=backbone,
        watcher=for_people(quiet=quiet),
        **fields,
    )
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    screen = console()
    screen.print(f"[bold]Compared[/]  {counted(done.images, 'photograph')}")
    table = columns("Photograph", figures=["Similarity"])
    for one in done.found:
        table.add_row(plain(one.image), f"{one.similarity:.2f}")
    screen.print(table)
    if done.out is not None:
        screen.print(f"[bold]Written[/]   {plain(str(done.out))}")
    say_unreadable(done.unreadable)
