"""What each epoch of a training came to: ``history.jsonl`` and ``confusions.jsonl``."""

from __future__ import annotations

import json
import math
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from opsin.core.artifacts.artifact import Count, Stored
from opsin.core.stored_json import JsonObject


def _nan_for_null(value: object) -> object:
    return math.nan if value is None else value


# JSON has no NaN: a value that is no finite number is null there.
_Measured = Annotated[float, BeforeValidator(_nan_for_null, json_schema_input_type=float | None)]


class Epoch(Stored):
    """One pass over the training images: a line of ``history.jsonl``.

    Losses are mean cross entropies in nats, accuracies shares between 0 and 1, times seconds.
    Training figures are running means over the epoch, with augmentation and dropout on, as every
    framework prints them; validation figures are exact. A value that is no finite number (a
    training that blew up) is ``null`` in the file. ``norms`` are those of each layer's trainable
    weights after the epoch (L2), biases left out; a model without layers has none.
    """

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="null")

    epoch: Count = Field(description="Number of the epoch, from 1.")
    epochs: Count = Field(description="Epochs that were asked for.")
    step: Count = Field(description="Steps of the optimiser so far.")
    train_loss: _Measured
    train_accuracy: _Measured
    val_loss: _Measured
    val_accuracy: _Measured
    rate: _Measured = Field(description="Learning rate.")
    seconds: _Measured
    images_per_second: _Measured
    best: bool = Field(description="Whether no earlier epoch was better on validation images.")
    complete: bool = True
    norms: dict[str, _Measured] = Field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Return plain values for JSON, ``None`` for those that are no finite number."""
        content: JsonObject = json.loads(self.model_dump_json(exclude_unset=True))
        return content


class EpochConfusion(Stored):
    """The confusion matrix of one epoch on validation images: a line of ``confusions.jsonl``.

    ``confusion`` holds counts: rows are the right classes, columns the answers.
    """

    epoch: Count
    confusion: list[list[Count]]
