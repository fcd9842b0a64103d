"""Options from a recipe file, beside those of the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opsin.classical.classical_recipe import TRAIN_OPTIONS
from opsin.core.errors import RecipeError
from opsin.core.recipe import flat_options, override, refuse_unknown
from opsin.core.stored_json import JsonObject


def merge_options(file: Mapping[str, object], given: Mapping[str, object]) -> dict[str, Any]:
    """Let the options that were given win over those of a recipe file, as `override` says."""
    file = {key: value for key, value in file.items() if key != "sources"}
    refuse_unknown(file, ("model", "budget", *TRAIN_OPTIONS))
    return override(file, given)


def read_options(path: Path) -> JsonObject:
    """Read options from a recipe file: TOML, or JSON such as a run's ``recipe.json``."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RecipeError(
            "a recipe in TOML or JSON", f"{path} cannot be read ({error})", "Check the file."
        ) from error
    return flat_options(content)
