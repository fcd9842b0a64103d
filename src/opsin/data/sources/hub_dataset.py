"""Data sets of the Hugging Face hub, fetched by its own library when they are named."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import DownloadError, MissingExtraError, SourceError
from opsin.core.events import SILENT
from opsin.data.sources.arrow_tables import ArrowTables
from opsin.data.sources.named import HUB
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow

_ADDRESS: Final = re.compile(
    rf"{HUB}(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[^@:]+))?"
)


def tables_of(request: SourceRequest) -> ArrowTables:
    """Fetch a data set, or find it in the library's cache, and return its tables.

    Raises:
        SourceError: The address is none, or there is no such data set.
        DownloadError: The hub cannot be reached, or sends something else.
        MissingExtraError: ``datasets`` is not installed.
    """
    address = _ADDRESS.fullmatch(request.written)
    if address is None:
        raise SourceError(
            f"{HUB}owner/name, and where needed @revision and :configuration",
            f"got {request.written!r}",
            f"For example {HUB}ylecun/mnist.",
        )
    parts = _fetched(request, **address.groupdict())
    listed = [(each["filename"], split) for split, part in parts.items()
              for each in part.cache_files]  # fmt: skip
    # What it fetched lies here; a stranger's table may name images nowhere else.
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    return ArrowTables(
        request.written,
        [Path(file) for file, _ in listed],
        [split for _, split in listed],
        request,
        request.allowed(home),
    )


def _fetched(
    request: SourceRequest, name: str, revision: str | None, config: str | None
) -> dict[str, Any]:
    # The library reads its variables when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    try:
        import datasets  # noqa: PLC0415  an extra, and seconds
    except ImportError as error:
        raise MissingExtraError("data sets of the hub", "datasets") from error
    request.watcher.fact("Source", f"{name} on the hub, kept in its cache")
    with _explained(datasets, request.written), _bars(datasets, quiet=request.watcher is SILENT):
        parts: dict[str, Any] = datasets.load_dataset(name, config, revision=revision)
        return parts


@contextlib.contextmanager
def _explained(library: Any, written: str) -> Iterator[None]:
    """Turn what the library raises into one line."""
    try:
        yield
    except (
        library.exceptions.DatasetNotFoundError,
        library.exceptions.DataFilesNotFoundError,
    ) as error:
        raise SourceError(
            "a data set on the hub that may be read",
            f"{written}: {_first_line(error)}",
            "Check its name; one that is not public needs a token: HF_TOKEN.",
        ) from error
    except ValueError as error:  # such as a configuration that has to be named
        raise SourceError(
            "a data set that can be read", f"{written}: {_first_line(error)}",
            f"A configuration is named behind it: {written}:NAME.",
        ) from error  # fmt: skip
    except Exception as error:
        raise DownloadError(
            f"to fetch {written}",
            _first_line(error),
            "Try again; what was fetched stays, and is not fetched again.",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextlib.contextmanager
def _bars(library: Any, *, quiet: bool) -> Iterator[None]:
    """Let the library show its progress where somebody looks, and only there."""
    shown = sys.stderr.isatty() and not quiet
    was = library.utils.logging.is_progress_bar_enabled()
    if not shown:
        library.disable_progress_bars()
    try:
        yield
    finally:
        if was:
            library.enable_progress_bars()


KIND = SourceKind(
    title=f"a data set of the hub ({HUB}owner/name)",
    rows=(
        SourceRow(
            "the Hugging Face hub",
            f"`{HUB}owner/name`, `{HUB}owner/name:configuration`, `{HUB}owner/name@revision`; "
            "fetched when it is named, into the hub's cache",
            "as given",
        ),
    ),
    match=lambda request: request.written.startswith(HUB),
    open=lambda request: tables_of(request).located(),
    iter_unlabelled=lambda request: tables_of(request).stream(),
    rank=-1,
)
