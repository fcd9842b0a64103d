"""The verb `export_model`: a classifier in another form."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

from opsin.commands.export.shipped import Shipped, To
from opsin.core.arguments import checked
from opsin.core.errors import OpsinError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import check_writable
from opsin.runtime.classifier import Classifier

_ENDINGS: Final[dict[To, str]] = {"int8": "-int8.onnx", "fp16": "-fp16.onnx", "bundle": ".zip"}
_PRECISIONS: Final = {"int8": "int8", "fp16": "float16"}


@checked
def export_model(
    model: str | os.PathLike[str],
    to: To,
    *,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    data: Sequence[str | os.PathLike[str]] = (),
    watcher: Watcher = SILENT,
) -> Shipped:
    """Write a classifier in another form.

    ``int8`` computes in integers and ``fp16`` keeps its weights in half the space
    (`opsin.onnx_files.quantize`); both answer to the test images beside the original, which
    counts as a look at them. ``bundle`` is one zip with the file, sample images and clients that
    need no Opsin.

    Args:
        model: A run directory or a ``classifier.onnx``.
        to: The form.
        out: The file to write (default: beside the classifier, such as ``classifier-int8.onnx``).
            An earlier export of the same form is replaced; nothing else ever is.
        force: Write it even where its accuracy falls by more than 0.3 points.
        data: Images with labels (default: those of the run that the file lies in).
        watcher: Receives the progress of the work.

    Raises:
        ModelFileError: There is nothing to make smaller in it, as in a forest.
        ParityError: The export answers otherwise than its original.
        RecipeError: ``out`` is something else than an earlier export.
        SourceError: The images cannot be found.
        StorageError: ``out`` cannot be written, which is said at once.

    Example:
        >>> import tempfile, opsin
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> shipped = export_model(run, "fp16")
        >>> shipped.path.name, shipped.bytes < shipped.bytes_before
        ('classifier-fp16.onnx', True)
    """
    if to not in get_args(To):
        raise RecipeError("int8, fp16 or bundle", f"got {to!r}", "For example --to int8.")
    classifier = Classifier(model)
    target = _target(classifier, to, out)
    check_writable(target)  # at once, not when all is measured
    if to == "bundle":
        from opsin.commands.export.bundle import write_bundle  # noqa: PLC0415

        return write_bundle(classifier, target, data=data, watcher=watcher)
    from opsin.commands.export.smaller import write_smaller  # noqa: PLC0415  it needs onnx

    return write_smaller(classifier, to, target, force=force, data=data, watcher=watcher)


def _target(classifier: Classifier, to: To, out: str | os.PathLike[str] | None) -> Path:
    """Choose where to write, and refuse what is no earlier export of this form.

    Raises:
        RecipeError: Something else is there.
    """
    path = classifier.path
    target = path.with_name(f"{path.stem}{_ENDINGS[to]}") if out is None else Path(out)
    if os.path.lexists(target) and not _is_earlier(target, to):
        raise RecipeError(
            f"an earlier export to {to} to replace, or nothing",
            f"{target} is something else",
            "Name another file: --out FILE.",
        )
    return target


def _is_earlier(target: Path, to: To) -> bool:
    if not target.is_file() or target.is_symlink():
        return False
    if to == "bundle":
        try:
            with zipfile.ZipFile(target) as bundle:
                return {"classifier.onnx", "expected.json", "SHA256SUMS"} <= set(bundle.namelist())
        except (zipfile.BadZipFile, OSError):
            return False
    try:
        precision = Classifier(target).metadata.precision
    except OpsinError:
        return False
    return precision == _PRECISIONS[to]
