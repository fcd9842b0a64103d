"""One image in a file of its own."""

from __future__ import annotations

from opsin.data.image_stream import stream_of_one
from opsin.data.image_tree import is_image_name
from opsin.data.sources.source_kind import SourceKind, SourceRequest
from opsin.data.sources.standard_input import is_image_file


def _matches(request: SourceRequest) -> bool:
    named = is_image_name(request.path.name)
    return request.is_file and (named or is_image_file(request.path))


KIND = SourceKind(
    title="an image",
    rows=(),
    match=_matches,
    iter_unlabelled=lambda request: stream_of_one(request.written, request.path),
    rank=4,
)
