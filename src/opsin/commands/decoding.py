"""Decoding of a source into the cache, here or on a cluster."""

from __future__ import annotations

import os
from typing import Any

from opsin.core.arguments import checked
from opsin.core.events import SILENT, Watcher
from opsin.data.dataset import resolve_sources
from opsin.data.fill_cache import read_located
from opsin.data.sources import find_all
from opsin.data.sources.named import is_place
from opsin.runtime.cluster import Cluster, is_elsewhere


@checked
def decode(*sources: object, on: str = "local", watcher: Watcher = SILENT, **options: Any) -> None:
    """Decode a source's images into the cache ahead of `opsin.load` and `opsin.look_at`.

    On a cluster many machines share the work, with the same result: each reads files itself, and is
    sent images of archives and Parquet.

    Args:
        *sources: As for `opsin.load`.
        on: Where: ``local``, or a Ray cluster: ``ray`` (the one this machine is part of) or
            ``ray://HOST:PORT``.
        watcher: Receives the progress of the work.
        **options: As for `opsin.load`.

    Raises:
        SourceError: The source is missing or damaged, or holds no images.
        RecipeError: An option has an impossible value, or there is no such cluster, or a node of
            it lacks something.
        MissingExtraError: Ray is not installed.

    Example:
        >>> decode("digits")
        >>> from opsin.data.dataset import load
        >>> len(load("digits"))
        1797
    """
    recipe, held = resolve_sources(sources, {**options}, watcher)
    located = held or find_all(recipe, watcher=watcher)
    if not is_elsewhere(on):
        read_located(located, recipe, watcher, for_training=False)
        return
    paths = [os.path.expanduser(name) for name in recipe.sources if is_place(name)]  # noqa: PTH111
    folders = [os.path.abspath(path) for path in paths if os.path.isdir(path)]  # noqa: PTH100, PTH112
    with Cluster(on, folders=folders) as cluster:
        read_located(located, recipe, watcher, for_training=False, answer_all=cluster.answers)
