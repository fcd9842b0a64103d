"""`opsin predict`: which class is it?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.data.images import ImageLike
from opsin.errors import ImageError
from opsin.predict import Classifier, Prediction
from opsin.report.terminal import bar, printable
from opsin.workflow.predict import check_drawing, draw_prediction, predict_each


def predict(
    model: options.Model,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Pictures; - reads one from standard input.",
            show_default=False,
        ),
    ],
    *,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to print.")] = 5,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            help="Draw the picture beside its bars into this file; for several "
            "pictures a number is added to the name.",
            show_default=False,
        ),
    ] = None,
    as_is: Annotated[
        bool,
        typer.Option(
            "--as-is",
            help="Never invert a picture whose background is light where the "
            "training pictures' was dark, or the other way round.",
        ),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Say which class each picture belongs to, and how sure that is.

    Example: opsin predict runs/2026-11-21-fashion-mnist-cnn boot.jpg
    """  # fmt: skip
    if plot is not None:
        check_drawing(plot)
    classifier = Classifier(model)
    inputs: list[tuple[str, ImageLike]] = [
        ("standard input", _standard_input()) if image == "-" else (image, image)
        for image in images
    ]
    screen = console()
    predictions: list[Prediction] = []
    failures: list[ImageError] = []
    answers = predict_each(classifier, inputs, as_is=as_is)
    for (_, image), answer in zip(inputs, answers, strict=True):
        if isinstance(answer, ImageError):
            failures.append(answer)
            sys.stderr.write(f"opsin: {printable(str(answer))}\n")
            continue
        predictions.append(answer)
        if plot is not None:
            several = f"-{len(predictions)}" if len(images) > 1 else ""
            draw_prediction(answer, plot.with_stem(plot.stem + several), image)
        if not as_json:
            _print(screen, answer, top)
    if as_json:
        print_json(
            {
                "model": str(classifier.path),
                "predictions": [prediction.to_json() for prediction in predictions],
                "errors": [str(failure) for failure in failures],
            }
        )
    if failures:
        raise typer.Exit(1)


def _standard_input() -> bytes:
    # None where the process was started without one.
    return sys.stdin.buffer.read() if sys.stdin else b""


def _print(screen: Console, prediction: Prediction, top: int) -> None:
    """Print an answer with its bars."""
    best = prediction.top(top)
    width = max(len(name) for name, _ in best)
    name = escape(printable(prediction.name))
    if prediction.rejected:
        screen.print(f"{name}   [bold]{prediction.answer}[/]   looks unlike the training pictures")
    else:
        screen.print(f"{name}   [bold]{escape(prediction.label)}[/]   {prediction.confidence:.1%}")
    for name, share in best:
        screen.print(f"    {escape(f'{name:<{width}}')}  [blue]{bar(share)}[/] {share:.1%}")
    for note in prediction.notes:
        screen.print(f"    {note} (--as-is to keep it)", style="dim", markup=False)
