"""Lists sources in sandboxed processes, since tables and archives are untrusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
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
from opsin.data.sources.archive import unpack
from opsin.data.sources.named import NAMES

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
    if not all(map(os.path.exists, filter(os.path.isabs, recipe.sources))):  # these never raise
        raise SourceError(
            f"The photographs of {name} are no longer where they were",
            "Put them back, or add them again.",
        )
    return _ask(recipe, "images", name)


def _ask(recipe: DataRecipe, what: str, name: str) -> Header:
    try:
        asked = {"recipe": recipe.model_dump(mode="json"), "what": what}
        return _SANDBOX.call(asked)[0]
    except SourceError as error:
        raise error.replace(recipe.sources[0], name or recipe.sources[0]) from None


def find(header: Header, _: bytes) -> tuple[Header, Sequence[bytes]]:
    """Find a recipe's sources, and list their images where that is asked, in the sandbox."""
    recipe = DataRecipe.model_validate(header["recipe"])
    everything = sources.find_all(recipe)
    if header["what"] == "key":
        return {"key": everything.key}, []
    listed = everything.open()
    in_files = all(isinstance(image, str) for image in listed.images)
    return {
        "names": list(listed.names),
        "labels": listed.labels.tolist(),
        "classes": list(listed.classes),
        "files": list(listed.images) if in_files else None,
    }, []


def unpack_archive(path: Path) -> Path:
    """Unpack an archive into the cache of `opsin data`, and return the folder of the source."""
    # Not in the sandbox, which writes no files.
    command, seconds = module_command(__name__, str(path)), _ARCHIVE + path.stat().st_size / _SPEED
    try:
        done = subprocess.run(  # noqa: S603  the interpreter that runs this
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            timeout=seconds,
            check=False,
        )
        error = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        reason = f"it took more than {seconds:.0f} seconds, or too much memory"
        raise SourceError(f"{path} cannot be unpacked: {reason}", "Pack it anew.") from None
    if error:
        raise error_from(error)
    return unpack(path)


if __name__ == "__main__":
    limit_memory(_MEMORY)
    said: list[str] = []
    try:
        unpack(Path(sys.argv[1]))
    except OpsinError as failure:
        said = error_values(failure)
    print(json.dumps(said))  # noqa: T201  what it is for
