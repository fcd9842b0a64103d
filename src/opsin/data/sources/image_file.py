"""One image in a file of its own."""

from __future__ import annotations

from pathlib import Path

from opsin.core.errors import SourceError
from opsin.core.regular_file import open_regular
from opsin.data.image_stream import stream_of_one
from opsin.data.image_tree import is_image_name
from opsin.data.sources.source_kind import SourceKind, SourceRequest
from opsin.data.sources.standard_input import begins_like_an_image


def _matches(request: SourceRequest) -> bool:
    path = request.path
    return request.is_file and (is_image_name(path.name) or _begins_like_an_image(path))


def _begins_like_an_image(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return begins_like_an_image(file.read(64))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError("a readable file", f"{path}: {reason}", "Check its rights.") from error


KIND = SourceKind(
    title="an image",
    rows=(),
    match=_matches,
    iter_unlabelled=lambda request: stream_of_one(request.written, request.path),
    rank=4,
)
