"""A classifier.onnx is tried out in a process that may die, before it is first used.

It may give no sound answers, take all memory, or never end. What passed is known by its content's
hash in the cache, where its owner alone may have written it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import find_classifier
from opsin.core.child_process import Header
from opsin.core.errors import ModelFileError, RecipeError, SandboxError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import open_regular
from opsin.core.metadata import Metadata, Preparation
from opsin.core.platform import limit_memory
from opsin.core.sandbox import Sandbox
from opsin.core.storage import write_bytes, write_json
from opsin.data.cache import cache_root, is_own, make_own
from opsin.hub.hub_name import HubName, Wanted
from opsin.runtime.onnx_scan import printable, scan, unreadable
from opsin.runtime.providers import CPU, Session

#: Seconds that loading and trying out a file may take.
SECONDS: Final = 20.0
# Bytes that it may take: some copies of the file, and for three images in a deep network 1 KB a
# pixel (resnet takes as much), which matters for large images only.
_MEMORY: Final = 512 << 20
_COPIES: Final = 5
_PIXEL: Final = 1 << 10
_MAX_LAYERS: Final = 1 << 30
# Bytes of the largest file: ONNX has no larger ones without data outside.
_MAX_FILE: Final = (2 << 30) - 1
# Batches that are tried out grow by this factor, so that one too large is noticed in time.
_GROWTH: Final = 3
# Images of a batch, and pixels, so that large images take no more memory than small ones.
_MOST: Final = 256
_PIXELS: Final = 1_000_000
# Changes whenever a file that was let in might be refused today.
_RULES: Final = 1
#: Probabilities add up to 1 as closely as this.
TOLERANCE: Final = 1e-3
#: What a file may answer with, and the dimensions of that.
ANSWERS: Final = {"probabilities": 2, "embedding": 2, "ood_score": 1}


def find_model(
    model: str | os.PathLike[str], *, watcher: Watcher = SILENT
) -> tuple[Path, HubName | None]:
    """Return the ``classifier.onnx`` of a model, fetched if it is on the hub."""
    name = None if os.path.lexists(model) else HubName.prefixed(os.fspath(model))
    if name is None:
        return find_classifier(model), None
    from opsin.hub.hub_fetch import fetch  # noqa: PLC0415  few classifiers are there

    fetched = fetch(name, Wanted.CLASSIFIER, watcher=watcher)
    if not name.is_pinned:
        watcher.note(f"{name.repository} is at commit {fetched.where.revision[:12]}")
    return fetched.path, fetched.where


def read_classifier(path: Path) -> bytes:
    """Read a file that may be a classifier."""
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > _MAX_FILE:
                raise unreadable(str(path), "it is larger than ONNX files can be")
            return file.read()
    except OSError as error:
        raise unreadable(str(path), (error.strerror or str(error)).lower()) from error


def check_model(content: bytes, name: str) -> int | None:
    """Try a file out once; return the largest batch (``None``: any)."""
    path = _known(content)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if is_own(path):
            most = json.loads(path.read_text(encoding="utf-8"))["most"]
            if most is None or (type(most) is int and most > 0):
                return most
    memory = _MEMORY + _COPIES * len(content)
    where = "opsin.runtime.model_check:try_out"
    try:
        with Sandbox(where, seconds=SECONDS, memory=memory + _MAX_LAYERS) as sandbox:
            answer, _ = sandbox.call({"memory": memory, "name": name}, content)
    except SandboxError as error:
        limits = f"{SECONDS:g} s and {memory >> 20:,} MB"
        why = f"it does not open within {limits}: {error.message}"
        raise unreadable(name, why) from error
    _remember(path, int(answer["most"]))
    return int(answer["most"])


def write_classifier(path: Path, content: bytes, *, most: int | None = None) -> None:
    """Write a classifier that this process made, marked as checked."""
    write_bytes(path, content)
    _remember(_known(content), most)


def _known(content: bytes) -> Path:
    """Return the path of the note that a file passed, by these rules and this ONNX Runtime."""
    rules = f"{_RULES}-onnxruntime-{onnxruntime.__version__}"
    return cache_root() / "models" / rules / f"{hashlib.sha256(content).hexdigest()}.json"


def _remember(path: Path, most: int | None) -> None:
    # Where the cache may not be written, the file is tried out again each time.
    with contextlib.suppress(StorageError, OSError):
        write_json(path, {"most": most})
        make_own(path)


def try_out(header: Header, content: bytes) -> tuple[Header, Sequence[bytes]]:
    """Scan, load and ask a file; what `opsin.core.sandbox` runs."""
    name, memory = header["name"], header["memory"]
    limit_memory(memory)
    scan(content, name)
    session, metadata = open_session(content, name, threads=1)
    preparation = metadata.preparation
    limit_memory(memory + min(_MAX_LAYERS, 3 * _PIXEL * preparation.height * preparation.width))
    return {"most": _try_batches(session, metadata, name)}, []


def open_session(
    content: bytes,
    name: str,
    *,
    threads: int | None = None,
    device: str = CPU,
    watcher: Watcher = SILENT,
) -> tuple[Session, Metadata]:
    """Load a file, and check its network against its description."""
    try:
        session = Session(content, device, threads=threads, watcher=watcher)
    except RecipeError:
        raise
    except Exception as error:
        raise unreadable(name, f"it is no readable ONNX file: {printable(error)}") from error
    opened = session.opened
    metadata = Metadata.from_props(opened.get_modelmeta().custom_metadata_map, name)
    preparation = metadata.preparation
    # The sides after any number of rows; None: any one side.
    wanted: dict[str, tuple[str, list[int | None]]] = {
        "images": ("tensor(uint8)", [*preparation.shape]),
        "probabilities": ("tensor(float)", [len(metadata.classes)]),
        "embedding": ("tensor(float)", [None]),
        "ood_score": ("tensor(float)", []),
    }
    inputs, outputs = opened.get_inputs(), opened.get_outputs()
    values = {value.name: value for value in (*inputs, *outputs)}
    if [value.name for value in inputs] != ["images"] or "probabilities" not in values:
        raise unreadable(name, f"it has other inputs and outputs: {printable(', '.join(values))}")
    for key, (kind, sides) in wanted.items():
        value = values.get(key)
        rows, *others = (value.shape if value else None) or [0]
        pairs = zip(others, sides, strict=False)
        fit = all(isinstance(other, int) and side in (None, other) for other, side in pairs)
        any_rows = not isinstance(rows, int) and len(others) == len(sides)
        if value and not (value.type == kind and any_rows and fit):
            shape = printable(value.shape)
            raise unreadable(name, f"it does not fit the network: {key} is {value.type} of {shape}")
    return session, metadata


def largest_batch(preparation: Preparation) -> int:
    """Return the batch size: smaller for large images, for the same memory."""
    return max(8, min(_MOST, _PIXELS // (preparation.height * preparation.width)))


def _try_batches(session: Session, metadata: Metadata, name: str) -> int:
    """Run batches of one image, three and more; return the largest that succeeds."""
    preparation, end = metadata.preparation, time.monotonic() + SECONDS
    shape = (largest_batch(preparation), *preparation.shape)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images[1], images[2] = 0, 255
    names = [output.name for output in session.opened.get_outputs() if output.name in ANSWERS]

    def ask(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            answers = dict(zip(names, session.run(names, {"images": rows}), strict=True))
        except Exception as error:
            raise unreadable(name, f"it cannot be computed: {printable(error)}") from error
        fault = fault_of(answers, len(rows), len(metadata.classes))
        if fault:
            raise unsound(name, answers, fault)
        return np.asarray(answers["probabilities"])

    alone = np.concatenate([ask(images[row : row + 1]) for row in range(3)])
    most, batch = 0, 3
    while True:
        began = time.monotonic()
        try:
            together = ask(images[:batch])[:3]
        except (ModelFileError, MemoryError):
            if most:
                return most
            raise
        if not np.abs(together - alone).max() <= TOLERANCE:
            raise unreadable(name, "its answer to an image depends on the others beside it")
        most, now = batch, time.monotonic()
        # The next one may take the square of the time, and is left out where there is too little.
        if batch == len(images) or now + _GROWTH**2 * (now - began) > end:
            return most
        batch = min(_GROWTH * batch, len(images))


def unsound(name: str, answers: Mapping[str, NDArray[Any]], fault: str) -> ModelFileError:
    """Return the error for a classifier with invalid answers."""
    if all(np.isfinite(value).all() for value in answers.values() if value.dtype.kind == "f"):
        advice = "The file is damaged or was changed; take the original."
        return ModelFileError(f"{name} gives no sound answers: {fault}", advice)
    return ModelFileError(
        f"{name} answers with infinity or NaN (not a number): {fault}",
        "Its training diverged: give a smaller --learning-rate. Or it was changed since.",
    )


def fault_of(answers: Mapping[str, NDArray[Any]], count: int, classes: int) -> str | None:
    """Describe what is wrong with a network's answers, if anything."""
    for name, value in answers.items():
        # A layer may have any numbers; texts would be read as the places where they lie.
        sound = value.dtype.kind in "fiub" and value.ndim
        if name in ANSWERS:
            sound = value.dtype == np.float32 and value.ndim == ANSWERS[name]
        if not sound or len(value) != count:
            return f"its {printable(name)} are {value.dtype}{list(value.shape)} for {count} images"
        if name in ("embedding", "ood_score") and not np.isfinite(value).all():
            return f"its {name} is not finite"
    shares = answers.get("probabilities")
    if shares is None or not count:
        return None
    if shares.shape[1] != classes:
        return f"it has {shares.shape[1]} probabilities for {classes} classes"
    # Where there is one that is no number, neither comparison holds.
    if not (shares.min() >= 0 and np.abs(shares.sum(axis=1) - 1).max() <= TOLERANCE):
        return "its probabilities are not all between 0 and 1, with a sum of 1"
    return None
