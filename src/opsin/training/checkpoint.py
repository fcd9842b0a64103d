"""A training's whole state on disk, in immutable files with checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

from opsin.core.artifacts.records import Epoch
from opsin.core.errors import RunError, StorageError
from opsin.core.storage import write_bytes

#: Newest checkpoints kept beside the best.
KEPT: Final = 2
_NAME: Final = "step-{:08d}"

Tensors = dict[str, Tensor]


class TrainingState(BaseModel):
    """The state of a training beside its tensors."""

    # Files keep the short names of two fields.
    model_config = ConfigDict(
        serialize_by_alias=True, validate_by_name=True, validate_by_alias=True
    )

    step: int = 0  # steps done
    start: int = 0  # step of the run's first checkpoint
    epoch: int = 1  # number of the epoch in hand, from 1; beyond the last one when all are done
    seen: int = 0  # images of this epoch that were shown
    # Factor of the learning rate: less than 1 after a step back.
    rate_factor: float = 1.0
    epochs_since_best: int = Field(0, alias="waited")  # number of them
    epochs_logged: int = Field(0, alias="told")  # epochs in the history
    best: Epoch | None = None  # the epoch that validated best, if there was one
    last: Epoch | None = None  # the last epoch, if there was one
    seconds: float = 0.0  # time spent training so far
    epoch_seconds: float = 0.0  # that part of it which went into the epoch in hand
    loss_sum: float = 0.0  # sum of the losses of this epoch's images
    right_sum: int = 0  # how many of them were answered right
    recent_sum: float = 0.0  # sum of the losses since the last look
    recent: int = 0  # images since then

    @property
    def anchor(self) -> int:
        """The step to go back to when the loss runs away: the best epoch's, or the first."""
        return self.best.step if self.best else self.start


class Checkpoints:
    """The checkpoints of one run: ``step-00000420.safetensors`` with a ``.json``."""

    def __init__(self, folder: Path, tell: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self.tell = tell

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, the newest first."""
        numbers = [path.stem.removeprefix("step-") for path in self.folder.glob("step-*.json")]
        return sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)

    def save(self, tensors: Tensors, state: TrainingState) -> None:
        """Write a checkpoint, verify it, and remove older ones."""
        weights, about = self._files(state.step)
        whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        kept_state = state.model_dump_json()
        content = safetensors.torch.save(whole, {"place": kept_state})
        digest = hashlib.sha256(content).hexdigest()
        write_bytes(weights, content)
        write_bytes(about, _about(digest, kept_state))
        if _problem(weights, about):
            raise StorageError(
                f"The disk gave back other bytes of {weights} than were written",
                "Check the disk, and choose another with --runs.",
            )
        kept = {*self.steps()[:KEPT], state.anchor}
        # The second pattern matches leftovers of killed writes.
        for path in (*self.folder.glob("step-*"), *self.folder.glob(".step-*")):
            if path.stem not in {_NAME.format(step) for step in kept}:
                path.unlink(missing_ok=True)

    def load(self, step: int) -> tuple[Tensors, TrainingState]:
        """Read one checkpoint."""
        weights, about = self._files(step)
        if problem := _problem(weights, about):
            raise RunError(f"{weights} {problem}")
        state = TrainingState.model_validate_json(_state(weights))
        return safetensors.torch.load_file(weights), state

    def newest(self) -> tuple[Tensors, TrainingState] | None:
        """The newest whole checkpoint, or ``None``; damaged ones are reported."""
        steps = self.steps()
        for step in steps:
            try:
                return self.load(step)
            except RunError as error:
                older = step != steps[-1]
                then = "the checkpoint before it is used" if older else "there is none before it"
                self.tell(f"{error.message}: {then}")
        return None

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of later steps, which are trained again."""
        for later in self.steps():
            if later > step:
                for path in reversed(self._files(later)):
                    path.unlink(missing_ok=True)

    def _files(self, step: int) -> tuple[Path, Path]:
        stem = self.folder / _NAME.format(step)
        return stem.with_suffix(".safetensors"), stem.with_suffix(".json")


def _about(digest: str, state: str) -> bytes:
    content = {"sha256": digest, **json.loads(state)}
    return (json.dumps(content, indent=2) + "\n").encode("ascii")


def _state(weights: Path) -> str:
    with safe_open(weights, framework="pt") as file:
        return str((file.metadata() or {})["place"])


def _problem(weights: Path, about: Path) -> str | None:
    """The fault of a checkpoint, as the end of a sentence."""
    try:
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        kept = about.read_bytes()
    except OSError as error:
        return f"cannot be read ({(error.strerror or str(error)).lower()})"
    # The state is read only from a file whose bytes the digest vouches for.
    if f'"sha256": "{digest}"'.encode("ascii") not in kept:
        return "is damaged (its SHA-256 is another)"
    with contextlib.suppress(SafetensorError, KeyError, ValueError):
        state = _state(weights)
        TrainingState.model_validate_json(state)
        if kept == _about(digest, state):
            return None
    return f"is damaged ({about.name} says something else)"
