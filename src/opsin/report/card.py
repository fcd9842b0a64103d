"""The model card: what a stranger must know before using the file."""

from __future__ import annotations

import json
from typing import Any, Final

from opsin.core.format import clock, counted, file_size, plus_minus
from opsin.evaluation.metric_table import known_metrics
from opsin.report.run_page import verdict
from opsin.report.terminal import corrected_in_words, leaks_in_words, over_classes


def model_card(report: dict[str, Any], recipe: dict[str, Any], *, name: str) -> str:
    """Return the card as Markdown with the YAML header that Hugging Face reads.

    M. Mitchell et al., "Model cards for model reporting", FAT* 2019.

    Args:
        report: What ``report.json`` holds.
        recipe: What ``recipe.json`` holds.
        name: Of the run.
    """
    figures = report["figures"][report["split"]]
    judged = "test" if report["split"] == "test" else "validation"
    over = f" {over_classes(figures)}"
    # YAML holds JSON, so quoting is JSON's.
    metrics = [
        {
            "type": _KINDS.get(metric.key, metric.key),
            "value": round(figures[metric.key], 6),
            "name": metric.title + over * metric.over_classes,
        }
        for metric in known_metrics(figures)
    ]
    task = {"type": "image-classification", "name": "Image classification"}
    data = {"name": report["source"], "type": "image-folder", "split": judged}
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
    lines += ["", "## How it was made", "", *_origin(report, recipe), "", "## Use", "", _USE]
    return "\n".join(lines)


# Kinds of metrics that model cards have another name for than their key.
_KINDS: Final = {"macro_f1": "f1"}
_USE = """```python
import opsin
opsin.Classifier("classifier.onnx").predict("image.jpg").answer
```

Or in any language with ONNX Runtime: input `images`, `uint8[N, H, W, C]`, upright and resized as
the file's metadata says; outputs `probabilities`, `embedding` and `familiarity`.
"""


def _classes(figures: dict[str, Any]) -> list[str]:
    names = [_plain(entry["name"]) for entry in figures["classes"]]
    return [f"{len(names)} classes: {', '.join(names)}."]


def _figures(report: dict[str, Any], figures: dict[str, Any], judged: str) -> list[str]:
    over = f" {over_classes(figures)}"
    lines = [
        f"On {figures['images']:,} {judged} images:",
        "",
        "| figure | value | 95% interval |",
        "|---|---|---|",
    ]
    for metric in known_metrics(figures):
        ends = metric.interval(figures)
        span = f"{ends[0]:.4f} to {ends[1]:.4f} " if ends else ""
        title = metric.title + over * metric.over_classes
        lines.append(f"| {title} | {figures[metric.key]:.4f} | {span}|")
    if figures.get("corrected"):
        lines += ["", f"{corrected_in_words(figures['corrected'], report['split'])}."]
    leaks = report["leaks"]
    if leaks["exact"] or leaks["near"]:
        without = figures.get("without_leaks")
        copied = leaks.get("all_copied", False)
        lines += ["", f"{leaks_in_words(leaks['exact'], leaks['near'], all_copied=copied)}."]
        lines += [f"Without them the accuracy is {plus_minus(without)}."] if without else []
    return lines


def _failures(report: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    pairs = [
        f"- {_plain(pair['actual'])} is taken for {_plain(pair['predicted'])}: "
        f"{pair['count']:,} of {pair['of']:,}."
        for pair in figures["confused"][:5]
    ]
    weak = [
        f"- {_plain(each['name'])}: accuracy {plus_minus(each)} on "
        f"{counted(each['images'], 'image')}."
        for each in report["failures"]["slices"]["weakest"][:5]
    ]
    too_weak = report["failures"]["slices"].get("too_weak")
    weak += (
        [f"- On which images it is weaker, it is too weak to tell: {_plain(too_weak)}."]
        if too_weak
        else []
    )
    reject = report.get("reject")
    unknown = "- Every image gets an answer, whatever it shows."
    if reject:
        unknown = (
            f'- Images unlike the training ones get "none of these"; {reject["rate"]:.1%} of '
            "good images are refused by mistake. Images of related things may pass."
        )
    return [*pairs, *weak, unknown]


def _origin(report: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    training, file = report["training"], report["file"]
    size = f"{training['parameters']:,} parameters, {training['multiply_adds']:,} multiply-adds"
    unit = training.get("unit", "epochs")
    how = f"{training['epochs']} {unit} in {clock(report['seconds']['train'])}"
    seed = recipe["training"]["seed"]
    return [
        f"- Data: {_plain(report['source'])}, {_plain(report['dataset'])}.",
        f"- Model: {report['model']}, {size} an image.",
        f"- Training: {how} on {training['device']}, seed {seed}; `recipe.json` has the rest.",
        f"- File: classifier.onnx, {file_size(file['bytes'])}, by Opsin {report['opsin']}.",
    ]


def _plain(text: str) -> str:
    """Return text that Markdown takes as it is."""
    flat = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|" else char for char in flat)
