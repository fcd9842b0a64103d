"""What is known of a pretrained network's file, found out once and kept.

    <cache>/probed/<rules>/<hash>.npz   about: JSON, and the file's present form, both uint8[…]

A file is looked into in a process that may die (`opsin.backbones.probe`). What came of it is kept
by the file's content, where its owner alone may have written it, as for checked classifiers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime

from opsin.backbones.probe import Probed, refused
from opsin.core.errors import SandboxError, StorageError
from opsin.core.sandbox import Sandbox
from opsin.core.storage import atomic_file
from opsin.core.stored_arrays import StoredArrays
from opsin.data.cache import cache_root, is_own, make_own

#: Folder of all networks within the cache.
FOLDER: Final = "probed"
# Seconds of computing and bytes that looking into a small file may take, and for each byte of a
# larger one. On a busy machine it waits for a core, which takes longer.
_SECONDS: Final = 5.0
_BUSY: Final = 12
_MEMORY: Final = 512 << 20
_BYTES_A_SECOND: Final = 2 << 20
_COPIES: Final = 8
# Changes whenever the same file would be seen otherwise.
_RULES: Final = 2


def probed_network(content: bytes, name: str, side: int | None) -> tuple[Probed, bytes]:
    """Return what is in a network's file, and the file in its present form."""
    place = _place_of(content, side)
    with contextlib.suppress(Exception):  # whatever it is, the file is looked into again
        if is_own(place):
            with StoredArrays(place) as arrays:
                about, present = arrays.read("about"), arrays.read("network")
            return Probed.model_validate_json(about.tobytes()), present.tobytes()
    seconds = _SECONDS + len(content) / _BYTES_A_SECOND
    memory = _MEMORY + _COPIES * len(content)
    where = "opsin.backbones.probe:probe"
    try:
        with Sandbox(where, seconds=_BUSY * seconds, memory=memory) as sandbox:
            found, form = sandbox.call({"name": name, "side": side, "seconds": seconds}, content)
    except SandboxError as error:
        raise refused(name, error.received) from error
    about, network = (np.frombuffer(part, np.uint8) for part in (json.dumps(found).encode(), form))
    # Where the cache may not be written, the file is looked into each time.
    with contextlib.suppress(StorageError, OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(place) as scratch, scratch.open("wb") as file:
            np.savez(file, about=about, network=network)
        make_own(place)
    return Probed.model_validate(found), form


def _place_of(content: bytes, side: int | None) -> Path:
    rules = f"{_RULES}-onnx-{onnx.__version__}-onnxruntime-{onnxruntime.__version__}"
    key = hashlib.sha256(content)
    key.update(f"side {side}".encode())
    return cache_root() / FOLDER / rules / f"{key.hexdigest()}.npz"
