"""Lists sources in sandboxed processes, since tables and archives are untrusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Final

from opsin.core.child_process import (
    Header,
    child_environment,
    error_from,
    error_values,
    module_command,
)
from opsin.core.errors import OpsinError, SourceError
from opsin.core.platform import limit_memory
from opsin.core.recipe import DataRecipe
from opsin.core.sandbox import Sandbox
from opsin.data import sources
from opsin.data.images import PackedImage
from opsin.data.sources.archive import is_archive, unpack
from opsin.data.sources.named import NAMES
from opsin.data.sources.rows import SourceRequest

# Most seconds for a source: a million files on a slow disk take a minute.
_SECONDS: Final = 120.0
_MEMORY: Final = 1 << 30
# Least seconds for an archive, and bytes a second of a slow disk.
_ARCHIVE: Final = 60.0
_SPEED: Final = 5e6
_SANDBOX: Final = Sandbox(f"{__name__}:find", seconds=_SECONDS, memory=_MEMORY, processes=2)


def key_of(recipe: DataRecipe, name: str = "") -> str:
    """A key that changes whenever a recipe's sources do; errors call the first one by its name."""
    if {*recipe.sources, *([recipe.test] if recipe.test else [])} <= set(NAMES):
        return sources.find_all(recipe).key  # built-in, verified by content
    return str(_ask(recipe, "key", name)["key"])


def list_images(recipe: DataRecipe, name: str) -> Header:
    """A recipe's images: names, labels, classes, and where they lie."""
    check_there(recipe.sources, name)
    return _ask(recipe, "images", name)


def check_there(sources: Sequence[str], name: str) -> None:
    """Raise a `SourceError` if files of sources are gone."""
    if not all(map(os.path.exists, filter(os.path.isabs, sources))):  # these never raise
        raise SourceError(
            f"The photographs of {name} are no longer where they were",
            "Put them back, or add them again.",
        )


def _ask(recipe: DataRecipe, what: str, name: str) -> Header:
    try:
        asked = {"recipe": recipe.model_dump(mode="json"), "what": what}
        return _SANDBOX.call(asked)[0]
    except SourceError as error:
        raise error.replace(recipe.sources[0], name or recipe.sources[0]) from None


def find(header: Header, _: memoryview) -> tuple[Header, Sequence[bytes]]:
    """Find a recipe's sources, and list their images where that is asked, in the sandbox."""
    recipe = DataRecipe.model_validate(header["recipe"])
    everything = sources.find_all(recipe)
    if header["what"] == "key":
        return {"key": everything.key}, []
    listed = everything.open()
    listed = listed.keep(recipe.classes)
    answer: Header = {
        "names": list(listed.names), "labels": listed.labels.tolist(),
        "classes": list(listed.classes),
    }  # fmt: skip
    if all(isinstance(image, str) for image in listed.images):
        answer["files"] = list(listed.images)
    packed = [astuple(image) for image in listed.images if isinstance(image, PackedImage)]
    if len(packed) == len(listed):
        answer["packed"] = packed
    return answer, []


def check_archive(path: Path) -> None:
    """Unpack an archive or Parquet file into the cache of `opsin data`."""
    command, seconds = module_command(__name__, str(path)), _ARCHIVE + path.stat().st_size / _SPEED
    try:
        done = subprocess.run(  # noqa: S603  the interpreter that runs this
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=child_environment(), timeout=seconds, check=False,
        )  # fmt: skip
        error = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        reason = f"it took more than {seconds:.0f} seconds, or too much memory"
        raise SourceError(f"{path} cannot be unpacked: {reason}", "Pack it anew.") from None
    if error:
        raise error_from(error)


def _check(path: Path) -> list[str]:
    """Unpack an archive or read a table; return its error's values, if any."""
    root = path
    try:
        if is_archive(path):
            root = unpack(path)  # what it holds is checked when it is read
        else:
            sources.locate(SourceRequest(str(path))).open()
    except OpsinError as error:
        return [text.replace(str(root), str(path)) for text in error_values(error)]
    return []


if __name__ == "__main__":
    limit_memory(_MEMORY)
    print(json.dumps(_check(Path(sys.argv[1]))))  # noqa: T201  what it is for
