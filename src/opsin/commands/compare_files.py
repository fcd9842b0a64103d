"""A comparison written down: page, figures and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.paired_predictions import PREPARED
from opsin.commands.runs import Run
from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_predictions import PART_WORDS
from opsin.core.errors import OpsinError
from opsin.core.events import Watcher
from opsin.core.storage import write_bytes, write_json
from opsin.data.cache import digest_names
from opsin.data.fill_cache import read
from opsin.report.comparison_page import Group, render_comparison
from opsin.report.figures.comparison_figures import (
    Curve,
    Disagreement,
    draw_accuracies,
    draw_disagreements,
    draw_together,
)
from opsin.report.figures.style import save, styled
from opsin.report.side_by_side import ComparedPair, Comparison, DifferentAnswers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Images of a group that the page shows, and the figure.
_ON_PAGE: Final = 12
_DRAWN: Final = 5


def write_files(
    found: Comparison, runs: Sequence[Run], folder: Path, watcher: Watcher
) -> Comparison:
    """Write ``compare.html``, ``compare.json`` and the figures, and return it with their names."""
    groups = [pair.by_who_is_right() for pair in found.pairs]
    wanted = {image.digest for kinds in groups for _, some in kinds for image in some[:_ON_PAGE]}
    pixels, missing = _pixels(runs, wanted, watcher)
    if missing:
        watcher.note(missing)
        found = found.model_copy(update={"notes": (*found.notes, missing)})
    word = PART_WORDS[found.part]
    drawings: dict[str, Figure] = {}
    on_page: list[list[Group]] = []
    with styled():
        drawings["curves"] = draw_together(
            [
                Curve(row.letter, row.model, run.directory.read_history())
                for row, run in zip(found.runs, runs, strict=True)
            ]
        )
        drawings["accuracy"] = draw_accuracies(found.runs, found.headline, word)
        for pair, kinds in zip(found.pairs, groups, strict=True):
            on_page.append([_group(title, some, pair, pixels) for title, some in kinds])
            drawn = [
                (f"{title} ({len(some):,})", _drawable(some, pair, pixels)[:_DRAWN])
                for title, some in kinds
            ]
            if any(images for _, images in drawn):
                only = len(found.pairs) == 1
                name = "disagreements" if only else f"disagreements-{'-'.join(pair.letters)}"
                first, second = pair.letters
                title = (
                    f"{len(pair.disagreements):,} of {pair.images:,} {word} images get different "
                    f"answers from {first} and {second}"
                )
                drawings[name] = draw_disagreements(drawn, title)
        files = [folder / "compare.html", folder / "compare.json"]
        watcher.begin("Figures", len(drawings), "figures")
        for done, (name, figure) in enumerate(drawings.items()):
            watcher.advance(done)
            files += [save(figure, folder / f"{name}.{kind}") for kind in ("png", "svg")]
        watcher.end()
    found = found.model_copy(update={"files": tuple(files)})
    charts = {
        name: (folder / f"{name}.svg").read_text(encoding="utf-8")
        for name in ("curves", "accuracy")
    }
    page = render_comparison(found, charts, on_page, word)
    write_json(files[1], found.to_json())
    write_bytes(files[0], page.encode("utf-8", "replace"))
    return found


def _pixels(
    runs: Sequence[Run], wanted: set[str], watcher: Watcher
) -> tuple[dict[str, NDArray[np.uint8]], str | None]:
    """Find images by their content where the runs took them from, one place after another."""
    found: dict[str, NDArray[np.uint8]] = {}
    tried: list[Any] = []
    reason = ""
    for run in runs:
        record = run.directory.read(DatasetRecord)
        location = record.location.model_dump(include={"sources", "test"}, exclude_unset=True)
        # Images of another preparation have other pixels, and so other digests.
        place = [location, [getattr(record.preparation, key) for key in PREPARED]]
        if len(found) == len(wanted) or place in tried or (tried and place[1] != tried[0][1]):
            continue
        try:
            # Not the whole recipe: a run of another version may know other networks.
            recipe = run.directory.read(RecordedRecipe).data.model_copy(update=location)
            decoded = read(recipe, watcher=watcher, for_training=False)
        except OpsinError as error:
            reason = reason or str(error)
            continue
        finally:
            tried.append(place)
        for row, key in enumerate(digest_names(decoded.digests)):
            if key in wanted and key not in found:
                found[key] = np.array(decoded.images[row])
    if len(found) == len(wanted):
        return found, None
    reason = reason or "where the runs took them from, they are no more"
    return found, (
        f"{len(wanted) - len(found):,} of {len(wanted):,} images cannot be shown, only named: "
        f"{reason}"
    )


def _drawable(
    images: Sequence[DifferentAnswers], pair: ComparedPair, pixels: dict[str, NDArray[np.uint8]]
) -> list[Disagreement]:
    """Return those of the images that are there, ready to be drawn."""
    return [
        Disagreement(
            pixels=pixels[image.digest],
            name=image.name or image.digest,
            actual=image.actual,
            answers=[
                (letter, answer.label, answer.confidence)
                for letter, answer in zip(pair.letters, image.answers, strict=True)
            ],
        )
        for image in images
        if image.digest in pixels
    ]


def _group(
    title: str,
    images: Sequence[DifferentAnswers],
    pair: ComparedPair,
    pixels: dict[str, NDArray[np.uint8]],
) -> Group:
    first, second = pair.letters
    others = [
        f"{image.name or image.digest} is {image.actual}: "
        f"{first} {image.answers[0].label} {image.answers[0].confidence:.0%}, "
        f"{second} {image.answers[1].label} {image.answers[1].confidence:.0%}"
        for image in images[:_ON_PAGE]
        if image.digest not in pixels
    ]
    return Group(title, len(images), _drawable(images[:_ON_PAGE], pair, pixels), others)
