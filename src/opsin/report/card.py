"""The model card: facts for users of the file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from opsin.classical.classical_recipe import BACKBONE
from opsin.core.artifacts.run_predictions import PART_WORDS
from opsin.core.artifacts.run_report import Report
from opsin.core.format import clock, counted, file_size, in_groups, plus_minus
from opsin.core.metadata import BackboneFacts
from opsin.evaluation.metric_table import known_metrics
from opsin.hub.hub_name import PREFIX, HubName
from opsin.report.run_page import verdict
from opsin.report.terminal import corrected_in_words, leaks_in_words, over_classes

#: The hub's word for a missing licence.
UNSTATED: Final = "unknown"
# https://yaml.org/spec/1.2.2/#51-character-set, the line breaks of YAML 1.1 among them.
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Publication:
    """The repository and licence of a published classifier."""

    repository: str  # `owner/name` on the hub
    licence: str  # of the classifier, as the hub calls it; `unknown` if none is stated
    inside: BackboneFacts | None = None


def model_card(
    report: Report, seed: int, *, name: str, source: str, publication: Publication | None = None
) -> str:
    """Return the card as Markdown with the YAML header that Hugging Face reads.

    M. Mitchell et al., "Model cards for model reporting", FAT* 2019.
    """
    names = [_plain(entry.name) for entry in report.judged.classes]
    lines = ["---"]
    for key, value in _header(report, name, source, publication).items():
        # YAML includes JSON except for unprintable characters.
        text = json.dumps(value, ensure_ascii=False)
        text = _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        lines.append(f"{key}: {text}")
    sections = {
        "What it tells apart": [f"{len(names)} classes: {', '.join(names)}."],
        "How good it is": _figures(report),
        "Where it fails": _failures(report),
        "What it assumes, and what is not known": _unknown(report),
        "How it was made": _origin(report, seed, source, published=publication is not None),
        **({"Licence": _licence(publication)} if publication else {}),
        "Use": [_use(publication)],
    }
    lines += ["---", "", f"# {_plain(name)}", "", verdict(report)]
    for title, section in sections.items():
        lines += ["", f"## {title}", "", *section]
    return "\n".join(lines)


def _header(
    report: Report, name: str, source: str, publication: Publication | None
) -> dict[str, object]:
    figures, over = report.judged, f" {over_classes(report.judged)}"
    optimistic = ", validation, optimistic" if report.split == "val" else ""
    metrics = [
        {
            # Model cards have another name for it than our key.
            "type": metric.key.replace("macro_f1", "f1"),
            "value": round(metric.value(figures) or 0.0, 6),
            "name": metric.title + over * metric.over_classes + optimistic,
        }
        for metric in known_metrics(figures)
    ]
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"name": source, "type": "image-folder", "split": PART_WORDS[report.split]},
        "metrics": metrics,
    }
    stated: dict[str, object] = {"license": publication.licence} if publication else {}
    inside = publication.inside if publication else None
    # Else its name is a file's, or a run's.
    if inside is not None and "/" in inside.name and (where := HubName.read(inside.name)):
        stated["base_model"] = where.repository
    return stated | {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", "opsin"],
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": name, "results": [result]}],
    }


def _use(publication: Publication | None) -> str:
    """Instructions to run it, with Opsin and without."""
    model, described, more = "classifier.onnx", "the file's metadata", ""
    if publication is not None:
        model, described = f"{PREFIX}{publication.repository}", "`classes.json`"
        more = f"""```text
opsin predict {model} image.jpg
```

Without Opsin, with the files of this repository:
```text
pip install numpy pillow onnxruntime
python predict.py image.jpg
```
"""
    return f"""```python
import opsin
opsin.Classifier("{model}").predict("image.jpg").answer
```
{more}
Or in any language with ONNX Runtime: input `images`, `uint8[N, H, W, C]`, upright and resized as
{described} says; outputs `probabilities`, `embedding` and `ood_score`.
"""


def _figures(report: Report) -> list[str]:
    figures, over = report.judged, f" {over_classes(report.judged)}"
    groups = in_groups(figures.groups, few=figures.few_groups)
    lines = [
        f"On {figures.images:,} {PART_WORDS[report.split]} images{groups}:",
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


def _failures(report: Report) -> list[str]:
    slices = report.failures.slices if report.failures else None
    lines = [
        f"- {_plain(pair.actual)} is taken for {_plain(pair.predicted)}: "
        f"{pair.count:,} of {pair.of:,}."
        for pair in report.judged.confused[:5]
    ]
    lines += [
        f"- {_plain(entry.name)}: accuracy {plus_minus(entry)} on {counted(entry.images, 'image')}."
        for entry in (slices.weakest[:5] if slices else ())
    ]
    if slices and slices.too_weak:
        weak = _plain(slices.too_weak)
        lines.append(f"- On which images it is weaker, it is too weak to tell: {weak}.")
    if report.deep:
        levels = [
            (kind.name, level) for kind in report.deep.robustness.kinds for level in kind.levels
        ]
        name, worst = min(levels, key=lambda pair: pair[1].accuracy)
        lines.append(
            f"- Of disturbed images, it does worst on {_plain(name)} ({_plain(worst.words)}): "
            f"accuracy {worst.accuracy:.4f} instead of {report.deep.robustness.accuracy:.4f}."
        )
    unknown = (
        "- Every image gets an answer, whatever it shows: there is no threshold to tell which are "
        "unlike the training images."
    )
    if report.reject:
        unknown = (
            f'- Images unlike the training ones get "none of these"; {report.reject.rate:.1%} of '
            "good images are refused by mistake. Images of related things may pass."
        )
    return [*lines, unknown]


def _unknown(report: Report) -> list[str]:
    """Limits of the figures."""
    assumed = "Its probabilities assume that all classes are equally common"
    if mix := report.reasons.get("Class mix"):
        assumed = f"Class mix: {_plain(mix)}"
    elif report.training.elsewhere:
        assumed = "Its probabilities are those of its maker's program"
    elif report.training.balance == "none":
        assumed = (
            "Its probabilities assume that each class is as common as among the training images"
        )
    elsewhere = (
        "- How good it is on images from elsewhere (another camera, place or time) is not known: "
        "the figures are of images from one source."
    )
    lines = [f"- {assumed}.", elsewhere]
    if report.split == "val":
        lines.append("- There were no test images, so that every figure is optimistic.")
    if not report.deep:
        lines.append("- How it answers to blurred, dark or noisy images was not measured.")
    return lines


def _licence(publication: Publication) -> list[str]:
    inside, terms = publication.inside, f"{_plain(publication.licence)}."
    if publication.licence == UNSTATED:
        terms = "its maker has stated none. Ask before you use it."
    lines = [f"- Of the classifier: {terms}"]
    if inside is not None:
        terms = (
            f"it is published under {_plain(inside.licence)}, whose terms hold for this file too"
        )
        if inside.licence == UNSTATED:
            terms = "nothing says under which licence it is published"
        lines.append(f"- Of the pretrained network inside, {_plain(inside.name)}: {terms}.")
    return lines


def _origin(report: Report, seed: int, source: str, *, published: bool) -> list[str]:
    training = report.training
    size = f"{training.parameters or 0:,} parameters, {training.multiply_adds or 0:,} multiply-adds"
    if training.elsewhere:
        how = training.device + ("" if published else "; `import.json` says where the file is from")
    else:
        took = clock(report.seconds["train"])
        how = f"{training.epochs} {training.unit} in {took} on {training.device}, seed {seed}"
        how += "" if published else "; `recipe.json` has the rest"
    # Without one, the same place says how to get one.
    inside = report.reasons.get("Backbone") if report.model == BACKBONE else None
    return [
        f"- Data: {_plain(source)}, {_plain(report.dataset)}.",
        f"- Model: {report.model}, {size} an image.",
        *([f"- Pretrained network inside: {_plain(inside)}."] if inside else []),
        f"- Training: {how}.",
        f"- File: classifier.onnx, {file_size(report.file.bytes or 0)}, by Opsin {report.opsin}.",
    ]


def _plain(text: str) -> str:
    """Escape a text for Markdown."""
    flat = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|" else char for char in flat)
