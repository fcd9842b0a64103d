"""A folder for the Hugging Face hub: the classifier, its card, and what running it takes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opsin.commands.export.client_files import SUMS, checksums, classes_json, client, sums_in
from opsin.commands.export.for_others import for_others
from opsin.commands.runs import Run
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RecipeError, RunError
from opsin.core.events import Watcher
from opsin.core.format import file_size
from opsin.core.storage import storage_errors, write_bytes
from opsin.core.stored_json import JsonObject
from opsin.hub.hub_cache import CLASSIFIER
from opsin.hub.hub_name import PREFIX, HubName
from opsin.report.card import UNSTATED, Publication, model_card
from opsin.runtime.classifier import Classifier

CARD: Final = "README.md"
# Identifiers of licences: https://huggingface.co/docs/hub/repositories-licenses
_LICENCE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")


@dataclass(frozen=True)
class HubExport:
    """A folder for the hub, and what became of it there.

    Args:
        path: The folder.
        repository: ``owner/name``.
        files: Bytes of each file, by its name; nothing else is uploaded.
        licence: As the card states it; ``unknown`` where it states none.
        kept: Files that were changed by hand, and are as they were.
        address: Page of the repository; ``None`` while nothing was uploaded.
        commit: The commit that holds the files.
        private: Whether only the repository's owners see it.
    """

    path: Path
    repository: str
    files: Mapping[str, int]
    licence: str
    kept: tuple[str, ...] = ()
    address: str | None = None
    commit: str | None = None
    private: bool | None = None

    @property
    def is_licensed(self) -> bool:
        """Whether the card states a licence of the classifier."""
        return self.licence != UNSTATED

    @property
    def verdict(self) -> str:
        """What was done, in a few sentences."""
        many = f"{len(self.files)} files, {file_size(sum(self.files.values()))}"
        if self.commit is None:
            return (
                f"{many}; nothing was uploaded. Read {CARD}, which you may change; then add "
                f"--upload."
            )
        who = "private: only its owners see it" if self.private else "public"
        return f"{many} are at {self.address} ({who}), commit {self.commit[:12]}."

    def to_json(self) -> JsonObject:
        """Return it as plain data."""
        return {
            "path": str(self.path),
            "to": f"{PREFIX}{self.repository}",
            "files": dict(self.files),
            "licence": self.licence,
            "kept": list(self.kept),
            "address": self.address,
            "commit": self.commit,
            "private": self.private,
            "verdict": self.verdict,
        }


def write_hub_folder(
    classifier: Classifier,
    name: HubName,
    folder: Path,
    *,
    licence: str | None,
    watcher: Watcher,
) -> tuple[HubExport, dict[str, bytes]]:
    """Write the folder."""
    stated = _checked_licence(licence)
    run = _run_of(classifier)
    content = for_others(classifier)
    publication = Publication(name.repository, stated, classifier.metadata.backbone)
    card = model_card(
        run.report,
        run.recipe.training.seed,
        name=name.repository,
        source=run.recipe.data.source_names,
        publication=publication,
    )
    files = {
        CLASSIFIER: content,
        CARD: card.encode("utf-8", "backslashreplace"),
        "classes.json": classes_json(classifier.metadata),
        "predict.py": client("predict.py"),
    }
    changed = _changed_card(folder, content)
    summed = files
    if changed is not None:
        files = files | {CARD: changed}
        # So that it is known for changed the next time, too.
        summed = {each: value for each, value in files.items() if each != CARD}
        watcher.note(f"{folder / CARD} was changed by hand, and is kept; remove it for a new one")
    files = files | {SUMS: checksums(summed)}
    for each, value in files.items():
        if each != CARD or changed is None:
            write_bytes(folder / each, value)
    sizes = {each: len(value) for each, value in files.items()}
    kept = () if changed is None else (CARD,)
    return HubExport(folder, name.repository, sizes, stated, kept), files


def _checked_licence(licence: str | None) -> str:
    if licence is None:
        return UNSTATED
    if not _LICENCE.fullmatch(licence):
        raise RecipeError(
            "a licence as the hub calls it, such as apache-2.0, mit or cc-by-4.0",
            f"got {licence!r}",
            "The hub's documentation lists them under Licenses.",
        )
    return licence


def _run_of(classifier: Classifier) -> Run:
    """Return the run whose figures are those of the file."""
    directory = RunDirectory(classifier.path.parent)
    own = directory.classifier == classifier.path and directory.recipe.is_file()
    if classifier.published is not None or not own or not directory.report.is_file():
        raise RunError(
            "a finished run, whose figures stand in the card",
            f"{classifier.title} is none, or has no figures",
            "Give the run directory.",
        )
    return Run(directory.path)


def _changed_card(folder: Path, content: bytes) -> bytes | None:
    """Return the card that somebody changed in an earlier folder; ``None`` where there is none."""
    if not os.path.lexists(folder):
        return None
    with storage_errors(folder):
        if folder.is_symlink() or not folder.is_dir():
            raise _something_else(folder)
        if not any(folder.iterdir()):
            return None
    try:
        sums = sums_in((folder / SUMS).read_text("utf-8"))
        card = (folder / CARD).read_bytes() if (folder / CARD).exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise _something_else(folder) from error
    if not {CLASSIFIER, "classes.json", "predict.py"} <= set(sums):
        raise _something_else(folder)
    if card is None or hashlib.sha256(card).hexdigest() == sums.get(CARD):
        return None
    if sums[CLASSIFIER] != hashlib.sha256(content).hexdigest():
        raise RecipeError(
            f"a {CARD} of this very classifier",
            f"{folder / CARD} was changed by hand, and describes another",
            "Remove it for a new card, or name another folder: --out FOLDER.",
        )
    return card


def _something_else(folder: Path) -> RecipeError:
    return RecipeError(
        "an earlier export to the hub to write anew, or nothing",
        f"{folder} is something else",
        "Name another folder: --out FOLDER.",
    )
