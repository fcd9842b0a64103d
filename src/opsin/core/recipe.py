"""A recipe: all options of a training, with types and help texts.

Defaults that depend on the network are filled in by `opsin.models.resolve`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from opsin.core.arguments import by_current_names
from opsin.core.errors import RecipeError
from opsin.core.metadata import Bits, Resize
from opsin.core.platform import DEVICE_WORDS, known_device
from opsin.core.stored_json import Json, JsonObject, first_fault

#: Models without layers; `opsin.classical.classical_recipe` has their options.
ClassicalName = Literal["logistic", "forest", "knn", "svm", "backbone"]
_Value = TypeVar("_Value")
Activation = Literal["relu", "gelu", "silu", "tanh"]
Optimizer = Literal["adam", "adamw", "sgd", "muon"]
Augmentation = Literal["none", "photos", "documents", "symbols"]
Schedule = Literal["constant", "cosine", "one-cycle", "step"]

#: Where to compute; forms offer the common ones.
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"] | str,
    AfterValidator(known_device),
    Field(
        description=f"Where to train, compute features and evaluate: {DEVICE_WORDS}.",
        json_schema_extra={"metavar": "DEVICE"},
    ),
]
Precision = Literal["auto", "float32", "bfloat16"]
#: Most dense layers, or blocks.
DEEPEST: Final = 16
# Suffixes of files that are sources.
_KIND_OF_FILE = re.compile(
    r"(\.tar)?\.(zip|tar|tgz|txz|tbz2|gz|xz|bz2|npz|parquet|csv|tsv|jsonl?|ndjson|xml)$",
    re.IGNORECASE,
)
Side = Annotated[int, Field(ge=4, le=1024)]
#: Height and width; one number stands for both.
Sides = Annotated[
    tuple[Side, Side],
    BeforeValidator(lambda side: (side, side) if isinstance(side, int) else side),
]
#: The name of a file or of a known entry.
Named = Annotated[
    str,
    BeforeValidator(lambda name: os.fspath(name) if isinstance(name, os.PathLike) else name),
]

_PLAIN: Final[dict[str, float]] = {
    "flip": False, "shift": 0.0, "zoom": 0.0, "rotate": 0.0, "brightness": 0.0, "erase": 0.0,
    "crop": 0.0, "colour": 0.0, "mixup": 0.0,
}  # fmt: skip
#: Augmentation of each kind of image; shifts are shares of the smaller side.
AUGMENTATIONS: Final[dict[str, dict[str, float]]] = {
    "none": _PLAIN,
    "photos": _PLAIN | {"flip": True, "shift": 1 / 16},
    # Pages come in any light and slightly askew, but never mirrored.
    "documents": _PLAIN | {"shift": 1 / 32, "zoom": 0.05, "rotate": 3.0, "brightness": 0.2},
    # Mirroring or strong rotation changes a sign's meaning.
    "symbols": _PLAIN | {"shift": 1 / 16, "zoom": 0.1, "rotate": 8.0},
}
#: Defaults of an optimiser other than the network's own.
OPTIMIZERS: Final[dict[str, dict[str, float]]] = {
    "adam": {"learning_rate": 2e-3, "momentum": 0.9},
    "adamw": {"learning_rate": 1e-2, "momentum": 0.9},
    "sgd": {"learning_rate": 0.1, "momentum": 0.9},
    "muon": {"learning_rate": 0.1, "momentum": 0.6},
}
#: Headings of the options in the help, the studio's form and the docs.
SOURCE, PREPARATION, SPLIT = "Source", "Preparation of images", "Split"
NETWORK, TRAINING, AUGMENTATION = "Network", "Training", "Augmentation"


class RecipeModel(BaseModel):
    """Fields that users can set, with what their options need beside type and help."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # Predicting does not need them, and building takes longer than an answer.
        defer_build=True,
    )
    #: The default heading of its fields.
    group: ClassVar[str] = SOURCE

    _current_names = pydantic.model_validator(mode="before")(by_current_names)


def option(
    text: str,
    default: Any = ...,
    *,
    group: str = "",
    metavar: str = "",
    flag: str = "",
    **limits: Any,
) -> Any:
    """A field that users can set: its help, its default, and how it is shown."""
    extra = {"group": group, "metavar": metavar, "flag": flag}
    shown: JsonDict = {key: word for key, word in extra.items() if word}
    return Field(default, description=text, json_schema_extra=shown, **limits)


_preparation = functools.partial(option, group=PREPARATION)
_split = functools.partial(option, group=SPLIT)
_augmentation = functools.partial(option, group=AUGMENTATION)


def _without_folder(source: str) -> str:
    # URLs stay whole, without credentials.
    if re.match(r"(?!file:)[a-z][a-z0-9]+:", source):
        return re.sub(r"(?<=://)[^/@]*@|[?].*", "", source)
    return os.path.basename(os.path.abspath(source))  # noqa: PTH100, PTH119


def without_folders(value: Any) -> Any:
    """JSON with paths cut to their last part, for sharing."""
    match value:
        case dict():
            return {key: without_folders(item) for key, item in value.items()}
        case list():
            return [without_folders(item) for item in value]
        case str() if os.path.isabs(value) or value.startswith(("~", "..")):  # noqa: PTH117
            return _without_folder(value)
    return value


class DataRecipe(RecipeModel):
    """Which images, and how they become arrays and splits."""

    sources: tuple[str, ...] = option(
        "Names, folders, tables, archives or arrays, joined into one.", min_length=1
    )
    test: Named | None = option("A source that is used for the test only.", None, metavar="SOURCE")
    classes: tuple[str, ...] | None = option(
        "Keep only these classes, in this order.", None, metavar="A,B,C", min_length=1
    )
    size: Sides | None = _preparation(
        "Height and width of the prepared images in pixels (default: their own if all share one "
        "of up to 64, otherwise 64).",
        None,
        metavar="N or HxW",
    )
    channels: Literal[1, 3] | None = _preparation(
        "1 for grey, 3 for colour (default: as in the images).", None
    )
    resize: Resize = _preparation(
        "fit: keep the whole image and fill the border; fill: crop to fill; squash: stretch.", "fit"
    )
    bits: Bits | None = _preparation(
        "Bits that are used in files of 16 bits a channel (default: as many as the brightest of "
        "the images needs).",
        None,
    )
    columns: dict[str, str] | None = option(
        "Columns of a table that have other names, such as path=file,label=kind.",
        None,
        metavar="OURS=THEIRS,…",
    )
    labels: Named | None = option(
        "A table of corrections (digest or name, label; the label - leaves an image out), such as"
        " opsin report RUN --fix writes.",
        None,
        metavar="CSV",
    )
    parts_of: Named | None = option(
        "A run whose images keep the parts that they had there, known by their content; new ones "
        "fill the parts up.",
        None,
        metavar="RUN",
    )
    follow_links: bool = option(
        "Follow symbolic links that lead out of the source's folder.", False
    )
    outside: bool = option("Let a table name images outside its own folder, too.", False)
    group_by: str | None = _split(
        "Regular expression: images whose names match with the same text (of the first group) "
        "belong together: on one side of the split, and one observation.",
        None,
        metavar="REGEX",
    )
    near_duplicates: Literal["together", "apart"] = _split(
        "together: near duplicates stay on one side of the split; apart: they may be on both.",
        "together",
    )
    fold: str | None = _split(
        "2/5: test on the second of five folds, train on the other four.",
        None,
        metavar="I/K",
        pattern=r"^[1-9]\d{0,2}/[1-9]\d{0,2}$",
        examples=["2/5"],
    )
    val_fraction: float = _split(
        "Share of the training images used for validation.", 0.1, gt=0, lt=1
    )
    test_fraction: float = _split(
        "Share used for the test if the source has no test images of its own.", 0.1, ge=0, lt=1
    )
    split_seed: int = _split("Another seed gives another split.", 0, ge=0, lt=2**31)
    max_unreadable: float = option(
        "Stop if more than this share of the files is unreadable.", 0.1, ge=0, le=1
    )

    @property
    def title(self) -> str:
        """The first source's name, without path and suffix."""
        name = os.path.basename(os.path.abspath(self.sources[0]))  # noqa: PTH100, PTH119
        return _KIND_OF_FILE.sub("", name) or name

    @property
    def source(self) -> str:
        """All sources in one text."""
        return " + ".join(self.sources) + (f" · test: {self.test}" if self.test else "")

    @property
    def source_names(self) -> str:
        """The same without folders, for sharing."""
        names = [_without_folder(source) for source in self.sources]
        return " + ".join(names) + (f" · test: {_without_folder(self.test)}" if self.test else "")

    @classmethod
    def of(cls, *sources: str, **options: Any) -> DataRecipe:
        """The recipe of some sources; options that are ``None`` get their defaults."""
        refuse_unknown(options, DATA_OPTIONS)
        values = {name: value for name, value in options.items() if value is not None}
        with option_errors():
            recipe = cls(sources=sources, **values)
        number, count = map(int, (recipe.fold or "1/2").split("/"))
        if not number <= count or count < 2:
            raise RecipeError(f"--fold must be such as 2/5, not {recipe.fold}")
        if recipe.val_fraction + recipe.test_fraction >= 1:
            shares = f"{recipe.val_fraction:g} and {recipe.test_fraction:g}"
            raise RecipeError(f"{shares} for validation and test leave no images for training")
        return recipe


class ModelRecipe(RecipeModel):
    """Which network."""

    group: ClassVar[str] = NETWORK

    name: str = option("Which network; `opsin train --help` lists them.")
    hidden: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = option(
        "Units of each dense layer, or filters of each block.", metavar="N,N,N"
    )
    depth: int = option("Number of dense layers, or of blocks.", ge=0, le=DEEPEST)
    activation: Activation = option("Non-linearity after each layer.", "relu")
    dropout: float = option("Share of values dropped during training.", ge=0, lt=1)


#: What ``--class-mix`` takes.
ClassMixAsked = Annotated[
    str,
    Field(
        pattern=r"^(as-trained|even|.+\.json)$",
        description="How common the classes are among the images that answers are for: as-trained, "
        "even, or a JSON file with a share for each class.",
        json_schema_extra={"metavar": "MIX"},
    ),
]


class TrainingRecipe(RecipeModel):
    """How the network is trained."""

    group: ClassVar[str] = TRAINING

    epochs: int = option("Passes over the training images.", ge=1, le=10_000)
    batch_size: int = option("Images per step.", ge=2, le=65_536)
    micro_batch: int | None = option(
        "Images computed at once: a step adds up the gradients of several such parts of its "
        "batch, which takes less memory (default: the whole batch).",
        None,
        metavar="IMAGES",
        ge=2,
        le=65_536,
    )
    optimizer: Optimizer = option(
        "adam, adamw, sgd (with Nesterov momentum), or muon (for convolutions; the other weights "
        "by adamw)."
    )
    learning_rate: float = option("Learning rate (the peak, if it varies).", gt=0, le=100)
    schedule: Schedule = option(
        "constant; cosine: down to zero; one-cycle: up, then down; step: ÷ 10 at 50% and 75%."
    )
    momentum: float = option("Momentum of sgd and muon, first beta of adam.", 0.9, ge=0, lt=1)
    weight_decay: float = option("Weight decay per step, times the learning rate.", ge=0, le=10)
    label_smoothing: float = option(
        "Share of the target spread evenly over all classes.", ge=0, lt=1
    )
    balance: Literal["auto", "none", "weights", "sampling"] = option(
        "Make rare classes count as much as common ones in the training, by weights in the loss "
        "or by drawing them more often; auto: decided by the counts. Answers assume the class mix"
        " all the same.",
        "auto",
    )
    augment: Augmentation = _augmentation(
        "What the training images show, which decides how they are varied: photos, documents, "
        "symbols (never mirrored), or none. The other options of augmentation change one part "
        "each."
    )
    flip: bool = _augmentation("Mirror half of the training images left to right.")
    shift: int = _augmentation(
        "Move training images at random by up to this many pixels.", metavar="PIXELS", ge=0, le=64
    )
    zoom: float = _augmentation(
        "Enlarge or shrink them by up to this share of their size.", ge=0, le=0.5
    )
    rotate: float = _augmentation(
        "Rotate them by up to this many degrees.", metavar="DEGREES", ge=0, le=180
    )
    brightness: float = _augmentation(
        "Change brightness and contrast by up to this share.", ge=0, le=1
    )
    erase: float = _augmentation(
        "Side of a square erased at a random place, as a share of the image's side.", ge=0, le=0.9
    )
    crop: float = _augmentation(
        "Show a part of each image, of any place and shape, that is at least this share of it (0:"
        " the whole image).",
        0.0,
        ge=0,
        lt=1,
    )
    crop_side: int | None = _augmentation(
        "Height and width that such a part is brought to (default: the image's own).",
        None,
        metavar="PIXELS",
        ge=8,
        le=1024,
    )
    colour: float = _augmentation(
        "Change saturation and tint by up to this share.", 0.0, ge=0, le=1
    )
    mixup: float = _augmentation(
        "Mix each image, and its label, with another's: the parameter of the beta distribution "
        "that their shares are drawn from (0: never).",
        0.0,
        ge=0,
        le=1,
    )
    ema: float = option(
        "Deliver the weights' moving average, which keeps this share of itself at each step (0: "
        "the weights of the best epoch).",
        0.0,
        ge=0,
        lt=1,
    )
    patience: int | None = option(
        "Stop after this many epochs without a better validation accuracy.",
        None,
        metavar="EPOCHS",
        ge=1,
    )
    seed: int = option("Same seed, data and machine: same weights (on a CPU).", 0, ge=0, lt=2**31)
    class_mix: ClassMixAsked = "as-trained"
    device: Device = "auto"
    precision: Precision = option(
        "Arithmetic of training: float32, or bfloat16 for all large products; auto: bfloat16 if "
        "the processor has units for it and the network is large enough to gain.",
        "auto",
    )
    checkpoint_every: float = option(
        "Seconds between checkpoints: the training time that a crash may cost.",
        30,
        metavar="SECONDS",
        ge=0,
    )


class Request(RecipeModel):
    """A whole request: ``recipe.json`` of a run."""

    data: DataRecipe
    model: Any
    training: Any
    parent: str | None = option("The run that this one goes on from.", None)
    added_to: str | None = option("The run to whose images others were added.", None)
    reasons: dict[str, str] = option(
        "What was decided by images, machine and time, and why.", default_factory=dict
    )
    versions: dict[str, str] = option(
        "The packages that the run was made with.", default_factory=dict
    )


class Recipe(Request):
    """A whole request for a network: ``recipe.json`` of a run."""

    model: ModelRecipe
    training: TrainingRecipe

    def with_training(self, **changes: Any) -> Recipe:
        """The recipe with other values in its training part."""
        changes = by_current_names(changes)
        refuse_unknown(changes, TRAINING_OPTIONS)
        with option_errors():
            training = TrainingRecipe(**(self.training.model_dump(exclude_unset=True) | changes))
        return self.model_copy(update={"training": training})


#: Options of `opsin.models.resolve.resolve`: those of the model, and those of the training.
MODEL_OPTIONS = tuple(name for name in ModelRecipe.model_fields if name != "name")
TRAINING_OPTIONS = tuple(TrainingRecipe.model_fields)
#: Those that may change when a training resumes.
CHANGEABLE = tuple(name for name in TRAINING_OPTIONS if name != "seed")
DATA_OPTIONS = tuple(name for name in DataRecipe.model_fields if name != "sources")
#: Options to reset when another option changes.
RESET_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "augment": tuple(AUGMENTATIONS["none"]), "optimizer": ("learning_rate", "momentum"),
    "schedule": ("patience",), "depth": ("hidden",), "hidden": ("depth",),
    "budget": ("epochs", "hidden", "depth"),
}  # fmt: skip


def override(options: Mapping[str, _Value], changes: Mapping[str, _Value]) -> dict[str, _Value]:
    """Options of a recipe, updated; dependent ones are dropped."""
    kept = dict(options)
    if changes.get("model", options.get("model")) != options.get("model"):
        kept = {name: value for name, value in options.items() if name in DATA_OPTIONS}
    for choice, belonging in RESET_BY.items():
        if choice in changes and changes[choice] != options.get(choice):
            kept = {name: value for name, value in kept.items() if name not in belonging}
    return kept | dict(changes)


def flat_options(content: Mapping[str, Json]) -> JsonObject:
    """The options of all sections in one dictionary; ``model`` is the model's name."""
    options: JsonObject = {}
    for key, value in content.items():
        if key not in ("versions", "parent", "added_to", "reasons"):
            section = dict(value) if isinstance(value, dict) else {key: value}
            if key == "model" and "name" in section:
                section = {"model": section.pop("name"), **section}
            options |= section
    return dict(by_current_names(options))


def refuse_unknown(options: Iterable[str], known: Sequence[str]) -> None:
    """Refuse unknown options."""
    if unknown := sorted(set(options) - set(known)):
        raise RecipeError(f"There is no option {', '.join(unknown)}", f"Known: {', '.join(known)}.")


@contextlib.contextmanager
def option_errors() -> Iterator[None]:
    """Turn pydantic's errors of options into `RecipeError`, with the first value that is wrong."""
    try:
        yield
    except pydantic.ValidationError as error:
        option, rule = first_fault(error)
        value = error.errors()[0]["input"]
        raise RecipeError(f"{option} cannot be {value!r}: {rule}") from None
