"""The model card: what a stranger must know before using the file."""

from __future__ import annotations

import json
from typing import Final

from opsin.core.artifacts.run_report import PartFigures, Report
from opsin.core.format import clock, counted, file_size, plus_minus
from opsin.evaluation.metric_table import known_metrics
from opsin.report.run_page import verdict
from opsin.report.terminal import corrected_in_words, leaks_in_words, over_classes


def model_card(report: Report, seed: int, *, name: str) -> str:
    """Return the card as Markdown with the YAML header that Hugging Face reads.

    M. Mitchell et al., "Model cards for model reporting", FAT* 2019.

    Args:
        report: The run's figures, its failures among them.
        seed: What it was trained with.
        name: Of the run.
    """
    figures = report.judged
    judged = "test" if report.split == "test" else "validation"
    over = f" {over_classes(figures)}"
    # YAML holds JSON, so quoting is JSON's.
    metrics = [
        {
            "type": _KINDS.get(metric.key, metric.key),
            "value": round(metric.value(figures) or 0.0, 6),
            "name": metric.title + over * metric.over_classes,
        }
        for metric in known_metrics(figures)
    ]
    task = {"type": "image-classification", "name": "Image classification"}
    data = {"name": report.source, "type": "image-folder", "split": judged}
    result = {"task": task, "dataset": data, "metrics": metrics}
    header = {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", "opsin"],
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": name, "results": [result]}],
    }
    lines = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()),
        "---",
    ]
    lines += ["", f"# {_plain(name)}", "", verdict(report), ""]
    lines += ["## What it tells apart", "", *_classes(figures), "", "## How good it is", ""]
    lines += [
        *_figures(report, figures, judged),
        "",
        "## Where it fails",
        "",
        *_failures(report, figures),
    ]
    lines += ["", "## How it was made", "", *_origin(report, seed), "", "## Use", "", _USE]
    return "\n".join(lines)


# Kinds of metrics that model cards have another name for than their key.
_KINDS: Final = {"macro_f1": "f1"}
_USE = """```python
import opsin
opsin.Classifier("classifier.onnx").predict("image.jpg").answer
```

Or in any language with ONNX Runtime: input `images`, `uint8[N, H, W, C]`, upright and resized as
the file's metadata says; outputs `probabilities`, `embedding` and `ood_score`.
"""


def _classes(figures: PartFigures) -> list[str]:
    names = [_plain(entry.name) for entry in figures.classes]
    return [f"{len(names)} classes: {', '.join(names)}."]


def _figures(report: Report, figures: PartFigures, judged: str) -> list[str]:
    over = f" {over_classes(figures)}"
    lines = [
        f"On {figures.images:,} {judged} images:",
        "",
        "| figure | value | 95% interval |",
        "|---|---|---|",
    ]
    for metric in known_metrics(figures):
        ends = metric.interval(figures)
        span = f"{ends[0]:.4f} to {ends[1]:.4f} " if ends else ""
        title = metric.title + over * metric.over_classes
        lines.append(f"| {title} | {metric.value(figures):.4f} | {span}|")
    if figures.corrected:
        lines += ["", f"{corrected_in_words(figures.corrected, report.split)}."]
    if report.leaks.exact or report.leaks.near:
        without = figures.without_leaks
        lines += ["", f"{leaks_in_words(report.leaks)}."]
        lines += [f"Without them the accuracy is {plus_minus(without)}."] if without else []
    return lines


def _failures(report: Report, figures: PartFigures) -> list[str]:
    pairs = [
        f"- {_plain(pair.actual)} is taken for {_plain(pair.predicted)}: "
        f"{pair.count:,} of {pair.of:,}."
        for pair in figures.confused[:5]
    ]
    slices = report.failures.slices if report.failures else None
    weak = [
        f"- {_plain(each.name)}: accuracy {plus_minus(each)} on {counted(each.images, 'image')}."
        for each in (slices.weakest[:5] if slices else ())
    ]
    if slices and slices.too_weak:
        said = _plain(slices.too_weak)
        weak.append(f"- On which images it is weaker, it is too weak to tell: {said}.")
    unknown = "- Every image gets an answer, whatever it shows."
    if report.reject:
        unknown = (
            f'- Images unlike the training ones get "none of these"; {report.reject.rate:.1%} of '
            "good images are refused by mistake. Images of related things may pass."
        )
    return [*pairs, *weak, unknown]


def _origin(report: Report, seed: int) -> list[str]:
    training = report.training
    size = f"{training.parameters or 0:,} parameters, {training.multiply_adds or 0:,} multiply-adds"
    how = f"{training.device}; `import.json` says where the file is from"
    if not training.elsewhere:
        took = clock(report.seconds["train"])
        how = f"{training.epochs} {training.unit} in {took} on {training.device}, seed {seed}"
        how += "; `recipe.json` has the rest"
    inside, mix = report.reasons.get("Backbone"), report.reasons.get("Class mix")
    return [
        f"- Data: {_plain(report.source)}, {_plain(report.dataset)}.",
        f"- Model: {report.model}, {size} an image.",
        *([f"- Pretrained network inside: {_plain(inside)}."] if inside else []),
        *([f"- Class mix: {_plain(mix)}."] if mix else []),
        f"- Training: {how}.",
        f"- File: classifier.onnx, {file_size(report.file.bytes or 0)}, by Opsin {report.opsin}.",
    ]


def _plain(text: str) -> str:
    """Return text that Markdown takes as it is."""
    flat = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|" else char for char in flat)
