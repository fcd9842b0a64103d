"""A collection written out for another machine or tool."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from opsin.commands.data_files import write_npz, write_parquet, write_parquet_parts
from opsin.commands.source_images import SourceImages, parts_of
from opsin.core.arguments import checked
from opsin.core.csv_cells import write_rows
from opsin.core.errors import RecipeError, SourceError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.file_names import NamesInUse, legal_name
from opsin.core.platform import sync
from opsin.core.storage import (
    check_writable,
    publish_directory,
    scratch_directory,
    storage_errors,
)
from opsin.core.stored_json import JsonObject
from opsin.data.dataset import Dataset
from opsin.data.image_tree import natural
from opsin.data.lazy_images import THREADS
from opsin.data.sources.parquet import need_pyarrow
from opsin.report.terminal import printable

#: What a collection can be written as.
Form = Literal["folder", "npz", "parquet", "datasets"]
# Those that are one file, and how its name ends.
_ENDINGS: Final[dict[Form, str]] = {"npz": ".npz", "parquet": ".parquet"}


@dataclass(frozen=True)
class Exported:
    """What `export_data` has written.

    Args:
        path: The folder or the file.
        images: Number of images in it.
        bytes: Its size, all files together.
        options: Options that read it as it was read here, whatever Opsin would choose by itself.
    """

    path: Path
    images: int
    bytes: int
    options: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that trains on it as it was here."""
        return shlex.join(["opsin", "train", str(self.path), *self.options])

    def to_json(self) -> JsonObject:
        """What ``--json`` prints."""
        return {"path": str(self.path), "images": self.images, "bytes": self.bytes}


@checked
def export_data(
    dataset: Dataset,
    path: str | os.PathLike[str],
    *,
    form: Form | None = None,
    watcher: Watcher = SILENT,
) -> Exported:
    """Write a collection, so that it can be moved to another machine or tool.

    A folder gets ``train|val|test/<class>/<name>`` and ``metadata.csv`` (``file_name``, ``label``,
    ``split``, ``sha256`` of the file and, where known, ``group``). Images that are files in the
    source are copied byte by byte; arrays become PNG files, prepared as they are. Names that some
    file system refuses are changed; the table keeps the true names of classes.

    A path that ends in ``.npz`` gets one file with the prepared pixels: ``images`` (``uint8[N, H,
    W, C]``), ``labels`` (``int64[N]``), ``classes``, and ``test_images`` and ``test_labels`` where
    there is a test part. It has no place for a validation part, which becomes training images.

    ``parquet`` is one file and ``datasets`` a folder of them, a file or more for each part, in the
    form of Hugging Face's library: ``datasets.load_dataset(folder)`` reads it, and so does
    `opsin.load`.

    Unreadable files are left out. Reading the export with the same options gives the same images
    and classes and the same fingerprint and, from a folder, the same parts of the split.

    Args:
        dataset: The images.
        path: A folder that is new or empty, or a new file. It gets its name when it is whole, so
            that nothing half done is left behind.
        form: ``folder``, ``npz``, ``parquet`` or ``datasets`` (default: by the ending of the
            path's name, a folder where it has none of these).
        watcher: Receives the progress of the work.

    Raises:
        RecipeError: The name of the path does not fit the form.
        MissingExtraError: A form needs pyarrow, which is not installed.
        SourceError: The images' files are gone, or have changed; or a table cannot hold the name
            of a class.
        StorageError: There is something at ``path`` already, or the disk refuses a write.

    Example:
        >>> import tempfile
        >>> from opsin import load
        >>> digits = load("digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = export_data(digits, f"{folder}/digits")
        ...     load(written.path).fingerprint == digits.fingerprint
        True
    """
    target = check_target(path, form)
    form = form or _form_of(target)
    for source in filter(None, (*dataset.located.sources, dataset.located.test)):
        if os.path.isdir(source) and target.is_relative_to(os.path.realpath(source)):  # noqa: PTH112
            raise StorageError(
                f"{target} lies in {source}, whose images the copies would become",
                "Choose another place.",
            )
    for name in dataset.classes if form == "folder" else ():
        if not name.isprintable() or not name or name != name.strip():
            raise SourceError(
                f"No table can hold the class name {name!r}",
                "Rename the class, or export an .npz file.",
            )
    if dataset.unreadable:
        watcher.note(f"{len(dataset.unreadable):,} unreadable files are left out")
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        write = {
            "folder": _write_folder, "npz": write_npz, "parquet": write_parquet,
            "datasets": write_parquet_parts,
        }[form]  # fmt: skip
        write(dataset, target, watcher)
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    files = [target] if target.is_file() else target.rglob("*")
    size = sum(file.stat().st_size for file in files if file.is_file())
    shown = Path(os.path.expanduser(path))  # noqa: PTH111  never raises
    return Exported(shown, len(dataset), size, _options(dataset, form))


def _form_of(path: Path) -> Form:
    ending = path.suffix.lower()
    return next((form for form, usual in _ENDINGS.items() if usual == ending), "folder")


def check_target(path: str | os.PathLike[str], form: Form | None = None) -> Path:
    """The place that an export means, without links; refuses at once what cannot work."""
    target = Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111
    form = form or _form_of(target)
    ending = _ENDINGS.get(form)
    if ending is not None and target.suffix.lower() != ending:
        raise RecipeError(f"{path} must end in {ending}")
    if form in ("parquet", "datasets"):
        need_pyarrow()
    with storage_errors(target):
        if os.path.lexists(target) and (ending or not target.is_dir() or any(target.iterdir())):
            what = "a new file" if ending else "a new or an empty folder"
            raise StorageError(f"{target} is there already", f"Name {what}.")
        if target.exists() and target.samefile(Path.cwd()):
            raise StorageError(f"{target} is the folder that you are in", "Name a folder in it.")
    check_writable(target)
    return target


def _write_folder(dataset: Dataset, target: Path, watcher: Watcher) -> None:
    """Write ``part/class/name`` and a table; no two names are alike on any system."""
    images, classes = SourceImages.of(dataset), NamesInUse()
    folders = [classes.take(legal_name(name)) for name in dataset.classes]
    used: dict[str, NamesInUse] = {}
    names = []
    for row, (part, label) in enumerate(zip(parts_of(dataset), dataset.labels, strict=True)):
        folder = f"{part}/{folders[label]}"
        name = used.setdefault(folder, NamesInUse()).take(legal_name(images.name(row)))
        names.append(f"{folder}/{name}")
    with scratch_directory(target.parent) as scratch:
        for folder in used:
            (scratch / folder).mkdir(parents=True, exist_ok=True)

        def copy(row: int) -> str:
            digest = hashlib.sha256()
            with (scratch / names[row]).open("xb") as stream:
                for block in images.blocks(row):
                    digest.update(block)
                    stream.write(block)
                stream.flush()
                os.fsync(stream.fileno())
            return digest.hexdigest()

        watcher.begin("Export", len(names), "images")
        digests = []
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            for digest in pool.map(copy, range(len(names))):
                digests.append(digest)
                watcher.advance(len(digests))
        watcher.end()
        labels = [dataset.classes[label] for label in dataset.labels]
        columns = {
            "file_name": names, "label": labels, "split": parts_of(dataset), "sha256": digests,
        }  # fmt: skip
        if any(dataset.groups):
            columns["group"] = [printable(group) for group in dataset.groups]
        with (scratch / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
            write_rows(stream, [columns, *zip(*columns.values(), strict=True)])
        for path, _, _ in os.walk(scratch):
            sync(path)
        publish_directory(scratch, target)
        if scratch.exists():
            raise StorageError(f"Another program has written into {target} meanwhile")


def _options(dataset: Dataset, form: Form) -> tuple[str, ...]:
    # What the export does not say.
    _, height, width, channels = dataset.images.shape
    options = ["--no-flip"] if not dataset.mirrored else []
    if form == "npz":
        return tuple(options)
    options += ["--size", f"{height}x{width}", "--channels", str(channels)]
    if dataset.recipe.resize != "fit":
        options += ["--resize", dataset.recipe.resize]
    if dataset.recipe.bits is not None:
        options += ["--bits", str(dataset.recipe.bits)]
    listed = list(dataset.classes)
    if listed != sorted(sorted(listed), key=natural) and not any("," in name for name in listed):
        options += ["--classes", ",".join(listed)]
    return tuple(options)
