"""Parts and findings as row numbers, for programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opsin.core.errors import RecipeError
from opsin.core.storage import atomic_file

if TYPE_CHECKING:
    from opsin.data.audit import Audit
    from opsin.data.dataset import Dataset


def check_rows_file(file: str | os.PathLike[str]) -> None:
    """Refuse a name that NumPy would change."""
    if Path(file).suffix.lower() != ".npz":
        raise RecipeError("a file name that ends in .npz", f"got {file}", "Give another name.")


def write_rows(dataset: Dataset, findings: Audit | None, file: str | os.PathLike[str]) -> Path:
    """Write which rows of a collection are in which part, and which were found suspicious."""
    check_rows_file(file)
    split = dataset.split
    arrays = {part: split.rows(part) for part in ("train", "val", "test")}
    if findings is not None:
        for finding in findings.findings:
            arrays[f"finding_{finding.kind}"] = finding.rows
    target = Path(file)
    with atomic_file(target) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    return target
