"""Pictures sorted by label become a classifier you can look inside, trust and ship.

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
    from opsin.data.audit import Audit, Finding, audit
    from opsin.data.dataset import Dataset, from_arrays, load, look_at
    from opsin.errors import (
        DownloadError,
        ImageError,
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
    from opsin.events import Epoch, Watcher
    from opsin.predict import Classifier, Prediction
    from opsin.recipe import Recipe
    from opsin.server import serve
    from opsin.studio import open_studio
    from opsin.workflow.baselines import compare_baselines, train_baselines
    from opsin.workflow.bench import bench
    from opsin.workflow.changes import Changes, changes_since
    from opsin.workflow.classify.each import predict_each
    from opsin.workflow.classify.unsort import Unsorted, unsort
    from opsin.workflow.classify.verb import Classified, classify
    from opsin.workflow.compare import Comparison, compare
    from opsin.workflow.evaluate import evaluate
    from opsin.workflow.inside.inspect import Insight, inspect
    from opsin.workflow.inside.inspection import Inspection
    from opsin.workflow.look import draw_data, write_audit
    from opsin.workflow.predict import draw_prediction
    from opsin.workflow.rates import Benchmark, PictureRate
    from opsin.workflow.repeats import Repeats, train_folds, train_repeats
    from opsin.workflow.report import write_report
    from opsin.workflow.resume import resume
    from opsin.workflow.runs import Run, list_runs
    from opsin.workflow.ship.shipped import Shipped
    from opsin.workflow.ship.verb import export_model
    from opsin.workflow.train import train
    from opsin.workflow.transfer import Exported, export_data

__all__ = [
    "Audit",
    "Benchmark",
    "Changes",
    "Classified",
    "Classifier",
    "Comparison",
    "Dataset",
    "DownloadError",
    "Epoch",
    "Exported",
    "Finding",
    "ImageError",
    "Insight",
    "Inspection",
    "MissingExtraError",
    "ModelFileError",
    "MovedError",
    "OpsinError",
    "ParityError",
    "PictureRate",
    "Prediction",
    "Recipe",
    "RecipeError",
    "Repeats",
    "Run",
    "RunError",
    "SandboxError",
    "Shipped",
    "SourceError",
    "StorageError",
    "Unsorted",
    "Watcher",
    "__version__",
    "audit",
    "bench",
    "changes_since",
    "classify",
    "compare",
    "compare_baselines",
    "draw_data",
    "draw_prediction",
    "evaluate",
    "export_data",
    "export_model",
    "from_arrays",
    "inspect",
    "list_runs",
    "load",
    "look_at",
    "open_studio",
    "plan",
    "predict_each",
    "resume",
    "serve",
    "train",
    "train_baselines",
    "train_folds",
    "train_repeats",
    "unsort",
    "write_audit",
    "write_report",
]

# Where each name lives. It is imported when it is first used, so that `import opsin` is quick and
# loads neither PyTorch nor matplotlib.
_HOME = {
    "Audit": "data.audit",
    "Benchmark": "workflow.rates",
    "Changes": "workflow.changes",
    "Classified": "workflow.classify.verb",
    "Classifier": "predict",
    "Comparison": "workflow.compare",
    "Dataset": "data.dataset",
    "Epoch": "events",
    "Exported": "workflow.transfer",
    "Finding": "data.audit",
    "Insight": "workflow.inside.inspect",
    "Inspection": "workflow.inside.inspection",
    "PictureRate": "workflow.rates",
    "Prediction": "predict",
    "Recipe": "recipe",
    "Repeats": "workflow.repeats",
    "Run": "workflow.runs",
    "Shipped": "workflow.ship.shipped",
    "Unsorted": "workflow.classify.unsort",
    "Watcher": "events",
    "audit": "data.audit",
    "bench": "workflow.bench",
    "changes_since": "workflow.changes",
    "classify": "workflow.classify.verb",
    "compare": "workflow.compare",
    "compare_baselines": "workflow.baselines",
    "draw_data": "workflow.look",
    "draw_prediction": "workflow.predict",
    "evaluate": "workflow.evaluate",
    "export_data": "workflow.transfer",
    "export_model": "workflow.ship.verb",
    "from_arrays": "data.dataset",
    "inspect": "workflow.inside.inspect",
    "list_runs": "workflow.runs",
    "load": "data.dataset",
    "look_at": "data.dataset",
    "open_studio": "studio",
    "plan": "workflow.plan",
    "predict_each": "workflow.classify.each",
    "resume": "workflow.resume",
    "serve": "server",
    "train": "workflow.train",
    "train_baselines": "workflow.baselines",
    "train_folds": "workflow.repeats",
    "train_repeats": "workflow.repeats",
    "unsort": "workflow.classify.unsort",
    "write_audit": "workflow.look",
    "write_report": "workflow.report",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'opsin' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"opsin.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
