"""A studio's folders with much in them, and the addresses of all its pages."""

import json
import shutil
from pathlib import Path

from PIL import Image

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.storage import write_json
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from opsin.studio.projects import id_of_run
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.words import opaque
from tests.made_runs import answers_right, copies, write_run


def furnish(folder: Path, run: Path, source: str, count: int) -> dict[str, str]:
    """Fill a studio's folders with runs and a set, and return the address of each page."""
    whole = folder / "whole"
    shutil.copytree(run, whole)
    made = copies(folder / "runs", whole, count)
    the_set = Library(folder / "home", Queue(folder / "home")).add_source(source)
    project = project_of_run(folder, made[0].name)
    return addresses(made[0].name, made[1].name, the_set.id, project)


def project_of_run(folder: Path, run: str) -> str:
    """Return the id of the project of a run whose images are no dataset of the studio."""
    return id_of_run(RunIndex(folder / "runs").row(opaque(run)))


def addresses(first: str, second: str, the_set: str, project: str = "") -> dict[str, str]:
    """Return the address of each page; ``project`` is that of the runs (default: of the set)."""
    one, other, of_set = opaque(first), opaque(second), f"/projects/{the_set}/photos"
    of_runs = f"/projects/{project or the_set}"
    return {
        "Home": "/",
        "Photos": of_set,
        "Train": f"/projects/{the_set}/train",
        "Train as before": f"{of_runs}/train?from={one}",
        "Results": f"{of_runs}/results?run={one}",
        "Classifiers": "/classifiers",
        "Inside": f"{of_runs}/inside?run={one}",
        "Inside, an image": f"{of_runs}/inside?run={one}&layer=flatten",
        "Try": f"{of_runs}/try?run={one}",
        "Compare": f"/compare?runs={one},{other}",
        "Jobs": "/jobs",
        "Settings": "/settings",
        "People": "/people",
        "Add from": "/add",
        "Import": "/import",
        "How it works": "/how-it-works",
    }


def fill_with_digits(sets: Library, project: str, digits: Dataset, count: int) -> None:
    """Put the first digits into the classes of a project that was made in the studio."""
    for number in range(count):
        name = digits.classes[digits.labels[number]]
        image = Image.fromarray(digits.images[number][..., 0])
        image.save(sets.get(project).place / name / f"{number}.png")


def write_two_runs(runs: Path, digits: Dataset, classifier: Path) -> None:
    """Write the finished runs good and better, with the layers of their classifier."""
    layers = [layer.model_dump(mode="json") for layer in Classifier(classifier).metadata.layers]
    for name, right in (("good", 0.8), ("better", 0.97)):
        answers = answers_right(digits, right)
        path = write_run(runs, name, digits, answers, classifier=classifier)
        report = json.loads((path / "report.json").read_text(encoding="utf-8"))
        write_json(RunDirectory(path).report, report | {"layers": layers})
