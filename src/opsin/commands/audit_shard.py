"""An audit in shards: each decodes and measures a part of the images, all are judged together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.commands.evaluate import place_of_figures
from opsin.commands.labelled_rows import LabelledRows
from opsin.commands.labelled_shard import LabelledShard, MadeShard, recipe_of
from opsin.commands.shard_manifest import ShardManifest
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import DataRecipe
from opsin.data.audit import Audit, audit
from opsin.data.dataset import find_given, split_decoded
from opsin.data.decode import check_readable, open_found
from opsin.data.quality import QualityMeasures, measures_of
from opsin.data.shard import Shard
from opsin.data.sources import find_all
from opsin.stores.store_address import is_stored

#: What the shards of an audit are parts of, in its folder.
AUDIT = "audit.json"


@checked
def audit_shard(
    *sources: object,
    out: str | os.PathLike[str],
    shard: str,
    watcher: Watcher = SILENT,
    **options: Any,
) -> MadeShard:
    """Do a part of an audit; `opsin.merge` of all gives what `opsin data --audit` writes.

    A shard that was killed continues where it stopped; one that is finished is not made again.

    Args:
        *sources: See `opsin.load`.
        out: The folder of the audit: `opsin.merge` writes ``audit.json`` and ``audit.html`` there.
        shard: ``2/3``: the second of three equal parts of the images, into
            ``audit-00002-of-00003.npz``.
        watcher: Receives the progress of the work.
        **options: Fields of `DataRecipe`, without ``size``, ``channels`` and ``resize``.

    Raises:
        RecipeError: There is no such shard, or it was made with other options.
        SourceError: The source is missing or damaged, or holds no images.
        StorageError: The disk refuses a write.

    Example:
        >>> audit_shard("photos", out="look", shard="2/3")  # doctest: +SKIP
    """
    whole = f"{os.fspath(out).rstrip('/')}/{AUDIT}" if is_stored(out) else Path(out) / AUDIT
    place = place_of_figures(whole, Shard.parse(shard))
    recipe, held = find_given(sources, options, watcher)
    _check_preparation(recipe)
    found = held or find_all(recipe, watcher=watcher)
    contents = open_found(found, recipe, for_training=False)
    made = LabelledShard("audit", recipe, contents, place, watcher)

    def look(_: range, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return measures_of(images).T

    return made.make(look, 5, pixels=True, made_with={}, where={})


def _check_preparation(recipe: DataRecipe) -> None:
    """Refuse options that would need the images prepared in two ways."""
    if recipe.size is not None or recipe.channels is not None or recipe.resize != "fit":
        raise RecipeError(
            "images prepared as they are by default, for a shard of an audit",
            "got size, channels or resize",
            "Leave these options out.",
        )


def join_audit(manifests: Sequence[ShardManifest], rows: LabelledRows, watcher: Watcher) -> Audit:
    """Judge the images of all shards together.

    Args:
        manifests: What the shards say of themselves.
        rows: Their images with their measures.
        watcher: Receives the progress of the work.

    Raises:
        SourceError: Too many files cannot be read, or corrections do not fit.
    """
    recipe = recipe_of(manifests[0])
    check_readable(rows.decoded, recipe)
    # Corrections leave images out.
    measured = None if recipe.labels else QualityMeasures(*np.ascontiguousarray(rows.found.T))
    dataset = split_decoded(rows.decoded, recipe, watcher=watcher)
    return audit(dataset, measured=measured, watcher=watcher)
