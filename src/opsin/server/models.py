"""The served models and their names."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory, find_classifier
from opsin.core.errors import OpsinError, RecipeError, RunError
from opsin.core.events import Watcher
from opsin.core.files import MISSING, FileStamp, file_stamp
from opsin.core.metadata import Metadata
from opsin.hub.hub_name import PREFIX
from opsin.runtime.model_check import check_model, find_model, read_classifier

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,80}")


@dataclass(eq=False)
class ModelFile:
    """A model's file, read once so that all workers have the same."""

    path: Path
    content: bytes = field(repr=False)
    stamp: FileStamp
    max_batch: int | None = None  # from `check_model`
    device: str = "cpu"  # where workers compute; once loaded, where that works
    # Whether answers are bit-identical in batches of any size. If not,
    # images are computed one at a time, so that an answer never depends on other requests.
    batch_invariant: bool = True

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256(self.content).hexdigest()

    @classmethod
    def read(cls, path: Path, device: str = "cpu") -> ModelFile:
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

    @property
    def digest(self) -> str:
        """The file's SHA-256."""
        return self.file.digest


def training_shares(file: Path, metadata: Metadata) -> tuple[float, ...] | None:
    """The share of each class among a file's training images, from its run directory."""
    with contextlib.suppress(OpsinError, LookupError, ArithmeticError):
        record = RunDirectory(file.parent).read(DatasetRecord)
        if record.fingerprint == metadata.fingerprint:
            counts = [record.counts[name]["train"] for name in metadata.classes]
            return tuple(count / sum(counts) for count in counts)
    return None


def parse_models(texts: Sequence[str]) -> dict[str, Path]:
    """Read the models of the command line: ``NAME=PATH``, or ``PATH``, named automatically.

    The default name is the run directory's, or the file's unless it is called classifier.

    Example:
        >>> models = parse_models(["demo=runs/x", "runs/y", "z/classifier.onnx", "boots.onnx"])
        >>> list(models)
        ['demo', 'y', 'z', 'boots']
    """
    models: dict[str, Path] = {}
    for text in texts:
        before, equals, after = text.partition("=")
        if equals and "/" not in before and not os.path.lexists(text):
            name, path = before, Path(after)
            if not after:
                raise RecipeError(f"{text!r} names no model", "Give NAME=PATH.")
        else:
            path = Path(text)
            name = _name_of(path)
        if name in models:
            raise RecipeError(
                f"{models[name]} and {path} would both be called {name}",
                f"Name one of them yourself: other={path}",
            )
        models[name] = path
    return check_models(models)


def check_models(models: Mapping[str, str | os.PathLike[str]]) -> dict[str, Path]:
    """The models by name; `RecipeError` without models, or for an invalid name."""
    if not models:
        raise RecipeError("There is no model to serve", "Name one: opsin serve runs/…")
    for name in models:
        if not _NAME.fullmatch(name) or not name.strip("."):
            raise RecipeError(
                f"{name!r} cannot be a model's name",
                "Choose one of at most 80 letters, digits, '.', '_' and '-', such as demo.",
            )
    return {name: Path(path) for name, path in models.items()}


def fetch_models(models: Mapping[str, Path], watcher: Watcher) -> dict[str, Path]:
    """The models with those on the hub fetched, once, at the start."""
    return {
        name: find_model(path, watcher=watcher)[0] if str(path).startswith(PREFIX) else path
        for name, path in models.items()
    }


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
