"""The terms that have lessons."""

from __future__ import annotations

from typing import Final, Literal

Term = Literal["convolution", "pooling", "batch-normalisation", "dropout", "softmax"]
#: One sentence on each, in the order of the lessons.
SENTENCES: Final[dict[Term, str]] = {
    "convolution": "A kernel slides over the maps; at each place the window is multiplied by it "
    "and added up.",
    "pooling": "Each window of a map becomes one number: its largest, or its mean.",
    "batch-normalisation": "Each unit's values are brought to a mean of 0 and a deviation of 1 as "
    "measured in training, then scaled and shifted as learnt.",
    "dropout": "While training, values are set to 0 at random and the others scaled up; "
    "afterwards all of them pass unchanged.",
    "softmax": "The last numbers, the logits, become probabilities that add up to 1; a "
    "temperature makes them more or less sure.",
}
