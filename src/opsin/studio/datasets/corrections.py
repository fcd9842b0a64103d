"""The corrected labels of a dataset, in the table that training reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.files import FileStamp, file_stamp
from opsin.data.cache import digest_names
from opsin.data.corrections import (
    LEFT_OUT,
    Correction,
    as_written,
    correct,
    read_corrections,
    write_corrections,
)
from opsin.studio.datasets.decoded_dataset import DecodedDataset

#: The label of photographs that are left out.
OUT: Final = -1

#: An image's digest, name, and labels in the table before and after; ``None`` is the source's.
#: By content and name, since rows change when a dataset grows.
LabelChange = tuple[str, str, str | None, str | None]


def read_lines(path: Path) -> dict[tuple[str, str], str]:
    """The labels of a table by digest and name; none if there is no table."""
    rows = read_corrections(path) if path.is_file() else ()
    return {(row.digest, row.name): row.label for row in rows}


def _write_changed(
    path: Path, lines: Mapping[tuple[str, str], str], changes: Collection[LabelChange]
) -> None:
    after = dict(lines) | {(digest, name): label for digest, name, _, label in changes}
    rows = (Correction(*key, label) for key, label in after.items() if label is not None)
    write_corrections(path, rows)


def take_back(path: Path, changes: Collection[LabelChange]) -> None:
    """Undo changes of a table; what was changed again since, by hand, stays."""
    lines = read_lines(path)
    back = [
        (digest, name, after, before)
        for digest, name, before, after in changes
        if lines.get((digest, name)) == after
    ]
    if back:
        _write_changed(path, lines, back)


class Corrections:
    """The labels of decoded images as their table says; it may be changed by hand."""

    def __init__(self, path: Path, opened: DecodedDataset) -> None:
        self._path, self.opened = path, opened
        self._read: tuple[FileStamp, NDArray[np.int64], dict[tuple[str, str], str]] | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """Each image's class now, `OUT` if it is left out: ``int64[N]``."""
        return self._now()[0]

    def changes(self, rows: Collection[int], class_: str | None) -> list[LabelChange]:
        """What relabels images, leaves them out (``""``), or takes corrections back (``None``)."""
        own, labels = self.opened.decoded.labels, self.labels
        wanted = labels.copy()
        chosen = np.array(list(rows), np.int64)
        if class_ is None:
            wanted[chosen] = own[chosen]
        else:
            wanted[chosen] = self.opened.classes.index(class_) if class_ else OUT
        if (wanted == OUT).all():
            raise SourceError("All photographs would be left out", "Keep some.")
        before, after = self._lines(labels, chosen), self._lines(wanted, chosen)
        return [
            (*key, before.get(key), after.get(key))
            for key in dict.fromkeys(map(self._key, chosen.tolist()))
            if before.get(key) != after.get(key)
        ]

    def without_gone(self) -> list[LabelChange]:
        """What drops the lines about images that are not there any more: training refuses them."""
        return [(*key, label, None) for key, label in self._now()[1].items()]

    def write(self, changes: Collection[LabelChange]) -> None:
        """Make changes; each image has one line afterwards, by its digest and name."""
        labels, gone = self._now()
        corrected = np.flatnonzero(labels != self.opened.decoded.labels)
        _write_changed(self._path, self._lines(labels, corrected) | gone, changes)

    def _key(self, row: int) -> tuple[str, str]:
        return self.opened.digest(row), as_written(self.opened.name(row))

    def _lines(
        self, labels: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> dict[tuple[str, str], str]:
        # If a class is named like the mark, an empty cell leaves images out instead.
        classes, own = self.opened.classes, self.opened.decoded.labels
        names = [*classes, "" if LEFT_OUT in classes else LEFT_OUT]  # `OUT` is the last
        return {self._key(row): names[labels[row]] for row in rows.tolist()
                if labels[row] != own[row]}  # fmt: skip

    def _now(self) -> tuple[NDArray[np.int64], dict[tuple[str, str], str]]:
        """The labels, and the lines of images that are not there, as training reads them."""
        stamp = file_stamp(self._path)
        if self._read is None or self._read[0] != stamp:
            whole, lines = self.opened.decoded, read_lines(self._path)
            labels, gone = whole.labels.copy(), dict[tuple[str, str], str]()
            if lines:
                corrected = correct(whole, self._path, missing_ok=True)
                labels[:] = OUT
                labels[corrected.rows] = corrected.labels
                digests = set(digest_names(whole.digests))
                names = set(map(as_written, (*whole.names, *dict(whole.unreadable))))
                known = any(digest in digests for digest, _ in lines)
                gone = {
                    (digest, name): label
                    for (digest, name), label in lines.items()
                    if digest not in digests and (name not in names or (digest and known))
                }
            self._read = stamp, labels, gone
        return self._read[1:]
