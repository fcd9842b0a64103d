"""Where the images that a run was made from are now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import MovedError, RecipeError, RunError
from opsin.core.recipe import DataRecipe, as_recorded
from opsin.data.sources.named import NAMES

#: One place, or several, in the order in which the run names its own.
Places = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_LOCATION: Final = ("sources", "test", "labels")


def is_moved(run: RunDirectory) -> bool:
    """Tell whether there is nothing any more where a run's images were.

    Raises:
        RunError: The run's files are damaged.
    """
    return bool(_gone(_recorded(run)))


def recipe_of_run(run: RunDirectory, data: Places = (), *, others: bool = False) -> DataRecipe:
    """Return which images a run was made from, and where they are now.

    Args:
        run: The run.
        data: Where they are now: a place for each source of the run, and, behind them, one for its
            test source if that has moved too (default: where they were).
        others: ``data`` may also name other sources, in any number.

    Raises:
        MovedError: They are not where they were, and ``data`` names no other place.
        RecipeError: ``data`` names more places than the run has sources, or fewer.
        RunError: The run's files are damaged.
    """
    recipe = _recorded(run)
    given = [data] if isinstance(data, str | os.PathLike) else list(data)
    if given:
        places = [os.fspath(each) for each in given]
        recipe = recipe.model_copy(update=_replaced(run, recipe, places, others=others))
    gone = [place for place in _gone(recipe) if place not in given]
    if gone:
        raise MovedError(run.path, gone)
    return recipe


def _recorded(run: RunDirectory) -> DataRecipe:
    """Return the data part of a run's recipe with the recorded places."""
    try:
        location = run.location().to_json() if run.dataset.is_file() else {}
        return DataRecipe.model_validate({
            **as_recorded(run.read_content(run.recipe)["data"]),
            **{name: location[name] for name in _LOCATION if name in location},
        })  # fmt: skip
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"a recipe of Opsin in {run.recipe}",
            "it lacks some of its parts, or has others",
            "Restore the file, or train again.",
        ) from error


def _replaced(
    run: RunDirectory, recipe: DataRecipe, given: list[str], *, others: bool
) -> dict[str, Any]:
    """Return the places that ``given`` means."""
    count = len(recipe.sources)
    if recipe.test and len(given) == count + 1:
        return {"sources": tuple(given[:-1]), "test": given[-1]}
    if others or len(given) == count:
        return {"sources": tuple(given)}
    wanted = f"{count} place{'s' * (count > 1)}, as {run.path} has sources"
    raise RecipeError(
        wanted + (", and one more for its test images" if recipe.test else ""),
        f"got {len(given)}",
        f"They were, in this order: {', '.join(_places(recipe))}.",
    )


def _places(recipe: DataRecipe) -> list[str]:
    return [*recipe.sources, *([recipe.test] if recipe.test else [])]


def _gone(recipe: DataRecipe) -> list[str]:
    """Return the places of a recipe where nothing is any more."""
    return [
        place
        for place in _places(recipe)
        if place not in NAMES and not os.path.exists(os.path.expanduser(place))  # noqa: PTH110, PTH111
    ]
