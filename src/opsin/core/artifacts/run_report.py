"""Everything measured on a run: ``report.json``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, computed_field, model_validator

from opsin.core.artifacts.records import (
    LONGEST,
    Artifact,
    LeftOut,
    RunStatus,
    Seconds,
    Share,
    Stored,
    Text,
)
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PredictedPart
from opsin.core.errors import OpsinError
from opsin.core.metadata import Calibration, ClassMix, Count, Layer, Reject, Views
from opsin.core.recipe import DataRecipe

#: The ends of a 95% interval.
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
#: With fewer groups than this, intervals are rough.
FEW_GROUPS: Final = 20


class Accuracy(Stored):
    """An accuracy with its 95% interval, and the number of images that it was measured on."""

    images: Count
    accuracy: Share
    low: Share = Field(description="Lower end of the accuracy's 95% interval.")
    high: Share = Field(description="Upper end.")

    @property
    def plain(self) -> dict[str, float]:
        """These four figures, without what else is known of the images."""
        return {name: getattr(self, name) for name in Accuracy.model_fields}


class Bin(Stored):
    """A bar of the reliability diagram: images with a confidence from ``low`` to ``high``."""

    low: Share
    high: Share
    count: Count
    confidence: Share
    accuracy: Share


class ClassFigures(Stored):
    """How good the answers are for one class; ``None`` for a class without images."""

    name: str
    precision: Share | None
    precision_interval: Interval | None = None
    recall: Share | None
    recall_interval: Interval | None = None
    f1: Share | None
    f1_interval: Interval | None = None
    count: Count = Field(description="Images of the class.")
    answers: Count = Field(0, description="How often the class was the answer.")


class ConfusedPair(Stored):
    """How often images of one class were taken for another."""

    actual: str
    predicted: str
    count: Count
    of: Count = Field(description="Images of the actual class.")


class ClassCurves(Stored):
    """How well one class is told from all others, at every threshold."""

    name: str
    auroc: Share | None = None
    average_precision: Share | None = None
    roc: list[list[float]] | None = None
    precision_recall: list[list[float]] | None = None


class Curves(Stored):
    """The curves of all classes, and the means of the areas under them."""

    classes: list[ClassCurves] = Field(default_factory=list)
    macro_auroc: Share | None = None
    macro_average_precision: Share | None = None


class Uncalibrated(Stored):
    """What the figures would be without the file's temperature."""

    log_loss: float
    calibration_error: float


class Refused(Stored):
    """How many images get the answer "none of these"."""

    images: Count
    share: Share
    low: Share
    high: Share
    count: Count
    accuracy_of_others: Share | None = None


class CorrectedLabels(Stored):
    """What corrections of labels did to the accuracy."""

    labels: Count = Field(description="Images with another label than in the source.")
    images: Count
    left_out: Count = Field(description="Images of the whole dataset that were left out.")
    earlier: Accuracy = Field(description="By the labels of the source.")


class PartFigures(Accuracy):
    """How good the answers to one part of the images are; ``None`` where a run does not say."""

    images: Count = 0
    groups: Count | None = Field(
        None, description="Groups that the intervals take; null where each image stands alone."
    )
    few_groups: bool = Field(False, description=f"Fewer than {FEW_GROUPS} groups.")
    top5_accuracy: Share | None = Field(None, description="Null for up to five classes.")
    balanced_accuracy: Share | None = None
    macro_f1: Share | None = None
    weighted_f1: Share | None = None
    log_loss: float | None = Field(None, description="Mean cross entropy in nats.")
    brier: float | None = None
    calibration_error: float | None = None
    reliability: list[Bin] = Field(default_factory=list)
    intervals: dict[str, Interval] = Field(default_factory=dict, description="Of other figures.")
    classes: list[ClassFigures] = Field(default_factory=list)
    confusion: list[list[Count]] = Field(
        default_factory=list, description="Counts, a row for each right class."
    )
    confused: list[ConfusedPair] = Field(default_factory=list)
    curves: Curves = Field(default_factory=Curves)
    uncalibrated: Uncalibrated | None = None
    refused: Refused | None = None
    corrected: CorrectedLabels | None = None
    without_leaks: Accuracy | None = None

    @property
    def uneven(self) -> bool:
        """Whether the largest class has over 1.5 times the images of the smallest that has any."""
        counts = [figures.count for figures in self.classes if figures.count]
        return bool(counts) and max(counts) > 1.5 * min(counts)


class Leaks(Stored):
    """Test images with a copy among the others."""

    exact: Count = 0
    near: Count = 0
    all_copied: bool = False


class ReportedFinding(Stored):
    """A finding of the audit."""

    count: Count
    title: str
    opsin: str = Field(description="What Opsin did about it.")


class TrainingFacts(Stored):
    """How the training went."""

    elsewhere: bool = Field(False, description="The classifier was imported.")
    best_epoch: Count | None = None
    epochs: Count = 0
    asked: Count = 0
    stopped: bool = False
    interrupted: bool = False
    diverged: str | None = Field(None, description="Why the loss ran away, if it did.")
    stepped_back: bool = False
    balance: Text = "none"
    precision: Text = "float32"
    fitted_to: Count | None = Field(None, description="Images that a classical model learnt from.")
    unit: Text = "epochs"
    device: Text = ""
    answered_on: Text = Field("cpu", description="Where ONNX Runtime computed the answers.")
    parameters: Count | None = None
    trainable: Count | None = None
    multiply_adds: Count | None = None


class FileFacts(Stored):
    """What was seen when ``classifier.onnx`` was written."""

    bytes: Count | None = None
    parity_images: Count | None = Field(None, description="Images compared with the model's.")
    difference: float | None = Field(None, description="Largest difference between the two.")


class ReportedViews(Views, extra="ignore"):
    """Whether test-time views helped on validation images, with a sentence."""

    @computed_field
    @property
    def words(self) -> str:
        """The trial's result as a sentence."""
        return super().words


class SuspectedLabel(Stored):
    """An image whose label is probably wrong."""

    row: Count
    name: str
    digest: Text
    label: str
    suggested: str
    score: Share
    example: Count | None = None


class ExpectedSuspects(Stored):
    """What suspects are worth, by trials with labels flipped at random."""

    flipped: Count = Field(description="Labels that a trial flipped.")
    first: Count = Field(description="Suspects that a trial looked at.")
    hits: float = Field(description="Those of them that were flipped, on average.")
    share: float = Field(description="Share of the labels that was flipped.")
    precision: float = Field(description="Share of the suspects looked at that was flipped.")
    words: str


class LabelEvidence(Stored):
    """Whether the classifier is good enough to suspect labels."""

    too_weak: str = ""
    expected: ExpectedSuspects | None = None


class Slice(Accuracy):
    """The accuracy on one kind of image."""

    name: str
    start: float | None = Field(None, alias="from")
    to: float | None = None
    value: str | None = None
    right: Count
    p: Share | None = None
    weak: bool = False
    expected: Share | None = None
    explained: bool = False
    trait: str | None = None


class Trait(Stored):
    """What images are sliced by."""

    name: str
    slices: list[Slice]


class Slices(Accuracy):
    """The accuracy of every slice, and those that are worse than the rest."""

    judged: Count
    too_weak: str = ""
    traits: list[Trait]
    weakest: list[Slice]


class Failures(Stored):
    """Where the classifier fails."""

    suspects: list[SuspectedLabel] = Field(default_factory=list)
    suspected: Count = 0
    labels: LabelEvidence | None = None
    slices: Slices


class DisturbedAccuracy(Accuracy):
    """The accuracy on images that are disturbed in one way, at one strength."""

    strength: int | float
    words: str
    lost: Count = Field(0, description="Images that only the undisturbed answer had right.")
    won: Count = Field(0, description="Images that only the disturbed answer had right.")
    change: float = Field(0.0, description="Difference to the undisturbed accuracy.")
    change_low: float = Field(description="Lower end of its 95% interval.")
    change_high: float = Field(description="Upper end.")


class DisturbanceKind(Stored):
    """One way in which images are disturbed."""

    name: str
    unit: str
    levels: list[DisturbedAccuracy]


class RobustnessFigures(Accuracy):
    """The accuracy on disturbed images."""

    of: Count = Field(description="Images of the part; some of them were chosen.")
    seed: Count = 0
    kinds: list[DisturbanceKind]


class StrangeKind(Stored):
    """How well images of one strange kind are told from known ones."""

    name: str
    images: Count
    auroc: Share
    refused: Share | None = None


class OodFigures(Stored):
    """How well the OOD score distinguishes unknown images from known ones, judged by all images."""

    near: Share = Field(description="For images of a class that is left out, on average.")
    far: Share = Field(description="For generated images: colours, noise, text and drawings.")
    classes: list[StrangeKind] = Field(default_factory=list, description="Each, left out.")


class MapPoint(Stored):
    """An image on the map; label and answer are places among the map's classes."""

    row: Count
    name: str
    x: float
    y: float
    label: Count
    answer: Count


class ClassApart(Stored):
    """How many of the nearest neighbours of a class's images are of that class."""

    name: str
    images: Count
    share: Share


class MapFigures(Stored):
    """The images on a plane, by the last layer's features."""

    method: str
    classes: list[str]
    points: list[MapPoint]
    apart: list[ClassApart]


class DeepAnalysis(Stored):
    """What ``opsin report`` adds: disturbed images, strange images, and the map."""

    too_weak: str = ""
    robustness: RobustnessFigures
    strangers: list[StrangeKind] | None = None
    map: MapFigures


class AddedClass(Stored):
    """How many of the new images of a class are right; ``None`` where none is judged."""

    name: str
    is_new: bool = Field(description="Whether the run that it was added to did not know it.")
    images: Count = 0
    accuracy: Share | None = None
    low: Share | None = None
    high: Share | None = None


class Added(Stored):
    """What adding images to a run did: the old images before and after, and the new ones."""

    run: str
    part: PredictedPart = Field(description="What the old images are of the run.")
    images: Count = Field(description="Old images that both were judged by.")
    before: Share = Field(description="Accuracy on them.")
    after: Share
    difference: float
    low: float = Field(description="Lower end of the difference's 95% interval.")
    high: float = Field(description="Upper end.")
    p: Share = Field(description="Of the paired test.")
    better: Literal["before", "after"] | None = Field(description="Null: none is shown to be.")
    classes: list[AddedClass] = Field(default_factory=list, description="Of the new images.")
    notes: list[str] = Field(default_factory=list)
    sentence: str = ""

    def words(self, images: str = "images") -> str:
        """The result as sentences."""
        points = 100 * abs(self.difference)
        verdict = {
            None: "no difference can be shown",
            "before": f"worse by {points:.1f} points",
            "after": f"better by {points:.1f} points",
        }[self.better]
        optimistic = "validation, optimistic: " if self.part == "val" else ""
        words = (
            f"The old classes: {optimistic}{verdict} ({self.before:.3f} before, {self.after:.3f} "
            f"after, on {self.images:,} {images})."
        )
        for one in self.classes:
            name = one.name if one.is_new else f"New {images} of {one.name}"
            if one.accuracy is None or one.low is None or one.high is None:
                words += f" {name}: not judged, as no image of it is among those that judge."
                continue
            half = max(one.high - one.accuracy, one.accuracy - one.low)
            words += f" {name}: {one.accuracy:.2f} ± {half:.2f} of {one.images:,}."
        return words


class Report(Artifact):
    """Everything that was measured of a run."""

    FILE: ClassVar[str] = "report.json"

    opsin: Text = Field("", description="Version that made the report.")
    parent: str | None = Field(None, description="The run that this one goes on from.")
    reasons: dict[str, str] = Field(default_factory=dict)
    source: str = ""
    model: Text = ""
    dataset: Text = ""
    split: PredictedPart = Field(description="The part that the verdict rests on.")
    figures: dict[PredictedPart, PartFigures]
    looks: Count = 1
    leaks: Leaks = Field(default_factory=Leaks)
    rests_on: str = ""
    unreadable: Count = 0
    left_out: list[LeftOut] = Field(default_factory=list, description="What is not read, by kind.")
    repeated_rows: Count = Field(0, description="Rows of a table that named an image once more.")
    findings: list[ReportedFinding] = Field(default_factory=list)
    training: TrainingFacts = Field(default_factory=TrainingFacts)
    file: FileFacts = Field(default_factory=FileFacts)
    calibration: Calibration | None = None
    class_mix: ClassMix | None = Field(
        None, description="Shares of the classes that scores imply, and that answers assume."
    )
    reject: Reject | None = None
    ood: OodFigures | None = Field(
        None, description="Where a head on a pretrained network is judged by all images."
    )
    views: ReportedViews | None = None
    layers: list[Layer] = Field(default_factory=list)
    seconds: dict[str, Seconds] = Field(default_factory=dict, description="Of load, train …")
    failures: Failures | None = None
    added: Added | None = Field(None, description="Where images were added to another run's.")
    deep: DeepAnalysis | None = None

    @model_validator(mode="after")
    def _check_judged(self) -> Self:
        if self.split not in self.figures:
            raise ValueError(f"it has no figures of the {self.split} part")
        return self

    @property
    def judged(self) -> PartFigures:
        """The figures of the part that the verdict rests on."""
        return self.figures[self.split]


class RecordedModel(Stored):
    """The model; its options depend on its name."""

    name: Text


class RecordedRecipe(Artifact):
    """The part of a run's recipe that all models share."""

    FILE: ClassVar[str] = "recipe.json"

    data: DataRecipe
    model: RecordedModel
    training: Stored = Field(default_factory=Stored, description="Depends on the model.")


@dataclass(frozen=True)
class RunSummary:
    """A run as a table row; unknown values are ``None``."""

    state: str = "damaged"
    cause: str | None = None
    name: str = ""
    note: str = ""
    sources: tuple[str, ...] = ()
    model: str | None = None
    started: float | None = None
    split: str | None = None
    images: int | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    seconds: float | None = None
    bytes: int | None = None
    corrected: CorrectedLabels | None = None


def summarise(run: RunDirectory) -> RunSummary:
    """Return a run's row; damaged files never raise."""
    row = RunSummary()
    try:
        run.check_own()
        notes = run.read_notes()
        row = replace(row, name=notes.name, note=notes.note)
        state, cause = run.state()
        recipe = run.read(RecordedRecipe)
        sources = tuple(source[:LONGEST] for source in recipe.data.sources)
        row = replace(row, sources=sources, model=recipe.model.name)
        if run.status.is_file():
            row = replace(row, started=run.read(RunStatus).started)
        if run.report.is_file():
            report = run.read(Report)
            figures = report.judged
            row = replace(
                row,
                split=report.split,
                images=figures.images,
                accuracy=figures.accuracy,
                low=figures.low,
                high=figures.high,
                seconds=report.seconds.get("train"),
                bytes=report.file.bytes,
                corrected=figures.corrected,
            )
    except OpsinError as error:
        return replace(row, state="damaged", cause=str(error)[:LONGEST])
    return replace(row, state=state, cause=cause and cause[:LONGEST])
