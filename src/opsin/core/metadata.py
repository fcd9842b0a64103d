"""The metadata inside classifier.onnx."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from opsin.core.errors import ModelFileError
from opsin.core.stored_json import finite

#: Incremented when older readers would misread a file.
FORMAT = 3

Resize = Literal["fit", "fill", "squash"]
#: Bits that 16-bit pixels may use, as cameras and scanners fill them.
Bits = Literal[8, 10, 12, 14, 16]
Precision = Literal["float32", "float16", "int8"]

#: Most pixels of a side, and most classes, of a classifier.
MAX_SIDE: Final = 4096
MAX_CLASSES: Final = 100_000


def limited_text(most: int) -> AfterValidator:
    """A limit on the length of a text; pydantic's own refuses texts that are not valid Unicode."""

    def limited(text: str) -> str:
        if len(text) > most:
            raise ValueError(f"it has more than {most:,} characters")
        return text

    return AfterValidator(limited)


# Files are untrusted: nothing in them may be larger than what Opsin writes.
_Name = Annotated[str, limited_text(10_000)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
_Side = Annotated[int, Field(gt=0, le=MAX_SIDE)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Part = Annotated[float, Field(gt=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Background(_Frozen):
    """The background of the training images, and how subjects contrast with it."""

    #: Median brightness of the images' outermost pixels, 0 (black) to 255 (white).
    level: int = Field(ge=0, le=255)
    #: Share of training images whose border lies on the same side of grey.
    share: _Share
    #: Median share of the image's side that the subject takes up.
    fill: float = Field(gt=0, le=1)
    #: Median difference between the background and the subject's strongest pixels.
    contrast: float = Field(gt=0, le=255)


class Preparation(_Frozen):
    """How bytes become the network's pixels: ``uint8[height, width, channels]``."""

    height: _Side
    width: _Side
    channels: Literal[1, 3]
    resize: Resize
    #: Set if the training images agree on one.
    background: Background | None = None
    #: Bits used in files of 16 bits a channel; ``None`` means all 16.
    bits: Bits | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.height, self.width, self.channels


class LayerOp(StrEnum):
    """A layer's operation: the first word of its ``kind``."""

    ADD = "Add"
    BATCH_NORM = "BatchNorm"
    CONV = "Conv"
    DENSE = "Dense"
    DROPOUT = "Dropout"
    FLATTEN = "Flatten"
    GELU = "GELU"
    IDENTITY = "Identity"
    MAXIMUM = "Maximum"
    MAX_POOL = "MaxPool"
    MEAN = "Mean"
    NORMALISE = "Normalise"
    PCA = "PCA"
    RELU = "ReLU"
    SCALE = "Scale"
    SIGMOID = "Sigmoid"
    SILU = "SiLU"
    TANH = "Tanh"
    #: Any other, such as a layer of a later release.
    OTHER = ""

    @classmethod
    def of(cls, kind: str) -> LayerOp:
        """The operation of a kind of layer."""
        return cls(kind.partition(" ")[0].removesuffix("1d").removesuffix("2d"))

    @classmethod
    def _missing_(cls, value: object) -> LayerOp:  # noqa: ARG003  of the hook
        return cls.OTHER


class Layer(_Frozen):
    """One row of the summary table, named after its output in the file."""

    name: _Name
    kind: _Name
    #: Shape of its output for one image: ``(channels, height, width)`` or ``(units,)``.
    shape: Annotated[tuple[Count, ...], Field(max_length=8)]
    #: Including BatchNorm's running mean and variance.
    parameters: Count
    trainable: Count
    #: Multiplications with an addition, for one image.
    multiply_adds: Count

    @property
    def op(self) -> LayerOp:
        """Its operation."""
        return LayerOp.of(self.kind)


class Score(_Frozen):
    """The file's accuracy when it was made, and the part it was measured on."""

    split: Literal["test", "val", "out_of_fold"]
    images: Count
    accuracy: _Share
    low: _Share
    high: _Share


class Calibration(_Frozen):
    """The temperature that logits are divided by, and what it was fitted to."""

    temperature: float = Field(gt=0)
    #: Validation images, and their mean cross entropy in nats before and after.
    images: Count
    log_loss: tuple[float, float]


class ClassMix(_Frozen):
    """Class frequencies that the scores imply, and those that the answers assume."""

    learnt: Annotated[tuple[_Part, ...], Field(max_length=MAX_CLASSES)]
    assumed: Annotated[tuple[_Part, ...], Field(max_length=MAX_CLASSES)]

    @property
    def log_ratio(self) -> NDArray[np.float64]:
        """The logits' offset, ``float64[K]``: Bayes' rule for another mix of classes."""
        ratio: NDArray[np.float64] = np.log(self.assumed) - np.log(self.learnt)
        return ratio


class Reject(_Frozen):
    """The threshold for the answer "none of these", chosen on validation images."""

    max_ood_score: float
    #: Expected share of known images that are wrongly refused.
    rate: float = Field(gt=0, lt=1)
    images: Count


class Views(_Frozen):
    """The training's augmentation, and whether averaging over such views helps."""

    flip: bool
    #: Largest shift in pixels.
    shift: int = Field(ge=0)
    #: 0 without views.
    images: int = Field(0, ge=0)
    gained: int = Field(0, ge=0)
    lost: int = Field(0, ge=0)
    p: float = Field(1.0, ge=0, le=1)
    #: Whether they help beyond chance; if so, they are used on request.
    helped: bool = False

    @property
    def words(self) -> str:
        """The trial's result as a sentence."""
        if not self.images:
            return "test-time views do not suit this classifier: its training varied nothing"
        verb = "help" if self.helped else "do not help"
        return (
            f"test-time views {verb} this classifier on its {self.images:,} validation images: "
            f"{self.gained:,} put right, {self.lost:,} put wrong (p = {self.p:.2g})"
        )


class BackboneFacts(_Frozen):
    """The pretrained network that is inside the file."""

    name: _Name
    #: SHA-256 of its file, in hexadecimal.
    sha256: _Name
    #: ``unknown`` if not stated.
    licence: _Name
    #: The pixel range that it expects, and where that is stated.
    pixels: _Name
    #: Names of the values used as features.
    at: Annotated[tuple[_Name, ...], Field(max_length=10_000)]


class Metadata(_Frozen):
    """Everything needed to use the file correctly."""

    format: int = FORMAT
    opsin: _Name
    model: _Name
    classes: Annotated[tuple[_Name, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    preparation: Preparation
    layers: Annotated[tuple[Layer, ...], Field(max_length=10_000)]
    source: Annotated[str, Field(max_length=100_000)]
    fingerprint: _Name
    score: Score | None = None
    calibration: Calibration | None = None
    reject: Reject | None = None
    views: Views | None = None
    backbone: BackboneFacts | None = None
    class_mix: ClassMix | None = None
    precision: Precision = "float32"

    @field_validator("classes")
    @classmethod
    def _one_name_each(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("two classes have one name")
        return classes

    def to_props(self) -> dict[str, str]:
        """The properties to write into the ONNX file."""
        fields = self.model_dump(mode="json") | {"format": FORMAT}
        for name in ("views", "backbone", "class_mix", "precision"):
            if fields[name] in (None, "float32"):  # as earlier files lack it
                del fields[name]
        if self.preparation.bits is None:
            del fields["preparation"]["bits"]
        return {f"opsin.{name}": json.dumps(value) for name, value in fields.items()}

    @classmethod
    def from_props(cls, props: dict[str, str], file: str) -> Metadata:
        """Read what `to_props` wrote."""
        texts = {k.removeprefix("opsin."): v for k, v in props.items() if k.startswith("opsin.")}
        try:
            fields = {
                name: json.loads(value, parse_constant=finite) for name, value in texts.items()
            }
            if (written := fields.get("format", FORMAT)) != FORMAT:
                later = written > FORMAT
                raise ModelFileError(
                    f"{file} has format {written}; this Opsin reads format {FORMAT}",
                    "Update Opsin: pip install --upgrade opsin" if later else "Train it again.",
                )
            return cls.model_validate(fields)
        except (ValueError, TypeError, RecursionError) as error:
            raise ModelFileError(
                f"{file} lacks Opsin's description of classes and preparation",
                "A file of another program becomes a classifier by: opsin import FILE",
            ) from error
