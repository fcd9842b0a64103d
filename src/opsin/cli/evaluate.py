"""`opsin evaluate`: how good is a classifier on these images?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opsin.cli import options, recipe_flags
from opsin.cli.output import console, plain, print_json
from opsin.commands.test_set_usage import looks_in_words
from opsin.core.format import plus_minus, repeats
from opsin.evaluation.metric_table import summary_of
from opsin.report.terminal import (
    class_table,
    confusions,
    corrected_in_words,
    for_people,
    images_in_words,
)

if TYPE_CHECKING:
    from opsin.commands.evaluate import EvaluationResult

_PARTS: Final = {
    "test": "test part",
    "own-test": "the run's own test images",
    "unseen": "images not seen in training",
    "val": "validation part",
    "all": "all images",
}


@recipe_flags.takes(*recipe_flags.READING, "group_by", after="tta")
def evaluate(
    model: Path,
    source: options.Sources,
    *,
    tta: bool = False,
    device: options.Device = "auto",
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
) -> None:
    """Evaluate a classifier on labelled images.

    If the source names test images, these are used; otherwise the images that were not used in
    training, or all of them if there are no others. An image that several rows of a
    table name counts once. Evaluating any of the run's own test images is one more look at them,
    and is counted.

    Example: opsin evaluate runs/2026-11-21-fashion-mnist-cnn fashion-mnist
    """
    from opsin.commands.evaluate import evaluate as workflow  # noqa: PLC0415  loads scipy

    watcher = for_people(quiet=quiet)
    figures = workflow(model, *source, tta=tta, device=device, watcher=watcher, **fields)
    if as_json:
        print_json(figures.model_dump(mode="json", exclude_unset=True))
    else:
        _print_figures(source, figures)


def _print_figures(source: list[str], figures: EvaluationResult) -> None:
    screen = console()
    part = _PARTS[figures.part]
    if figures.part == "unseen" and figures.seen_nearly != 0:
        part = "images without an exact copy in training"
    title = f"{' + '.join(source)} ({part})"
    measured = f"accuracy {plus_minus(figures)} · {summary_of(figures)}"
    screen.print(f"{plain(title)} · {plain(measured)}")
    where = "" if figures.device == "cpu" else f" on {figures.device}"
    screen.print(f"{images_in_words(figures)} · {figures.seconds:.1f} s{where}")
    if figures.repeated_rows:
        screen.print(f"{repeats(figures.repeated_rows)}.")
    if figures.corrected:
        screen.print(f"{corrected_in_words(figures.corrected, figures.part)}.", markup=False)
    for remark in _remarks(figures):
        screen.print(remark)
    if figures.looks:
        screen.print(f"The test images were {looks_in_words(figures.looks)}.")
    screen.print(f"Confuses {confusions(figures)}\n", markup=False)
    screen.print(class_table(figures))


def _remarks(figures: EvaluationResult) -> Iterator[str]:
    """Yield reasons why the figures may be too good, and what is unknown."""
    if figures.seen:
        yield f"Optimistic: {figures.seen:,} of them were seen in training (exact copies)."
    if figures.seen_nearly:
        without = figures.without_seen_nearly
        yield (
            f"Optimistic: {figures.seen_nearly:,} of them are near duplicates of images seen in "
            "training (recoded, resized, cropped or mirrored)."
            + (f" Without them accuracy {plus_minus(without)}." if without else "")
        )
    elif figures.seen_nearly is None and figures.part in ("test", "unseen", "all"):
        yield "Of images seen in training only exact copies are known."
    if figures.own_test and figures.part != "own-test":
        yield f"{figures.own_test:,} of them are the run's own test images."
    if figures.seen is None:
        yield "Whether it was trained on any of them, a file without its run cannot tell."
    if figures.refused:
        refused = figures.refused
        yield (
            f'Refuses {refused.count:,} as "none of these" ({refused.share:.1%}), since they '
            "look unlike the training images."
        )
