"""Images sorted by label become a classifier you can look inside, trust and ship.

Example:
    >>> import opsin, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> run = opsin.train("digits", model="mlp", epochs=2, runs=folder, quiet=True)
    >>> run.classifier().classes[:3]
    ('0', '1', '2')
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from opsin._version import __version__

# ONNX Runtime reports its use to its maker unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from opsin.commands.backbones import (
        FeatureValue,
        KnownBackbone,
        ListedBackbone,
        describe_backbone,
        list_backbones,
    )
    from opsin.commands.bench import Benchmark, ImageRate, bench
    from opsin.commands.classes import ClassChange, change_classes, undo_classes
    from opsin.commands.compare import compare
    from opsin.commands.data import draw_data, write_audit
    from opsin.commands.decoding import decode
    from opsin.commands.docs import open_docs
    from opsin.commands.embed import Embedded, embed
    from opsin.commands.evaluate import evaluate
    from opsin.commands.export.bundle import HubExport
    from opsin.commands.export.export import export_model
    from opsin.commands.export.smaller import Shipped
    from opsin.commands.import_model import import_model
    from opsin.commands.inspect import Explained, explain, inspect
    from opsin.commands.inspect_model import Insight, Inspection
    from opsin.commands.label import Found, FoundImage, Labelled, find, label
    from opsin.commands.predict.out_file import Merged, merge
    from opsin.commands.predict.predict import Classified, classify
    from opsin.commands.predict.stream import draw_prediction, predict_each
    from opsin.commands.predict.undo import Undone, undo
    from opsin.commands.repeats import Repeats, train_folds, train_repeats
    from opsin.commands.report import write_report
    from opsin.commands.runs import Run, list_runs
    from opsin.commands.train.train import plan, resume, train
    from opsin.core.artifacts.records import Epoch
    from opsin.core.errors import (
        DownloadError,
        ImageError,
        InputError,
        MissingExtraError,
        ModelFileError,
        MovedError,
        OpsinError,
        ParityError,
        RecipeError,
        RunError,
        SandboxError,
        SourceError,
        StorageError,
    )
    from opsin.core.events import Watcher
    from opsin.core.recipe import Recipe
    from opsin.data.audit import Audit, Finding, audit
    from opsin.data.cache_contents import CacheContents, empty_cache, list_cache
    from opsin.data.dataset import Dataset, from_arrays, load, look_at
    from opsin.labelling.labelling import Labelling, Progress, Question
    from opsin.report.side_by_side import Comparison
    from opsin.runtime.classifier import Classifier
    from opsin.runtime.prediction import Prediction
    from opsin.server import serve
    from opsin.studio import open_studio

__all__ = [
    "Audit", "Benchmark", "CacheContents", "ClassChange", "Classified", "Classifier",
    "Comparison", "Dataset", "DownloadError", "Embedded", "Epoch", "Explained",
    "FeatureValue", "Finding", "Found", "FoundImage", "HubExport", "ImageError", "ImageRate",
    "InputError", "Insight", "Inspection", "KnownBackbone", "Labelled", "Labelling",
    "ListedBackbone", "Merged", "MissingExtraError", "ModelFileError", "MovedError",
    "OpsinError", "ParityError", "Prediction", "Progress", "Question", "Recipe", "RecipeError",
    "Repeats", "Run", "RunError", "SandboxError", "Shipped", "SourceError", "StorageError",
    "Undone", "Watcher", "__version__", "audit", "bench", "change_classes",
    "classify", "compare", "decode", "describe_backbone", "draw_data", "draw_prediction", "embed",
    "empty_cache", "evaluate", "explain", "export_model", "find", "from_arrays",
    "import_model", "inspect", "label", "list_backbones", "list_cache", "list_runs", "load",
    "look_at", "merge", "open_docs", "open_studio", "plan", "predict_each", "resume", "serve",
    "train", "train_folds", "train_repeats", "undo", "undo_classes", "write_audit", "write_report",
]  # fmt: skip

# What each module defines; all other names are errors. It is imported when one of them is first
# used, so that `import opsin` is quick and loads neither PyTorch nor matplotlib.
_DEFINED = {
    "commands.backbones": "FeatureValue KnownBackbone ListedBackbone describe_backbone "
    "list_backbones",
    "commands.bench": "Benchmark ImageRate bench",
    "commands.classes": "ClassChange change_classes undo_classes",
    "commands.compare": "compare",
    "commands.data": "draw_data write_audit",
    "commands.decoding": "decode",
    "commands.docs": "open_docs",
    "commands.embed": "Embedded embed",
    "commands.evaluate": "evaluate",
    "commands.export.export": "export_model",
    "commands.export.bundle": "HubExport",
    "commands.export.smaller": "Shipped",
    "commands.import_model": "import_model",
    "commands.inspect": "Explained explain inspect",
    "commands.inspect_model": "Insight Inspection",
    "commands.label": "Found FoundImage Labelled find label",
    "commands.predict.out_file": "Merged merge",
    "commands.predict.predict": "Classified classify",
    "commands.predict.stream": "draw_prediction predict_each",
    "commands.predict.undo": "Undone undo",
    "commands.repeats": "Repeats train_folds train_repeats",
    "commands.report": "write_report",
    "commands.runs": "Run list_runs",
    "commands.train.train": "plan resume train",
    "core.artifacts.records": "Epoch",
    "core.events": "Watcher",
    "core.recipe": "Recipe",
    "data.audit": "Audit Finding audit",
    "data.cache_contents": "CacheContents empty_cache list_cache",
    "data.dataset": "Dataset from_arrays load look_at",
    "labelling.labelling": "Labelling Progress Question",
    "report.side_by_side": "Comparison",
    "runtime.classifier": "Classifier Prediction",
    "server": "serve",
    "studio": "open_studio",
}
_HOME = {name: module for module, names in _DEFINED.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'opsin' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"opsin.{_HOME.get(name, 'core.errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
