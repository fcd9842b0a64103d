"""What was found inside a classifier."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from opsin.core.artifacts.records import Epoch
from opsin.core.stored_json import JsonObject
from opsin.runtime.prediction import Prediction

if TYPE_CHECKING:
    from opsin.inspection.ablation import Ablation
    from opsin.inspection.activity import Activity
    from opsin.inspection.decision import Decision
    from opsin.inspection.layers import LayerView
    from opsin.inspection.neighbours import Neighbour
    from opsin.inspection.portraits import Portrait
    from opsin.inspection.probes import Probes
    from opsin.inspection.save_layers import SavedLayers
    from opsin.inspection.summary import NetworkSummary
    from opsin.inspection.units import UnitGallery
    from opsin.inspection.weights import WeightView


@dataclass
class Insight:
    """What `inspect` found; parts that were not asked for are ``None`` or empty.

    Args:
        model: The file looked into.
        page: The page that was written.
        files: What was written beside it.
        summary: The layers as a table.
        answer: The answer to the image.
        views: What each layer made of the image.
        activity: How active each unit is over training images.
        galleries: What excites the units of each layer asked for, by layer.
        ablations: What becomes of the accuracy without each of them, by layer.
        probes: How well the classes can be distinguished behind each layer.
        portraits: The training images that stand for each class.
        weights: What each layer has learnt.
        history: The epochs of the training, each with its ``norms``.
        decision: Heat maps with their checks.
        neighbours: Training images that the network sees most like the image.
        saved: What `Inspection.save` returned.
    """

    model: Path
    page: Path | None = None
    files: list[Path] = field(default_factory=list)
    summary: NetworkSummary | None = None
    answer: Prediction | None = None
    views: list[LayerView] = field(default_factory=list)
    activity: Activity | None = None
    galleries: dict[str, UnitGallery] = field(default_factory=dict)
    ablations: dict[str, Ablation] = field(default_factory=dict)
    probes: Probes | None = None
    portraits: list[Portrait] = field(default_factory=list)
    weights: list[WeightView] = field(default_factory=list)
    history: list[Epoch] = field(default_factory=list)
    decision: Decision | None = None
    neighbours: list[Neighbour] = field(default_factory=list)
    saved: SavedLayers | None = None

    def to_json(self) -> JsonObject:
        """Return all of it as plain data: figures, no images and no raw numbers."""
        said: JsonObject = {"model": str(self.model)}
        if self.page is not None:
            said |= {"page": str(self.page), "files": [str(file) for file in self.files]}
        for name in ("summary", "answer", "activity", "probes", "decision"):
            if (part := getattr(self, name)) is not None:
                said[name] = part.to_json()
        if self.views:
            said["layers"] = [view.to_json() for view in self.views]
        for name in ("galleries", "ablations"):
            if parts := getattr(self, name):
                said[name] = {key: part.to_json() for key, part in parts.items()}
        for name in ("portraits", "weights", "neighbours"):
            if parts := getattr(self, name):
                said[name] = [part.to_json() for part in parts]
        if self.history:
            said["norms"] = [epoch.to_json()["norms"] for epoch in self.history]
        if self.saved is not None:
            said["saved"] = asdict(self.saved)
        return said
