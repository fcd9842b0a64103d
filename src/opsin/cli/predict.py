"""`opsin predict`, and what becomes of its files: `opsin merge`, `opsin undo`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from opsin.cli import options
from opsin.cli.output import (
    DOCUMENT_BEGUN,
    console,
    encoded,
    plain,
    print_json,
    say,
    stop_is_reported,
    write_document,
)
from opsin.core.errors import ImageError, OpsinError, RecipeError
from opsin.core.format import clock, counted
from opsin.core.recipe_options import split_pairs
from opsin.core.stored_json import plain_data
from opsin.report.terminal import bar, for_people, printable
from opsin.runtime.prediction import CANNOT_TELL, Prediction

if TYPE_CHECKING:
    from opsin.commands.predict.predict import Classified
    from opsin.commands.predict.stream import Answered
    from opsin.data.sources import Reading

# Beyond this many images, each is one line without bars.
_FEW = 20


def predict(
    model: Path,
    images: list[str],
    *,
    out: str | None = None,
    sort_into: Path | None = None,
    by: Literal["copy", "move"] = "copy",
    top: Annotated[int, typer.Option(min=1)] = 5,
    min_confidence: float = 0.0,
    reject: bool = True,
    tta: bool = False,
    plot: Path | None = None,
    as_is: bool = False,
    columns: Annotated[
        dict[str, str] | None, typer.Option(parser=options.parser_of(split_pairs))
    ] = None,
    follow_links: bool = False,
    outside: bool = False,
    shard: str | None = None,
    on: str = "local",
    device: options.Device = "auto",
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Predict the class of each image, with its probability.

    Example: opsin predict runs/2026-11-21-fashion-mnist-cnn boot.jpg

    Example: opsin predict runs/2026-11-21-fashion-mnist-cnn photos --out answers.csv --shard 1/3

    Example: opsin predict runs/2026-11-21-fashion-mnist-cnn s3://bucket/photos --out s3://bucket/answers.csv

    Options:
        images (IMAGE...): Images, folders, tables (.csv, .jsonl) of paths, archives (.zip, .tar),
            addresses on a store (s3://, gs:// or az://bucket/photos).
        out (FILE): Write the answers into this .jsonl, .csv or .parquet file, or object
            (s3://bucket/answers.csv); stopped or killed, the same command goes on where it was.
        sort_into (FOLDER): Give each image a place in FOLDER/<answer>; opsin undo takes it back.
        by: How --sort-into places an image.
        top: Classes to name for an image.
        min_confidence (0-1): Only answers of at least this probability go into the file or folder.
        reject: Answer "none of these" to an image unlike the training images.
        plot: Draw the image beside its bars into this file; for several images a number is added to
            the name.
        as_is: Never invert an image whose background is light where the training images' was dark,
            or the other way round.
        columns (OURS=THEIRS): Name of a table's column of paths: path=file.
        follow_links: Also follow links that lead out of a folder.
        outside: Let a table name images anywhere, not only in its folder.
    """
    from opsin.commands.predict import stream  # noqa: PLC0415  merge and undo need no ONNX Runtime

    reading: Reading = {"columns": columns, "follow_links": follow_links, "outside": outside}
    if plot is not None:
        stream.check_drawing(plot)
    if out is not None or sort_into is not None:
        from opsin.commands.predict.predict import classify  # noqa: PLC0415  few answers need none

        if plot is not None:
            raise RecipeError("Answers in a file are not drawn", "Leave --plot out.")
        with stop_is_reported():
            done = classify(
                model,
                images,
                out=out,
                sort_into=sort_into,
                sort_by=by,
                top=top,
                min_confidence=min_confidence,
                reject=reject,
                as_is=as_is,
                tta=tta,
                shard=shard,
                on=on,
                device=device,
                watcher=for_people(quiet=quiet),
                **reading,
            )
        if as_json:
            print_json(done.model_dump(mode="json"))
        else:
            _print_summary(done)
        return
    if by != "copy":
        raise RecipeError(f"There is no folder to {by} the images into", "Give --sort-into FOLDER.")
    if min_confidence:
        raise RecipeError("Unsure answers are left out of a file only", "Give --out FILE.")
    if on != "local" or shard is not None:
        raise RecipeError("Answers of shards and clusters go into a file", "Give --out FILE.")
    watcher = for_people(quiet=quiet)
    opened = stream.open_streams(images, watcher=watcher, **reading)
    classifier = stream.open_classifier(model, device=device, tta=tta, watcher=watcher)
    answers = stream.each_answer(
        classifier, opened, reject=reject, as_is=as_is, tta=tta, watcher=watcher
    )
    single = opened.kind == "file"
    printer = _AnswerPrinter(
        plot, top, numbered=len(images) > 1 or not single, bars=single and len(images) <= _FEW
    )
    if as_json:
        printer.print_json(classifier.title, answers)
    else:
        printer.print_all(answers)
    if printer.failures:
        raise typer.Exit(1)


class _AnswerPrinter:
    """Prints each image's answer with bars or in one line, and plots it."""

    def __init__(self, plot: Path | None, top: int, *, numbered: bool, bars: bool) -> None:
        self.plot, self.numbered, self.bars, self.top = plot, numbered, bars, top
        self.failures: list[str] = []

    def fail(self, error: OpsinError) -> None:
        """Print and count an error."""
        self.failures.append(str(error))
        sys.stderr.write(f"opsin: {printable(str(error))}\n")

    def draw(self, answers: Iterable[Answered]) -> Iterator[Prediction]:
        """Yield the answers; print errors and plot."""
        from opsin.commands.predict.stream import draw_prediction  # noqa: PLC0415  ONNX Runtime

        drawn = 0
        for image, answer in answers:
            if isinstance(answer, ImageError):
                self.fail(answer)
                continue
            if self.plot is not None:
                drawn += 1
                number = f"-{drawn}" if self.numbered else ""
                draw_prediction(answer, self.plot.with_stem(self.plot.stem + number), image.image)
            yield answer

    def print_all(self, answers: Iterable[Answered]) -> None:
        screen, rejects = console(), True
        for answer in self.draw(answers):
            rejects = rejects and answer.rejected is not None
            if self.bars:
                _print_bars(screen, answer, self.top)
            else:
                why = f"  ({answer.warning})" if answer.warning else ""
                screen.print(
                    f"{answer.confidence:6.1%}  [bold]{plain(answer.answer)}[/]  "
                    f"{plain(answer.name)}{why}"
                )
        if not rejects:
            screen.print(f"{CANNOT_TELL}.", style="dim")

    def print_json(self, model: str, answers: Iterable[Answered]) -> None:
        """Print one object, streaming its answers: there may be millions."""
        head = b'{"model": ' + encoded(model) + b', "predictions": ['
        more: tuple[str, ...] = ()
        try:
            for answer in self.draw(answers):
                before = b", " if DOCUMENT_BEGUN.is_set() else head
                write_document(before + encoded(plain_data(answer)))
        except OpsinError as error:
            if not DOCUMENT_BEGUN.is_set() and not self.failures:
                raise
            self.fail(error)
        except BaseException:
            more = ("The work was stopped before its end.",)
            raise
        finally:
            if DOCUMENT_BEGUN.is_set() or sys.exc_info()[0] is None:
                before = b"" if DOCUMENT_BEGUN.is_set() else head
                errors = encoded([*self.failures, *more])
                write_document(before + b'], "errors": ' + errors + b"}\n")


def _print_summary(done: Classified) -> None:
    screen, new = console(), done.images - done.resumed
    speed = f" · {new / done.seconds:,.0f} images/s" if new and done.seconds > 1 else ""
    before = f", {done.resumed:,} of them before" if done.resumed else ""
    screen.print(
        f"[bold]Answers[/]   {plain(str(done.out))} · {counted(done.images, 'image')}{before} · "
        f"{clock(done.seconds)}{speed}"
    )
    counts = [f"{plain(name)} {count:,}" for name, count in done.answers.items()]
    if counts:
        screen.print(f"          {' · '.join(counts[:12])}{' · …' if len(counts) > 12 else ''}")
    if done.left_out:
        screen.print(f"          {done.left_out:,} left out, as was asked")
    if done.sorted_into is not None:
        folder = plain(str(done.sorted_into))
        screen.print(
            f"[bold]Sorted[/]    {folder} · {counted(done.placed, 'image')} placed        "
            f"Undo  opsin undo {folder}"
        )
        if done.unplaced:
            screen.print(f"          {counted(done.unplaced, 'image')} could not be placed")


def _print_bars(screen: Console, prediction: Prediction, top: int) -> None:
    best = prediction.top(top)
    width = max(len(name) for name, _ in best)
    name = plain(prediction.name)
    if prediction.warning:
        screen.print(f"{name}   {prediction.warning}")
    if prediction.rejected:
        screen.print(f"{name}   [bold]{prediction.answer}[/]   looks unlike the training images")
    else:
        screen.print(f"{name}   [bold]{escape(prediction.label)}[/]   {prediction.confidence:.1%}")
    for label, share in best:
        screen.print(f"    {escape(f'{label:<{width}}')}  [blue]{bar(share)}[/] {share:.1%}")
    for note in prediction.notes:
        if note != prediction.warning:
            kept = " (--as-is to keep it)" if "background" in note else ""
            screen.print(f"    {note}{kept}", style="dim", markup=False)


def merge(
    whole: str, *, out: str | None = None, quiet: bool = False, as_json: bool = False
) -> None:
    """Join the shards of a file: the same rows as made in one go.

    Example: opsin merge answers.csv

    Options:
        whole (FILE): The name that --out gave the shards, which lie beside it.
        out (FILE): New file (default: that name).
    """
    from opsin.commands.predict.out_file import merge as join  # noqa: PLC0415

    done = join(whole, out=out, watcher=for_people(quiet=quiet))
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    console().print(
        f"[bold]Merged[/]    {plain(str(done.out))} · {counted(done.shards, 'shard')} · "
        f"{counted(done.rows, 'row')} · {clock(done.seconds)}"
    )


def undo(folder: Path, *, quiet: bool = False, as_json: bool = False) -> None:
    """Undo what `opsin predict --sort-into FOLDER` did, or the last change of classes in a table.

    Images that were moved go back to where they came from; copies are removed, if they have not
    changed since. What cannot be taken back stays, and is listed.

    Example: opsin undo sorted

    Example: opsin undo labels.csv

    Options:
        folder (FOLDER): The folder that was given to --sort-into, or the table (.csv) in which
            `opsin data` changed classes.
    """
    if folder.is_file():
        from opsin.commands.classes import undo_classes  # noqa: PLC0415

        rows = undo_classes(folder)
        if as_json:
            print_json({"labels": str(folder), "rows": rows})
        else:
            say(f"Took back {counted(rows, 'row')} of {folder}")
        return
    from opsin.commands.predict.undo import undo as take_back  # noqa: PLC0415

    done = take_back(folder, watcher=for_people(quiet=quiet))
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        moved, removed = f"Moved back {done.moved_back:,}", f"removed {done.removed:,} copies"
        say(f"{moved} · {removed} · left {done.left_count:,}")
        for image, reason in done.left:
            say(printable(f"    {image}: {reason}"))
    if done.left:
        raise typer.Exit(1)
