"""Changes of a dataset since a run."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from opsin.commands.runs import Run
from opsin.commands.source_images import parts_of
from opsin.core.arguments import checked
from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.csv_cells import write_rows
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import atomic_file
from opsin.core.stored_json import JsonObject
from opsin.data.cache import digest_names
from opsin.data.dataset import Dataset, load_recipe
from opsin.data.run_images import RunImage, pair_up, read_images, recipe_of_run


class Pair(NamedTuple):
    """The same image in the run and now."""

    then: RunImage
    now: RunImage


@dataclass(frozen=True)
class Changes:
    """The result of `changes_since`.

    Args:
        run: The run directory.
        source: The source it was compared with.
        fingerprint_then: Fingerprint of the images that the run was made from.
        fingerprint_now: Fingerprint of the images now.
        unchanged: Number of images with the same name, class and pixels.
        added: Images that are new.
        removed: Images that are gone.
        renamed: The same pixels and class under another name.
        relabelled: The same pixels in another class.
        changed: Other pixels under the same name.
        moved: Images with the same pixels, whatever their name and class, that training with
            the same options would now put into another part of the split.
    """

    run: Path
    source: str
    fingerprint_then: str
    fingerprint_now: str
    unchanged: int
    added: tuple[RunImage, ...]
    removed: tuple[RunImage, ...]
    renamed: tuple[Pair, ...]
    relabelled: tuple[Pair, ...]
    changed: tuple[Pair, ...]
    moved: tuple[Pair, ...]

    @property
    def sides(self) -> dict[tuple[str, str], int]:
        """Number of images by old and new part, the most first."""
        return dict(Counter((pair.then.part, pair.now.part) for pair in self.moved).most_common())

    def to_json(self) -> JsonObject:
        """Return everything as ``--json`` prints it."""

        def shown(image: RunImage) -> dict[str, str]:
            return {"name": image.name, "label": image.label, "part": image.part}

        images = {kind: [*map(shown, getattr(self, kind))] for kind in ("added", "removed")}
        pairs = {
            kind: [{"then": shown(then), "now": shown(now)} for then, now in getattr(self, kind)]
            for kind in ("renamed", "relabelled", "changed", "moved")
        }
        return {
            "run": str(self.run),
            "source": self.source,
            "fingerprint": {"then": self.fingerprint_then, "now": self.fingerprint_now},
            "unchanged": self.unchanged,
            **images,
            **pairs,
        }


@checked
def changes_since(
    run: str | os.PathLike[str], *sources: str | os.PathLike[str], watcher: Watcher = SILENT
) -> Changes:
    """Compare a dataset with the one that a run was trained on, image by image.

    Images are prepared and split by the run's recipe, and identified by their pixels. Copies count:
    three where there were two are one added.

    Args:
        run: A run directory.
        *sources: What to compare with (default: the run's own sources at their old paths).
        watcher: Receives the progress of the work.

    Raises:
        RunError: The run is missing, or was made before Opsin kept ``pictures.csv``.
        MovedError: The run's own sources are gone, and no others were named.
        SourceError: No classifier can be made from the source any more.

    Example:
        >>> import tempfile
        >>> from opsin import train
        >>> folder = tempfile.mkdtemp()
        >>> run = train("digits", model="mlp", epochs=1, runs=folder, quiet=True)
        >>> changes = changes_since(run)
        >>> changes.unchanged, len(changes.added), len(changes.moved)
        (1797, 0, 0)
    """
    opened = Run(run)
    then = read_images(opened.directory)
    record = opened.directory.read(DatasetRecord)
    recipe = recipe_of_run(opened.directory, sources, others=True)
    # An image that was corrected and is gone now counts as removed.
    data = load_recipe(recipe, watcher=watcher, missing_ok=True)
    pairs, removed, added = _match(then, list(_images(data)))
    same_pixels = (*pairs["unchanged"], *pairs["renamed"], *pairs["relabelled"])
    # A cross-validated run had no parts.
    had_parts = {image.part for image in then} != {"train"}
    moved = [pair for pair in same_pixels if pair.then.part != pair.now.part and had_parts]
    return Changes(
        run=opened.path,
        source=recipe.source,
        fingerprint_then=record.fingerprint,
        fingerprint_now=data.fingerprint,
        unchanged=len(pairs["unchanged"]),
        added=tuple(added),
        removed=tuple(removed),
        renamed=tuple(pairs["renamed"]),
        relabelled=tuple(pairs["relabelled"]),
        changed=tuple(pairs["changed"]),
        moved=tuple(moved),
    )


def write_images(directory: RunDirectory, dataset: Dataset) -> None:
    """Write ``pictures.csv``: name, class, part and digest of each image of a run (RFC 4180)."""
    with (
        atomic_file(directory.images) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        write_rows(stream, chain([RunImage._fields], _images(dataset)))


def _images(dataset: Dataset) -> Iterator[RunImage]:
    labels = (dataset.classes[label] for label in dataset.labels)
    return map(RunImage, dataset.names, labels, parts_of(dataset), digest_names(dataset.digests))


# What a matched pair has in common, and the kind of change. Closer matches come first, so that the
# fewest copies count as changed.
_STEPS: Final[tuple[tuple[str, Callable[[RunImage], Hashable]], ...]] = (
    ("unchanged", lambda p: p),
    ("unchanged", lambda p: (p.digest, p.name, p.label)),
    ("relabelled", lambda p: (p.digest, p.name)),
    ("renamed", lambda p: (p.digest, p.label, p.part)),
    ("renamed", lambda p: (p.digest, p.label)),
    ("relabelled", lambda p: (p.digest, p.part)),
    ("relabelled", lambda p: p.digest),
    ("changed", lambda p: (p.name, p.label)),
    ("changed", lambda p: p.name),
)


def _match(
    then: list[RunImage], now: list[RunImage]
) -> tuple[dict[str, list[Pair]], list[RunImage], list[RunImage]]:
    """Return pairs by kind, and the unmatched images of either side."""
    pairs: dict[str, list[Pair]] = defaultdict(list)
    matched = pair_up(then, now, [key for _, key in _STEPS])
    for one, other, step in matched:
        pairs[_STEPS[step][0]].append(Pair(then[one], now[other]))
    ones, others = {one for one, _, _ in matched}, {other for _, other, _ in matched}
    removed = [image for number, image in enumerate(then) if number not in ones]
    return pairs, removed, [image for number, image in enumerate(now) if number not in others]
