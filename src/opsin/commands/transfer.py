"""Export of a dataset: a folder with its table."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import shlex
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, Field

from opsin.core import storage
from opsin.core.arguments import checked
from opsin.core.csv_cells import write_rows
from opsin.core.errors import ImageError, RecipeError, SourceError, StorageError
from opsin.core.events import SILENT, Watcher, watched
from opsin.core.files import NamesInUse, legal_name
from opsin.core.platform import sync
from opsin.data import sources
from opsin.data.dataset import Dataset
from opsin.data.formats import SUFFIXES, is_heif
from opsin.data.image_tree import natural
from opsin.data.images import PackedImage, content_of
from opsin.data.lazy_images import THREADS
from opsin.data.pixel_values import encode_png
from opsin.data.sources.contents import UnpreparedImages, take
from opsin.report.terminal import printable
from opsin.stores.bucket import StoredObject

# Names that promise another kind of file.
_OTHER_FILES: Final = (".parquet", ".csv", ".npz", ".zip", ".tar", ".gz")
# How files begin, and the endings of their names.
_BEGINNINGS: Final = {
    b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp",
    b"II*\0": ".tif", b"MM\0*": ".tif", b"P5": ".pgm", b"P6": ".ppm",
    b"\0\0\0\x0cjP": ".jp2",
}  # fmt: skip


class Exported(BaseModel, frozen=True):
    """The result of `export_data`.

    Args:
        path: The folder.
        images: Number of images in it.
        bytes: Its size, all files together.
        options: Options that read it as it was read here.
    """

    path: Path
    images: int
    bytes: int
    options: tuple[str, ...] = Field((), exclude=True)

    @property
    def command(self) -> str:
        """The command that trains on it."""
        return shlex.join(["opsin", "train", str(self.path), *self.options])


@checked
def export_data(
    dataset: Dataset, path: str | os.PathLike[str], *, watcher: Watcher = SILENT
) -> Exported:
    """Write a dataset, so that it can be moved to another machine or tool.

    A folder gets ``train|val|test/<class>/<name>`` and ``metadata.csv`` (``file_name``, ``label``,
    ``split``, ``sha256`` of the file and, where known, ``group``). Images that are files in the
    source are copied byte by byte; arrays become PNG files, prepared as they are. Names that some
    file system refuses are changed; the table keeps the true names of classes.

    Unreadable files are left out. Reading the export with the same options gives the same images,
    classes and parts of the split.

    Args:
        dataset: The images.
        path: A folder that is new or empty; whole, or not there.
        watcher: Receives the progress of the work.

    Raises:
        RecipeError: The path's name is that of another kind of file.
        SourceError: The images' files are gone, or have changed; or a table cannot hold the name
            of a class.
        StorageError: Something is at ``path`` already, or the disk refuses a write.

    Example:
        >>> import tempfile
        >>> from opsin import load
        >>> digits = load("digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = export_data(digits, f"{folder}/digits")
        ...     load(written.path).fingerprint == digits.fingerprint
        True
    """
    target = check_target(path)
    for source in filter(None, (*dataset.located.sources, dataset.located.test)):
        if os.path.isdir(source) and target.is_relative_to(os.path.realpath(source)):  # noqa: PTH112
            raise StorageError(f"{target} lies in the source {source}", "Choose another place.")
    for name in dataset.classes:
        if not name.isprintable() or not name or name != name.strip():
            raise SourceError(f"No table holds the class name {name!r}", "Rename it.")
    if dataset.unreadable:
        watcher.note(f"{len(dataset.unreadable):,} unreadable files are left out")
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        with storage.storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        _write_folder(dataset, target, watcher)
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    shown = Path(os.path.expanduser(path))  # noqa: PTH111  never raises
    return Exported(path=shown, images=len(dataset), bytes=size, options=_options(dataset))


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return an export's target without links, or refuse one that cannot be written."""
    target = Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111
    if target.suffix.lower() in _OTHER_FILES:
        raise RecipeError(f"{path} must be the name of a folder", "Leave the ending out.")
    with storage.storage_errors(target):
        if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
            raise StorageError(f"{target} is there already", "Name a new or an empty folder.")
        if target.exists() and target.samefile(Path.cwd()):
            raise StorageError(f"{target} is the folder that you are in", "Name a folder in it.")
    storage.check_writable(target)
    return target


def _write_folder(dataset: Dataset, target: Path, watcher: Watcher) -> None:
    """Write ``part/class/name`` and a table; no two names are alike on any system."""
    images, classes = _images_of(dataset), NamesInUse()
    folders = [classes.take(legal_name(name)) for name in dataset.classes]
    used: dict[str, NamesInUse] = {}
    names, parts = [], dataset.split.part_names(len(dataset))
    for row, (part, label) in enumerate(zip(parts, dataset.labels, strict=True)):
        folder = f"{part}/{folders[label]}"
        name = _file_name(None if images is None else images[row], dataset.names[row])
        names.append(f"{folder}/{used.setdefault(folder, NamesInUse()).take(legal_name(name))}")

    def copy(row: int) -> str:
        try:
            image = None if images is None else images[row]
            if image is None or isinstance(image, np.ndarray):
                content = encode_png(dataset.images[row])
            else:
                content = content_of(image, dataset.names[row])
        except ImageError as error:
            raise SourceError(error.message, "Load it again.") from error
        with (scratch / names[row]).open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        return hashlib.sha256(content).hexdigest()

    with storage.scratch_directory(target.parent) as scratch:
        for folder in used:
            (scratch / folder).mkdir(parents=True, exist_ok=True)
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            copied = pool.map(copy, range(len(names)))
            digests = [*watched(watcher, "Export", len(names), copied)]
        labels = [dataset.classes[label] for label in dataset.labels]
        columns = {"file_name": names, "label": labels, "split": parts, "sha256": digests}
        if any(dataset.groups):
            columns["group"] = [printable(group) for group in dataset.groups]
        with (scratch / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
            write_rows(stream, [columns, *zip(*columns.values(), strict=True)])
        for path, _, _ in os.walk(scratch):
            sync(path)
        storage.publish_directory(scratch, target)
        if scratch.exists():
            raise StorageError(f"Another program has written into {target} meanwhile")


def _images_of(dataset: Dataset) -> UnpreparedImages | None:
    recipe = dataset.recipe
    contents = (dataset.held or sources.find_all(recipe)).open()
    contents = contents.keep(recipe.classes)
    bad = {name for name, _ in dataset.unreadable}
    kept = set(dataset.names)  # corrections leave some out
    rows = [
        row
        for row, name in enumerate(contents.names)
        if name not in bad and (name in kept or not dataset.corrected)
    ]
    if len(rows) < len(contents):
        contents = take(contents, np.array(rows, np.int64))
    # Corrected files have their old labels in the source.
    labels = dataset.labels if dataset.corrected else contents.labels
    if list(contents.names) != dataset.names or not np.array_equal(labels, dataset.labels):
        raise SourceError(f"{recipe.source} holds other images by now", "Load it again.")
    return None if isinstance(contents.images, np.ndarray) else contents.images


def _file_name(image: object, name: str) -> str:
    if isinstance(image, str | StoredObject):
        return image.address.name if isinstance(image, StoredObject) else Path(image).name
    base = name.rpartition("/")[2]
    image = content_of(image, name) if isinstance(image, PackedImage) else image
    if not isinstance(image, bytes):
        return f"{base}.png"
    if base.lower().endswith(SUFFIXES):
        return base
    ending = next((e for start, e in _BEGINNINGS.items() if image.startswith(start)), "")
    return base + (".heic" if is_heif(image) else ending)


def _options(dataset: Dataset) -> tuple[str, ...]:
    # What the export does not say.
    _, height, width, channels = dataset.images.shape
    options = ["--no-flip"] if not dataset.mirrored else []
    options += ["--size", f"{height}x{width}", "--channels", str(channels)]
    if dataset.recipe.resize != "fit":
        options += ["--resize", dataset.recipe.resize]
    if dataset.recipe.bits is not None:
        options += ["--bits", str(dataset.recipe.bits)]
    listed = list(dataset.classes)
    if listed != sorted(sorted(listed), key=natural) and not any("," in name for name in listed):
        options += ["--classes", ",".join(listed)]
    return tuple(options)
