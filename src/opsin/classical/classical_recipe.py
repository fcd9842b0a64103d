"""Options of models without layers, and their defaults."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import Field

from opsin.core.errors import RecipeError
from opsin.core.recipe import (
    AUGMENTATIONS,
    TRAINING,
    TRAINING_OPTIONS,
    ClassMixAsked,
    DataRecipe,
    Device,
    ModelRecipe,
    Named,
    RecipeModel,
    Request,
    TrainingRecipe,
    option,
    option_errors,
)
from opsin.core.recipe_options import RecipeOption, options_of
from opsin.models.architectures import names

#: Headings of options that networks do not have.
WITHOUT_LAYERS: Final = "Models without layers"
PRETRAINED: Final = "Pretrained network"
#: The model that is built on a pretrained network.
BACKBONE: Final = "backbone"


class ClassicalModelRecipe(RecipeModel):
    """Options of a model without layers."""

    group: ClassVar[str] = WITHOUT_LAYERS


_Side = Annotated[
    int,
    option(
        "Longest side in pixels that a model without layers looks at: larger images are averaged "
        "down by 2, 3 … until they fit.",
        metavar="PIXELS",
        ge=4,
        le=1024,
    ),
]
_Images = Annotated[
    int,
    option(
        "Most training images to fit it to, drawn by the seed with each class at its share.",
        metavar="N",
        ge=2,
    ),
]
_Components = Annotated[
    int, option("Principal components that images are reduced to first (knn, svm).", ge=1, le=4096)
]
_C = Annotated[
    float,
    option(
        "Inverse strength of regularisation (logistic, svm): a larger one fits the training images "
        "more closely.",
        gt=0,
        le=1e9,
    ),
]


class Logistic(ClassicalModelRecipe):
    """Multinomial logistic regression on the pixels: one dense layer, convex."""

    name: Literal["logistic"] = "logistic"
    c: _C = 1.0
    side: _Side = 32
    images: _Images = 100_000


class Forest(ClassicalModelRecipe):
    """A random forest on the pixels."""

    name: Literal["forest"] = "forest"
    trees: int = option("Trees of a forest.", 100, ge=1, le=10_000)
    side: _Side = 32
    images: _Images = 100_000


class Knn(ClassicalModelRecipe):
    """The nearest training images, by their principal components, vote."""

    name: Literal["knn"] = "knn"
    neighbours: int = option("Nearest training images that vote (knn).", 9, ge=1, le=1_000)
    components: _Components = 100
    side: _Side = 32
    images: _Images = 60_000


class Svm(ClassicalModelRecipe):
    """A support vector machine with a Gaussian kernel on the principal components."""

    name: Literal["svm"] = "svm"
    c: _C = 10.0
    components: _Components = 100
    side: _Side = 32
    images: _Images = 60_000


class FromBackbone(ClassicalModelRecipe):
    """A head on the features of a pretrained network."""

    group: ClassVar[str] = PRETRAINED

    name: Literal["backbone"] = "backbone"
    backbone: Named = option(
        "A pretrained network to build on: an ONNX file, a run, or a name that opsin backbones "
        "lists. Best for few photographs.",
        flag="--from",
        metavar="FILE or NAME",
    )
    prepare: str | None = option(
        "The pixels that the pretrained network was trained on, where nothing beside it says them: "
        "imagenet, -1..1, 0..1 or 0..255, each also with ,bgr, or a JSON file.",
        None,
        metavar="PIXELS",
    )
    at: tuple[str, ...] | None = option(
        "Values of the pretrained network to take as features (default: that before its last dense "
        "layer, and a few depths where they help).",
        None,
        metavar="VALUE,…",
    )
    head: Literal["auto", "logistic", "kernel-ridge", "nearest-mean"] = option(
        "What learns from the features; auto: the best by cross-validation on the training images.",
        "auto",
    )
    fine_tune: bool = option(
        "Train the pretrained network's own weights as well, which takes minutes to hours and "
        "needs PyTorch; delivered only where validation images say that it is better.",
        False,
    )
    images: _Images = 100_000


PixelModel = Logistic | Forest | Knn | Svm
ClassicalModel = Annotated[PixelModel | FromBackbone, Field(discriminator="name")]
#: Models that learn from the pixels by name, in the order of the help.
PIXEL_MODELS: Final[dict[str, type[PixelModel]]] = {
    str(model.model_fields["name"].default): model for model in get_args(PixelModel)
}
#: All models without layers by name.
FITTED: Final[dict[str, type[PixelModel | FromBackbone]]] = {**PIXEL_MODELS, BACKBONE: FromBackbone}


class Fitting(RecipeModel):
    """Options of a fitting."""

    group: ClassVar[str] = TRAINING

    seed: int = option("Same seed, data and machine: same file.", 0, ge=0, lt=2**31)
    class_mix: ClassMixAsked = "as-trained"
    device: Device = "auto"


#: Every option of a training, by name.
TRAIN_OPTIONS: Final = options_of(ModelRecipe, TrainingRecipe, *FITTED.values(), DataRecipe)


def options_for(model: str) -> dict[str, RecipeOption]:
    """The options of a model, by name."""
    if model == BACKBONE:
        return options_of(FromBackbone, TrainingRecipe, DataRecipe)
    if model in PIXEL_MODELS:
        return options_of(PIXEL_MODELS[model], Fitting, DataRecipe)
    return options_of(ModelRecipe, TrainingRecipe, DataRecipe)


class ClassicalRecipe(Request):
    """A whole request for a model without layers."""

    model: ClassicalModel
    training: Fitting | TrainingRecipe
    budget: float | None = option("Seconds that a fine-tuning may take.", None, gt=0)

    @property
    def fine_tunes(self) -> bool:
        """Whether a pretrained network's own weights are trained as well."""
        return isinstance(self.training, TrainingRecipe)


def resolve_classical(
    data: DataRecipe, *, model: str, mirrored: bool = True, **options: Any
) -> ClassicalRecipe:
    """Fill in every default."""
    chosen = {key: value for key, value in options.items() if value is not None}
    fields = tuple(name for name in FITTED[model].model_fields if name != "name")
    trains = bool(chosen.get("fine_tune"))
    further = TRAINING_OPTIONS if trains else tuple(Fitting.model_fields)
    if unknown := sorted(set(chosen) - {*fields, *further}):
        raise RecipeError(
            f"--model {model} has no option {', '.join(unknown)}, but "
            f"{', '.join((*fields, *further))}",
            "To train the network's own weights: --fine-tune."
            if model == BACKBONE
            else f"To train a network: --model {names()}.",
        )
    asked = {name: chosen.pop(name) for name in further if name in chosen}
    with option_errors():
        training = _fine_tuning(data, asked, mirrored=mirrored) if trains else Fitting(**asked)
        return ClassicalRecipe(data=data, model=FITTED[model](**chosen), training=training)


# Side of a crop, as a share of the image's.
_CROPPED: Final = 0.77


def _fine_tuning(data: DataRecipe, asked: dict[str, Any], *, mirrored: bool) -> TrainingRecipe:
    augment = asked.get("augment", "photos" if mirrored else "symbols")
    if augment not in AUGMENTATIONS:
        raise RecipeError(f"--augment must be one of {', '.join(AUGMENTATIONS)}, not {augment!r}")
    varied: dict[str, float | None] = {**AUGMENTATIONS["none"], "shift": 0}
    side = data.size[0] if data.size and data.size[0] == data.size[1] else None
    if augment == "photos":
        varied |= {"flip": mirrored, "crop": 0.5, "rotate": 8.0, "brightness": 0.2, "colour": 0.3}
        varied["mixup"] = 0.2
        varied["crop_side"] = side and max(32, 16 * round(side * _CROPPED / 16))
    elif augment != "none":
        varied |= {"zoom": 0.15, "brightness": 0.2}
        varied["shift"] = min(64, round(0.08 * min(data.size or (256, 256))))
    # Relative to the size of each filter (`opsin.models.onnx_network`).
    rate = 1e-2 if asked.get("optimizer", "adamw") in ("adam", "adamw") else 5e-3
    usual = {
        "epochs": 20,
        "batch_size": 32,
        "optimizer": "adamw",
        "learning_rate": rate,
        "schedule": "one-cycle",
        "weight_decay": 0.02,
        "label_smoothing": 0.1,
        "ema": 0.98,
        "augment": augment,
        **varied,
    }
    return TrainingRecipe(**{**usual, **asked})
