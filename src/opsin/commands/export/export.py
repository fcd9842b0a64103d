"""The verb `export_model`: a classifier in another form."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast, get_args

from opsin.commands.export.bundle import HubExport, export_to_hub, write_bundle
from opsin.commands.export.smaller import Shipped, To, write_smaller
from opsin.core.arguments import checked
from opsin.core.errors import OpsinError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import check_writable
from opsin.hub.hub_name import HubName
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import CPU

_ENDINGS: Final[dict[To, str]] = {"int8": "-int8.onnx", "fp16": "-fp16.onnx", "bundle": ".zip"}
_PRECISIONS: Final = {"int8": "int8", "fp16": "float16"}


@checked
def export_model(
    model: str | os.PathLike[str],
    to: str,
    *,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    data: Sequence[str | os.PathLike[str]] = (),
    licence: str | None = None,
    watcher: Watcher = SILENT,
) -> Shipped | HubExport:
    """Write a classifier in another form.

    ``int8`` computes in integers and ``fp16`` stores weights in half the space
    (`opsin.onnx_files.quantize`); both are compared with the original on the test images, which
    counts as a look at them. ``bundle`` is one zip with the file, sample images and clients that
    need no Opsin. ``hf:owner/name`` is a folder for the Hugging Face hub: the file, a model card
    with the run's figures, and a client, which ``hf upload`` sends.

    Args:
        model: A run directory, a ``classifier.onnx``, or one on the hub; for the hub, a run.
        to: The form: ``int8``, ``fp16``, ``bundle`` or ``hf:owner/name``.
        out: The file to write (default: beside the classifier, such as ``classifier-int8.onnx``;
            of a classifier on the hub, in the current folder), or the folder for the hub
            (default: beside the classifier, such as ``hub-owner-name``).
            An earlier export of the same form is replaced; nothing else ever is.
        force: Write it even if its accuracy falls by more than 0.3 points.
        data: Images with labels (default: those of its run).
        licence: For the hub: under which licence you publish it, such as ``apache-2.0``
            (default: none is stated).
        watcher: Receives the progress of the work.

    Returns:
        A `HubExport` for the hub, else a `Shipped`.

    Raises:
        ModelFileError: It cannot be made smaller, such as a forest.
        ParityError: The export's answers differ from its original's.
        RecipeError: ``out`` is not an earlier export, or options contradict each other.
        RunError: For the hub: it is not the classifier of a finished run.
        SourceError: The images cannot be found.
        StorageError: ``out`` cannot be written, which is checked first.

    Example:
        >>> import tempfile, opsin
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> shipped = export_model(run, "fp16")
        >>> shipped.path.name, shipped.bytes < shipped.bytes_before
        ('classifier-fp16.onnx', True)
        >>> export_model(run, "hf:someone/digits", licence="mit").path.name
        'hub-someone-digits'
    """
    name = HubName.prefixed(to)
    if name is not None:
        if force or data:
            raise RecipeError("The hub gets the run's very file: no force and no data is possible")
        classifier = Classifier(model, device=CPU, watcher=watcher)
        return export_to_hub(classifier, name, out, licence=licence)
    if to not in get_args(To):
        raise RecipeError(f"A form is int8, fp16, bundle or hf:owner/name, not {to!r}")
    if licence is not None:
        raise RecipeError("--licence is for the hub: --to hf:owner/name")
    form = cast(To, to)
    classifier = Classifier(model, device=CPU, watcher=watcher)
    target = _target(classifier, form, out)
    check_writable(target)  # before the work
    if form == "bundle":
        return write_bundle(classifier, target, data=data, watcher=watcher)
    return write_smaller(classifier, form, target, force=force, data=data, watcher=watcher)


def _target(classifier: Classifier, to: To, out: str | os.PathLike[str] | None) -> Path:
    """Return the file to write; only an earlier export of this form is replaced."""
    path = classifier.path
    if classifier.published is not None:  # the hub's cache is no place for it
        path = Path(f"{classifier.published.repository.partition('/')[2]}.onnx")
    target = path.with_name(f"{path.stem}{_ENDINGS[to]}") if out is None else Path(out)
    if os.path.lexists(target) and not _is_earlier(target, to):
        raise RecipeError(f"{target} is no earlier export to {to}", "Name another: --out FILE.")
    return target


def _is_earlier(target: Path, to: To) -> bool:
    if not target.is_file() or target.is_symlink():
        return False
    try:
        if to != "bundle":
            return Classifier(target, device=CPU).metadata.precision == _PRECISIONS[to]
        with zipfile.ZipFile(target) as bundle:
            return {"classifier.onnx", "expected.json", "SHA256SUMS"} <= set(bundle.namelist())
    except (zipfile.BadZipFile, OSError, OpsinError):
        return False
