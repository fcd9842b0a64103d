"""A folder for the Hugging Face hub: the classifier, its card, and a client."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from opsin.commands.export.bundle import SUMS, checksums, classes_json, client, for_others, run_of
from opsin.commands.runs import Run
from opsin.core.errors import RecipeError, RunError
from opsin.core.events import Watcher
from opsin.core.format import file_size
from opsin.core.storage import storage_errors, write_bytes
from opsin.core.stored_json import JsonObject
from opsin.hub.hub_name import CLASSIFIER, PREFIX, HubName
from opsin.report.card import UNSTATED, Publication, model_card
from opsin.runtime.classifier import Classifier

CARD: Final = "README.md"


class HubExport(BaseModel, frozen=True):
    """A folder for the hub, and its upload.

    Args:
        path: The folder.
        repository: ``owner/name``.
        files: Bytes of each file, by its name; nothing else is uploaded.
        licence: As the card states it, or ``unknown``.
        kept: Files that were changed by hand, and kept.
        address: Page of the repository, or ``None`` before an upload.
        commit: The commit that holds the files.
        private: Whether the repository is private.
    """

    path: Path
    repository: str
    files: dict[str, int]
    licence: str
    kept: tuple[str, ...] = ()
    address: str | None = None
    commit: str | None = None
    private: bool | None = None

    @property
    def verdict(self) -> str:
        """The result in a few sentences."""
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
        fields = self.model_dump(mode="json", exclude={"repository"})
        return fields | {"to": f"{PREFIX}{self.repository}", "verdict": self.verdict}


def export_to_hub(
    classifier: Classifier,
    name: HubName,
    out: str | os.PathLike[str] | None,
    *,
    licence: str | None,
    upload: bool,
    public: bool,
    watcher: Watcher,
) -> HubExport:
    """Write the folder for the hub, and upload it if requested."""
    if public and not upload:
        raise RecipeError("Nothing is uploaded, so nothing can be public", "Give --upload as well.")
    if name.revision != "main":
        raise RecipeError(
            f"A revision, {name.revision}, cannot be written to",
            f"Leave it out: hf:{name.repository}",
        )
    folder = classifier.path.with_name(f"hub-{name.repository.replace('/', '-')}")
    folder = folder if out is None else Path(out)
    stated = UNSTATED if licence is None else licence
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,49}", licence):
        raise RecipeError(
            f"{licence!r} is no licence as the hub writes it: apache-2.0, mit, cc-by-4.0"
        )
    files = _files(classifier, name, stated)
    changed = _changed_card(folder, files[CLASSIFIER])
    # Without a checksum, a changed card is recognised next time, too.
    written = {file: value for file, value in files.items() if file != CARD or changed is None}
    if changed is not None:
        files[CARD] = changed
        watcher.note(f"{folder / CARD} was changed by hand, and is kept; remove it for a new one")
    files[SUMS] = written[SUMS] = checksums(written)
    for file, value in written.items():
        write_bytes(folder / file, value)
    export = HubExport(
        path=folder,
        repository=name.repository,
        files={file: len(value) for file, value in files.items()},
        licence=stated,
        kept=() if changed is None else (CARD,),
    )
    if not upload:
        return export
    from opsin.hub.hub_upload import upload as send  # noqa: PLC0415  few exports are sent

    sent = send(name.repository, files, public=public, watcher=watcher)
    update = {"address": sent.address, "commit": sent.commit, "private": sent.private}
    return export.model_copy(update=update)


def _files(classifier: Classifier, name: HubName, licence: str) -> dict[str, bytes]:
    directory = run_of(classifier)
    if classifier.published is not None or directory is None or not directory.report.is_file():
        raise RunError(
            f"{classifier.title} is no finished run, whose figures stand in the card",
            "Give the run directory.",
        )
    run = Run(directory.path)
    card = model_card(
        run.report,
        run.recipe.training.seed,
        name=name.repository,
        source=run.recipe.data.source_names,
        publication=Publication(name.repository, licence, classifier.metadata.backbone),
    )
    return {
        CLASSIFIER: for_others(classifier),
        CARD: card.encode("utf-8", "backslashreplace"),
        "classes.json": classes_json(classifier.metadata),
        "predict.py": client("predict.py"),
    }


def _changed_card(folder: Path, content: bytes) -> bytes | None:
    """Return the card of an earlier folder if it was changed by hand."""
    if not os.path.lexists(folder):
        return None
    refused = RecipeError(
        f"{folder} is something else than an earlier export to the hub",
        "Name another folder: --out FOLDER.",
    )
    with storage_errors(folder):
        if folder.is_symlink() or not folder.is_dir():
            raise refused
        if not any(folder.iterdir()):
            return None
    try:
        lines = (folder / SUMS).read_text("utf-8").splitlines()
        card = (folder / CARD).read_bytes() if (folder / CARD).exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise refused from error
    sums = {line[66:]: line[:64] for line in lines if line[64:66] == "  "}
    if not {CLASSIFIER, "classes.json", "predict.py"} <= set(sums):
        raise refused
    if card is None or hashlib.sha256(card).hexdigest() == sums.get(CARD):
        return None
    if sums[CLASSIFIER] != hashlib.sha256(content).hexdigest():
        raise RecipeError(
            f"{folder / CARD} was changed by hand, and describes another classifier",
            "Remove it for a new card, or name another folder: --out FOLDER.",
        )
    return card
