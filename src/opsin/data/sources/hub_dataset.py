"""Data sets of the Hugging Face hub, fetched by its own library when they are named."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import DownloadError, MissingExtraError, ModelFileError, SourceError
from opsin.core.events import SILENT
from opsin.data.sources.arrow_tables import ArrowTables
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow
from opsin.hub.hub_connection import HubConnection, connect, hub_errors, is_offline, quiet
from opsin.hub.hub_name import PREFIX, HubName

_ADDRESS: Final = re.compile(rf"(?P<name>{PREFIX}[^:]+)(?::(?P<config>[^:]+))?")


def tables_of(request: SourceRequest) -> ArrowTables:
    """Fetch a data set, or find it in the library's cache, and return its tables."""
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
            needs_name = isinstance(error, ValueError)  # such as of one of several configurations
            raise SourceError(
                "a data set of images on the hub",
                f"{request.written}: {_first_line(error)}",
                f"A configuration is named behind it: {PREFIX}{name.repository}:NAME."
                if needs_name
                else "Check its page; what is no table of images is downloaded by hand.",
            ) from error
    listed = [(Path(file["filename"]), split) for split, part in parts.items()
              for file in part.cache_files]  # fmt: skip
    # What it fetched lies here; a stranger's table may name images nowhere else.
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    return ArrowTables(
        [file for file, _ in listed], [split for _, split in listed], request, request.allowed(home)
    )


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


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")


@contextlib.contextmanager
def _manners(library: Any, hub: HubConnection, *, bars: bool, ask: bool) -> Iterator[None]:
    """Let the library show its progress or not, and not ask a hub again that does not answer."""
    level = library.utils.logging.get_verbosity()
    had_bars = library.utils.logging.is_progress_bar_enabled()
    settings = ((library.config, "HF_HUB_OFFLINE"), (hub.library.constants, "HF_HUB_OFFLINE"))
    before = [getattr(where, name) for where, name in settings]
    library.utils.logging.set_verbosity_error()
    (library.enable_progress_bars if bars else library.disable_progress_bars)()
    for where, name in settings:
        setattr(where, name, getattr(where, name) or not ask)
    try:
        yield
    finally:
        for (where, name), was in zip(settings, before, strict=True):
            setattr(where, name, was)
        (library.enable_progress_bars if had_bars else library.disable_progress_bars)()
        library.utils.logging.set_verbosity(level)


KIND = SourceKind(
    title=f"a data set of the hub ({PREFIX}owner/name)",
    rows=(
        SourceRow(
            "the Hugging Face hub",
            f"`{PREFIX}owner/name`, also with `@revision` and `:configuration` behind it; fetched "
            "when it is named, into the hub's cache",
            "as given",
        ),
    ),
    match=lambda request: request.written.startswith(PREFIX),
    locate=lambda request: tables_of(request).located(),
    iter_unlabelled=lambda request: tables_of(request).stream(),
    rank=-1,
)
