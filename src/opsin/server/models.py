"""The served models and their names."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory, find_classifier
from opsin.core.errors import OpsinError, RecipeError, RunError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import MISSING, FileStamp, file_stamp
from opsin.core.metadata import Metadata
from opsin.hub.hub_name import PREFIX
from opsin.runtime.model_check import check_model, find_model, read_classifier
from opsin.server import Models


@dataclass(eq=False)
class ModelFile:
    """A model's file, read once so that all workers have the same."""

    path: Path
    content: bytes = field(repr=False)
    stamp: FileStamp
    max_batch: int | None = None  # from `check_model`
    device: str = "cpu"  # where workers compute; once loaded, where that works
    # Whether answers are bit-identical in batches of any size (once loaded). If not,
    # images are computed one at a time, so that an answer never depends on other requests.
    batch_invariant: bool | None = None

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256(self.content).hexdigest()

    @classmethod
    def read(cls, path: Path, device: str) -> ModelFile:
        """Read a model's file, and check that it is safe to serve."""
        file = find_classifier(path)
        # First, so that a replacement meanwhile is detected.
        stamp = file_stamp(file)
        if stamp == MISSING:
            raise RunError(f"{file} was removed just now")
        content = read_classifier(file)
        return cls(file, content, stamp, check_model(content, str(file)), device)


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A served model."""

    name: str
    file: ModelFile
    metadata: Metadata
    embedding: int = 0  # its length; 0 without one
    # Share of each class among the training images, if the file lies in its run directory.
    mix: tuple[float, ...] | None = None
    loaded: float = field(default_factory=time.time)  # seconds since 1970


def training_shares(file: Path, metadata: Metadata) -> tuple[float, ...] | None:
    """The share of each class among a file's training images, from its run directory."""
    with contextlib.suppress(OpsinError, LookupError, ArithmeticError):
        record = RunDirectory(file.parent).read(DatasetRecord)
        if record.fingerprint == metadata.fingerprint:
            counts = [record.counts[name]["train"] for name in metadata.classes]
            return tuple(count / sum(counts) for count in counts)
    return None


def named_models(models: Models, watcher: Watcher = SILENT) -> dict[str, Path]:
    """Models by name, those on the hub fetched: by name, or ``NAME=PATH`` or ``PATH``."""
    if isinstance(models, str | os.PathLike):
        models = [models]
    if isinstance(models, Mapping):
        named = {name: Path(path) for name, path in models.items()}
    else:
        named = {}
        for text in [os.fspath(model) for model in models]:
            name, equals, rest = text.partition("=")
            path = Path(rest)
            if not equals or "/" in name or os.path.lexists(text):
                path = Path(text)
                name = _name_of(path)
            elif not rest:
                raise RecipeError(f"{text!r} names no model", "Give NAME=PATH.")
            if name in named:
                raise RecipeError(
                    f"{named[name]} and {path} would both be called {name}",
                    f"Name one of them yourself: other={path}",
                )
            named[name] = path
    if not named:
        raise RecipeError("There is no model to serve", "Name one: opsin serve runs/…")
    for name, path in named.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,80}", name) or not name.strip("."):
            raise RecipeError(
                f"{name!r} cannot be a model's name",
                "Choose one of at most 80 letters, digits, '.', '_' and '-', such as demo.",
            )
        if str(path).startswith(PREFIX):
            named[name] = find_model(path, watcher=watcher)[0]
    return named


def _name_of(path: Path) -> str:
    """A URL-safe name: the file's, or the directory's if that says more."""
    # Absolute, so that "." and "classifier.onnx" have a named directory.
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  a link keeps the name it was given under
    name = absolute.name
    if name.endswith(".onnx"):
        name = absolute.stem
        if name.startswith("classifier"):
            name = absolute.parent.name + name.removeprefix("classifier")
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip(".-")[:80] or "model"
