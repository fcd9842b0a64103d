"""The best weights so far, on disk."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from opsin.errors import RunError
from opsin.events import Epoch
from opsin.storage import whole_file, write_json


def save_checkpoint(folder: Path, network: nn.Module, epoch: Epoch) -> Path:
    """Write the weights of a new best epoch and remove those of the one before.

    A file is never changed once it has its name, which is that of its step. The new one is whole
    on the disk before the old one goes.

    Args:
        folder: ``checkpoints/`` of the run.
        network: The network.
        epoch: Its figures, written beside the weights.

    Returns:
        The file with the weights.

    Raises:
        StorageError: The disk refuses the write; the older checkpoint is still there.
    """
    before = list(folder.glob("step-*"))
    path = folder / f"step-{epoch.step:08d}.safetensors"
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    with whole_file(path) as temporary:
        save_file(weights, temporary)
    write_json(path.with_suffix(".json"), json.loads(epoch.model_dump_json()))
    for old in before:
        if old.stem != path.stem:
            old.unlink()
    return path


def load_checkpoint(path: Path, network: nn.Module) -> None:
    """Put the weights of a checkpoint into a network of the same shape.

    Raises:
        RunError: The file is damaged or of another network.
    """
    try:
        network.load_state_dict(load_file(path))
    except Exception as error:
        raise RunError(
            "a checkpoint of this network", f"{path} is not ({error})", "Train again."
        ) from error
