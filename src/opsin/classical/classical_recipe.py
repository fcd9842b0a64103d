"""What a model without layers can be asked for: few options, each resolved."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsin.core.errors import RecipeError
from opsin.core.recipe import DataRecipe, invalid


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False,
        # Predicting needs none of them built, and that takes longer than the answer.
        defer_build=True,
    )  # fmt: skip


_Side = Annotated[
    int,
    Field(
        ge=4,
        le=1024,
        description="Longest side in pixels that a model without layers looks at: larger pictures "
        "are averaged down by 2, 3 … until they fit.",
    ),
]
_Pictures = Annotated[
    int,
    Field(
        ge=2,
        description="Training pictures that it is fitted to at most, drawn by the seed with each "
        "class at its share.",
    ),
]
_Components = Annotated[
    int,
    Field(
        ge=1,
        le=4096,
        description="Principal components that pictures are reduced to first (knn, svm).",
    ),
]
_C = Annotated[
    float,
    Field(
        gt=0,
        le=1e9,
        description="How much a mistake costs against a simple rule (logistic, svm): larger fits "
        "the training pictures more closely.",
    ),
]
_Trees = Annotated[
    int,
    Field(
        ge=1,
        le=10_000,
        description="Trees of a forest; rounds of boosting, with a tree for each class in each.",
    ),
]
_Leaves = Annotated[int, Field(ge=2, le=100_000, description="Leaves of each tree at most.")]


class Logistic(_Frozen):
    """Multinomial logistic regression on the pixels: one dense layer, convex."""

    name: Literal["logistic"] = "logistic"
    c: _C = 1.0
    side: _Side = 32
    pictures: _Pictures = 100_000


class Forest(_Frozen):
    """A random forest on the pixels."""

    name: Literal["forest"] = "forest"
    trees: _Trees = 100
    leaves: _Leaves = 2_000
    side: _Side = 32
    pictures: _Pictures = 100_000


class Knn(_Frozen):
    """The nearest training pictures, by their principal components, vote."""

    name: Literal["knn"] = "knn"
    neighbours: Annotated[
        int, Field(ge=1, le=1_000, description="Nearest training pictures that vote (knn).")
    ] = 9
    components: _Components = 100
    side: _Side = 32
    pictures: _Pictures = 60_000


class Svm(_Frozen):
    """A support vector machine with a Gaussian kernel on the principal components."""

    name: Literal["svm"] = "svm"
    c: _C = 10.0
    components: _Components = 100
    side: _Side = 32
    pictures: _Pictures = 60_000


class Boosting(_Frozen):
    """Gradient boosting of small trees over binned pixels."""

    name: Literal["hist-gradient-boosting"] = "hist-gradient-boosting"
    trees: _Trees = 100
    leaves: _Leaves = 31
    rate: Annotated[
        float, Field(gt=0, le=1, description="Learning rate: how much of each round counts.")
    ] = 0.1
    side: _Side = 16
    pictures: _Pictures = 100_000


ClassicalModel = Annotated[Logistic | Forest | Knn | Svm | Boosting, Field(discriminator="name")]
#: The models by name, in the order in which they are told.
MODELS: Final[dict[str, type[Logistic | Forest | Knn | Svm | Boosting]]] = {
    str(model.model_fields["name"].default): model
    for model in get_args(get_args(ClassicalModel)[0])
}
#: Options of any of these models that networks do not have.
CLASSICAL_OPTIONS: Final = tuple(
    dict.fromkeys(
        name
        for model in MODELS.values()
        for name in model.model_fields
        if name not in ("name", "rate")
    )
)


class Fitting(_Frozen):
    """How such a model is fitted."""

    seed: int = Field(0, ge=0, lt=2**31, description="Same seed, data and machine: same file.")


class ClassicalRecipe(_Frozen):
    """A whole request for a model without layers: ``recipe.json`` of its run."""

    data: DataRecipe
    model: ClassicalModel
    training: Fitting
    parent: None = Field(None, description="None: such a model is fitted in one go.")
    reasons: dict[str, str] = Field(
        default_factory=dict, description="What was decided by the pictures, and why."
    )
    versions: dict[str, str] = Field(
        default_factory=dict, description="The packages that the run was made with."
    )


def resolve_classical(data: DataRecipe, *, model: str, **options: Any) -> ClassicalRecipe:
    """Fill in every default.

    Args:
        data: The data part, already complete.
        model: A name among `MODELS`.
        **options: The model's own fields, and ``seed``; ``None`` means "the default".

    Raises:
        RecipeError: An option that the model does not have, or a value outside its range.

    Example:
        >>> resolve_classical(DataRecipe.of("digits"), model="forest", trees=50).model.leaves
        2000
    """
    given = {key: value for key, value in options.items() if value is not None}
    own = tuple(name for name in MODELS[model].model_fields if name != "name")
    unknown = sorted(set(given) - {*own, "seed"})
    if unknown:
        raise RecipeError(
            f"options that --model {model} has: {', '.join((*own, 'seed'))}",
            f"got {', '.join(unknown)}",
            "Leave out what is not among them, or train a network: --model mlp, cnn or resnet.",
        )
    seed = {"seed": given.pop("seed")} if "seed" in given else {}
    try:
        return ClassicalRecipe(data=data, model=MODELS[model](**given), training=Fitting(**seed))
    except ValidationError as error:
        raise invalid(error) from None
