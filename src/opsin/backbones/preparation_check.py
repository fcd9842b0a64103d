"""Whether a pretrained network probably takes other pixels than people said."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.backbones.backbone import Backbone
from opsin.backbones.features import compute
from opsin.backbones.pixel_values import CHOICES, PixelValues
from opsin.core.events import SILENT
from opsin.data.lazy_images import Images

# Images that are looked at: their features tell pixels of one scale from those of another.
_IMAGES: Final = 48
# Scales under which features vary in fewer ways than this share of the best's are doubted.
_DOUBTED: Final = 0.75


def doubt_about(
    backbone: Backbone, images: Images, digests: NDArray[np.uint8], rows: NDArray[np.int64]
) -> str | None:
    """Return a warning where another scale makes images look far more different to the network."""
    if len(rows) < _IMAGES // 2 or not backbone.pixels.stated.startswith("--prepare="):
        return None
    places = np.linspace(0, len(rows) - 1, min(_IMAGES, len(rows))).astype(np.int64)
    rows = rows[places]
    shown, known = images[rows], digests[rows]
    order = ",bgr" if backbone.pixels.bgr else ""

    def rank(choice: str) -> float:
        pixels = PixelValues.named(f"{choice}{order}")
        other = replace(backbone, pixels=pixels, at=backbone.at[:1])
        # Kept like all features: to ask again costs nothing.
        found = compute(other, shown, known, ("whole",), watcher=SILENT)
        return _effective_rank(found[:, 0])

    ranks = {choice: rank(choice) for choice in CHOICES}
    given = backbone.pixels.stated.removeprefix("--prepare=").partition(",")[0]
    best = max(ranks, key=lambda choice: ranks[choice])
    if given not in ranks or ranks[given] >= _DOUBTED * ranks[best]:
        return None
    return (
        f"{backbone.pixels.stated} is probably wrong: the features of {len(shown)} images vary in "
        f"{ranks[given]:.0f} ways, with --prepare={best}{order} in {ranks[best]:.0f}; compare with "
        "what the network's publisher says about preprocessing"
    )


def _effective_rank(features: NDArray[np.float32]) -> float:
    """Return in how many ways features vary."""
    if not np.isfinite(features).all():
        return 0.0
    rooted = np.sign(features) * np.sqrt(np.abs(features))
    rooted -= rooted.mean(axis=0)
    varied = np.linalg.eigvalsh(rooted @ rooted.T).clip(0)
    total = float(varied.sum())
    if not total:
        return 0.0
    shares = varied[varied > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
