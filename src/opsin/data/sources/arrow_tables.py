"""Parquet and Arrow files: alone, in a folder, saved by Hugging Face's library, or from its hub."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opsin.core.child_process import Header
from opsin.core.errors import (
    DownloadError,
    MissingExtraError,
    ModelFileError,
    OpsinError,
    SourceError,
)
from opsin.core.events import SILENT
from opsin.core.files import open_regular
from opsin.core.sandbox import Sandbox
from opsin.core.stored_json import Json, read_json
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import holds_images
from opsin.data.sources.contents import LabelledImages, LocatedSource, Row, key_of_files
from opsin.data.sources.members import MAX_RATIO, SPARE_BYTES
from opsin.data.sources.packed import labelled_rows, open_packed
from opsin.data.sources.source_kind import AllowedFolder, SourceKind, SourceRequest
from opsin.data.sources.table import name_of
from opsin.hub.hub_connection import HubConnection, connect, hub_errors, is_offline, quiet
from opsin.hub.hub_name import PREFIX, HubName

# What reading a block may take, in seconds and bytes.
_SECONDS: Final = 60.0
_MEMORY: Final = 2 << 30
# Parts of a split in names of files, as Hugging Face's library knows them: train-00000-of-00002.
_PART: Final = re.compile(
    r"(?:^|[-._ /])(train(?:ing)?|test(?:ing)?|holdout|eval(?:uation)?|val(?:id(?:ation)?)?|dev)"
    r"(?=[-._ /0-9]|$)",
    re.IGNORECASE,
)
_WORDS: Final = {
    "training": "train", "testing": "test", "evaluation": "test", "eval": "test",
    "holdout": "test",
}  # fmt: skip
_ADDRESS: Final = re.compile(rf"(?P<name>{PREFIX}[^:]+)(?::(?P<config>[^:]+))?")


@dataclass(frozen=True)
class _Tables:
    """Files of one table in their order, the part of each, and what paths in them may not leave."""

    files: Sequence[Path]
    splits: Sequence[str]
    request: SourceRequest
    inside: AllowedFolder | None

    def located(self) -> LocatedSource:
        key = repr(("arrow", key_of_files(*self.files), self.splits, self.request.columns))
        return LocatedSource(key, lambda: open_packed(self.request.written, key) or self._read(key))

    def stream(self) -> Stream:
        def images() -> Iterator[ListedImage]:
            for number, row in enumerate(self._open(labelled=False)[1]):
                if isinstance(row.reference, bytes):
                    yield ListedImage(row.name or str(number), row.reference)
                else:
                    place = str(row.reference)
                    yield ListedImage(row.name, place)

        return Stream(self.request.written, "table", images)

    def _read(self, key: str) -> LabelledImages:
        about, rows = self._open()
        return labelled_rows(
            self.request.written,
            rows,
            key=key,
            classes=about["classes"] or (),
            total=about["total"],
            most=MAX_RATIO * sum(file.stat().st_size for file in self.files) + SPARE_BYTES,
            watcher=self.request.watcher,
        )

    def _open(self, *, labelled: bool = True) -> tuple[Header, Iterator[Row]]:
        """Have `arrow_reader` begin; return what it tells of the whole, and the rows."""
        need_pyarrow()
        sandbox = Sandbox("opsin.data.sources.arrow_reader:read", seconds=_SECONDS, memory=_MEMORY)

        def ask(header: Header) -> tuple[Header, bytes]:
            try:
                return sandbox.call(header)
            except OpsinError as error:
                sandbox.close()
                raise SourceError(error.expected, error.received, error.advice) from error

        def rows() -> Iterator[Row]:
            with sandbox:
                line = 0
                while (block := ask({}))[0]["rows"]:
                    (header, body), start = block, 0
                    table, split = self.files[header["file"]], self.splits[header["file"]]
                    for about in header["rows"]:
                        line += 1
                        about["split"] = about["split"] or split
                        if "size" in about:
                            end = start + about.pop("size")
                            yield Row(body[start:end], **about)
                            start = end
                        else:
                            name = name_of(about["name"], table, line, self.inside)
                            yield Row(table.parent / name, **about)

        files = [os.path.abspath(file) for file in self.files]  # noqa: PTH100
        columns = dict(self.request.columns or {})
        about, _ = ask({"files": files, "columns": columns, "labelled": labelled})
        return about, rows()


def need_pyarrow() -> None:
    """Refuse to go on without pyarrow."""
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("reading Parquet and Arrow files", "parquet")


def part_in_name(name: str) -> str:
    """Return the part of a split that a file's name says, as ``train-00000-of-00002.parquet``."""
    found = _PART.findall(name)
    word = found[-1].lower() if found else ""
    return _WORDS.get(word, word)


def _tables_of(request: SourceRequest) -> _Tables | None:
    """Find what a source holds; ``None`` where it is of another kind."""
    root = request.path
    if request.is_file_of(".parquet"):
        return _Tables([root], [""], request, request.allowed(root.parent))
    if not request.is_folder:
        return None
    # What Hugging Face's `save_to_disk` wrote: one part, or several in folders.
    parts = None
    if (root / "dataset_dict.json").is_file():
        parts = _listed(root / "dataset_dict.json", "splits")
    elif (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
        parts = [""]
    if parts is not None:
        found = [
            (root / part / name, part)
            for part in parts
            for name in _listed(root / part / "state.json", "_data_files")
        ]
    elif request.holds_images:  # among images a table is of something else
        return None
    else:
        files = sorted(
            file for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet")
            for file in root.glob(pattern) if file.is_file() and not file.name.startswith(".")
        )  # fmt: skip
        names = [file.relative_to(root).as_posix().removesuffix(".parquet") for file in files]
        found = list(zip(files, map(part_in_name, names), strict=True))
    if not found and parts is None:
        return None
    inside = request.allowed(root, *[file for file, _ in found])
    return _Tables([file for file, _ in found], [part for _, part in found], request, inside)


def _listed(file: Path, key: str) -> list[str]:
    try:
        with open_regular(file) as stream:
            content: Json = read_json(stream)
        listed = content[key] if isinstance(content, dict) else None
        names = [one["filename"] if isinstance(one, dict) else one
                 for one in (listed if isinstance(listed, list) else [])]  # fmt: skip
        if not all(isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) for name in names):
            raise ValueError(f"its {key} are no names")
        return [str(name) for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            "a data set that was saved whole", f"{file} cannot be used ({error})", "Save it again."
        ) from error


def _opened(request: SourceRequest) -> _Tables:
    tables = _tables_of(request)
    if tables is None:
        raise SourceError("a table", f"{request.written} is gone", "Give it again.")
    return tables


def _from_hub(request: SourceRequest) -> _Tables:
    """Fetch a data set of the hub, or find it in its library's cache, and return its tables."""
    address = _ADDRESS.fullmatch(request.written)
    name = address and HubName.read(address["name"])
    if address is None or name is None:
        raise SourceError(
            f"{PREFIX}owner/name, and where needed @revision and :configuration",
            f"got {request.written!r}",
            f"For example {PREFIX}ylecun/mnist.",
        )
    # The library reads its variables when it is imported.
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    hub = connect("data sets of the hub")
    try:
        import datasets  # noqa: PLC0415  an extra, and seconds
    except ImportError as error:
        raise MissingExtraError("data sets of the hub", "datasets") from error
    where, reached = _pinned(hub, name, request)
    shown = sys.stderr.isatty() and request.watcher is not SILENT
    with quiet(hub), _manners(datasets, hub, bars=shown, ask=reached), hub_errors(hub, where):
        try:
            parts = datasets.load_dataset(
                where.repository, address["config"], revision=where.revision
            )
        except (ValueError, datasets.exceptions.DatasetsError) as error:
            first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            advice = "Check its page; what is no table of images is downloaded by hand."
            if isinstance(error, ValueError):  # such as of one of several configurations
                advice = f"A configuration is named behind it: {PREFIX}{name.repository}:NAME."
            raise SourceError(
                "a data set of images on the hub",
                f"{request.written}: {first_line[:300].rstrip('.')}",
                advice,
            ) from error
    listed = [(Path(file["filename"]), split) for split, part in parts.items()
              for file in part.cache_files]  # fmt: skip
    # What it fetched lies here; a stranger's table may name images nowhere else.
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    files, splits = [file for file, _ in listed], [split for _, split in listed]
    return _Tables(files, splits, request, request.allowed(home))


def _pinned(hub: HubConnection, name: HubName, request: SourceRequest) -> tuple[HubName, bool]:
    """Return the commit of a revision, or where the hub cannot be asked, the revision and that."""
    if is_offline():
        return name, False
    try:
        with quiet(hub), hub_errors(hub, name):
            info = hub.api.dataset_info(
                name.repository, revision=name.revision, timeout=hub.seconds
            )
    except ModelFileError as error:
        raise SourceError(error.expected, error.received, error.advice) from error
    except DownloadError as error:
        request.watcher.note(f"{error.received}: what is here of {name.repository} is used")
        return name, False
    if not name.is_pinned:
        request.watcher.note(f"{name.repository} is at commit {info.sha[:12]}")
    return HubName(name.repository, info.sha), True


@contextlib.contextmanager
def _manners(library: Any, hub: HubConnection, *, bars: bool, ask: bool) -> Iterator[None]:
    """Let the library show its progress or not, and not ask a hub again that does not answer."""
    logging, settings = library.utils.logging, (library.config, hub.library.constants)
    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    offline = [each.HF_HUB_OFFLINE for each in settings]
    logging.set_verbosity_error()
    (library.enable_progress_bars if bars else library.disable_progress_bars)()
    for each in settings:
        each.HF_HUB_OFFLINE = each.HF_HUB_OFFLINE or not ask
    try:
        yield
    finally:
        for each, was in zip(settings, offline, strict=True):
            each.HF_HUB_OFFLINE = was
        (library.enable_progress_bars if had_bars else library.disable_progress_bars)()
        logging.set_verbosity(level)


KINDS = (
    SourceKind(
        title="Parquet files",
        match=lambda request: _tables_of(request) is not None,
        match_packed=lambda request: (
            request.is_file_of(".parquet") and not holds_images(request.path.parent)
        ),
        files=("*.parquet",),
        locate=lambda request: _opened(request).located(),
        iter_unlabelled=lambda request: _opened(request).stream(),
    ),
    SourceKind(
        title=f"a data set of the hub ({PREFIX}owner/name)",
        match=lambda request: request.written.startswith(PREFIX),
        locate=lambda request: _from_hub(request).located(),
        iter_unlabelled=lambda request: _from_hub(request).stream(),
        rank=-1,
    ),
)
