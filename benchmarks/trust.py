"""What calibration and "none of these" are worth, over models, data sets and seeds.

    python -m benchmarks.trust [SOURCE …] --cifar10 FOLDER --hands FOLDER --trashnet FOLDER \
        --network FILE --prepare=-1..1 --out trust.json

Each training is a process of its own. The first table sets the calibration error and the log loss
on test images with the file's temperature beside those without. The second compares three ways
to tell strange images from test images, by the area under the ROC curve: the largest
probability, the energy (W. Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020)
and the OOD score that the file answers with; blank, noise, text, drawings and digits are made
(opsin.evaluation.out_of_distribution), "near" are related things that were no class: the scans of
digits for Fashion-MNIST, the seven other classes for three of CIFAR-10, a class that was left out,
another for each seed, of TrashNet. Nothing here chose a threshold.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

import opsin
from benchmarks.training_process import train
from opsin.evaluation.out_of_distribution import strange_images

_THREE: Final = ("airplane", "automobile", "bird")
#: Test images and strange ones that are compared, at most.
_COMPARED: Final = 1000


@dataclass(frozen=True)
class Case:
    """A training.

    Args:
        source: A named source, ``cifar10``, ``hands`` or ``trashnet``.
        options: Of ``opsin train``.
        pretrained: Whether it builds on the network that was given.
    """

    source: str
    options: tuple[str, ...]
    pretrained: bool = False

    def title(self, seed: int) -> str:
        """Say what is trained."""
        model = "pretrained" if self.pretrained else " ".join(self.options[1:2])
        return f"{self.source} {model}, seed {seed}"


_SMALL: Final = ("--model", "resnet", "--hidden", "16,32,64", "--epochs", "3")
CASES: Final = (
    (Case("digits", ("--model", "mlp", "--epochs", "10")), 2),
    (Case("digits", ("--model", "resnet", "--epochs", "5")), 2),
    (Case("fashion-mnist", ("--model", "mlp", "--epochs", "5")), 3),
    (Case("fashion-mnist", _SMALL), 1),
    (Case("fashion-mnist", ("--model", "logistic")), 1),
    (Case("cifar10", ("--model", "cnn", "--epochs", "4", "--classes", ",".join(_THREE))), 2),
    (Case("cifar10", ("--classes", ",".join(_THREE)), pretrained=True), 1),
    (Case("trashnet", ("--model", "resnet", "--hidden", "16,32,64", "--epochs", "8")), 3),
    (Case("trashnet", (), pretrained=True), 3),
    (Case("hands", ("--model", "resnet", "--hidden", "16,32,64", "--epochs", "8")), 1),
)


def main() -> None:
    """Train, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sources = list(dict.fromkeys(case.source for case, _ in CASES))
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help=", ".join(sources))
    parser.add_argument("--seeds", type=int, default=3, help="trainings of a case at most")
    parser.add_argument("--cifar10", type=Path, help="folder with CIFAR-10 as images")
    parser.add_argument("--hands", type=Path, help="folder with the photographs of hands")
    parser.add_argument("--trashnet", type=Path, help="folder with the photographs of waste")
    parser.add_argument("--network", help="a pretrained network, an ONNX file")
    parser.add_argument("--prepare", help="as for opsin train")
    parser.add_argument(
        "--runs", type=Path, help="keep the runs there (default: a folder that goes)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    if unknown := set(options.sources) - set(sources):
        parser.error(f"sources are {', '.join(sources)}; received {', '.join(unknown)}")
    folders = {name: getattr(options, name) for name in ("cifar10", "hands", "trashnet")}
    network = ["--from", options.network] if options.network else []
    network += [f"--prepare={options.prepare}"] if options.prepare else []
    rows: list[dict[str, Any]] = []
    print(
        f"{'':<28}{'images':>9}{'accuracy':>9}{'T':>7}{'ECE':>8}{'after':>8}"
        f"{'log loss':>10}{'after':>8}  AUROC of strange images, by score"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for case, seeds in CASES:
            if options.sources and case.source not in options.sources:
                continue
            source = folders.get(case.source, case.source)
            if source is None:
                print(f"{case.source} needs --{case.source} FOLDER")
                continue
            if case.pretrained and not network:
                print(f"{case.title(0)} needs --network FILE")
                continue
            for seed in range(min(seeds, options.seeds)):
                words = [*case.options, *(network if case.pretrained else [])]
                if case.source == "trashnet":
                    words += ["--classes", ",".join(_others(source, seed))]
                run = _train(str(source), words, seed, options.runs or Path(scratch))
                rows.append(
                    {"case": case.title(seed), **_calibrated(run), "auroc": _apart(run, case)}
                )
                _tell(rows[-1])
                if options.out:
                    options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    better = sum(row["after"]["ece"] <= row["before"]["ece"] for row in rows)
    large = [row["after"]["ece"] for row in rows if row["images"] >= 1000]
    print(
        f"\ncalibration error no worse in {better} of {len(rows)} runs (aim: 9 of 10); "
        f"at most {max(large, default=0):.3f} where n >= 1,000 (aim: 0.05)"
    )


def _others(folder: Path, seed: int) -> list[str]:
    """Return all classes but one, another for each seed."""
    classes = sorted(each.name for each in folder.iterdir() if each.is_dir())
    return [*classes[:seed], *classes[seed + 1 :]]


def _train(source: str, words: list[str], seed: int, runs: Path) -> opsin.Run:
    return opsin.Run(train(source, *words, "--seed", seed, runs=runs)["run"])


def _calibrated(run: opsin.Run) -> dict[str, Any]:
    figures, report = run.figures, run.report
    before, calibration = figures.uncalibrated, report.calibration
    if before is None or calibration is None:
        raise SystemExit(f"{run.path} has too few validation images to be calibrated")
    return {
        "images": figures.images,
        "accuracy": figures.accuracy,
        "temperature": calibration.temperature,
        "before": {"ece": before.calibration_error, "log_loss": before.log_loss},
        "after": {"ece": figures.calibration_error, "log_loss": figures.log_loss},
        "validation_log_loss": calibration.log_loss,
        "refused": figures.refused.share if figures.refused else None,
    }


def _apart(run: opsin.Run, case: Case) -> dict[str, dict[str, float]]:
    """Return the areas by kind of strange images and by score."""
    classifier = run.classifier()
    recipe = run.recipe.data
    data = opsin.load(*recipe.sources, **recipe.model_dump(exclude={"sources"}, exclude_none=True))
    rows = data.split.test[:: max(1, len(data.split.test) // _COMPARED)]
    known = _scores(classifier, np.asarray(data.images[rows]))
    strange = strange_images(*data.images.shape[1:])
    if case.source == "fashion-mnist":
        strange["near"] = strange.pop("digits")
    elif case.source == "digits":
        del strange["digits"]
    elif case.source in ("cifar10", "trashnet"):
        whole = opsin.load(*recipe.sources, size=recipe.size, resize=recipe.resize)
        seen = [whole.classes.index(name) for name in data.classes]
        rows = whole.split.test if case.source == "cifar10" else np.arange(len(whole))
        other = rows[~np.isin(whole.labels[rows], seen)]
        strange["near"] = np.asarray(whole.images[other[:: max(1, len(other) // _COMPARED)]])
    found: dict[str, dict[str, float]] = {}
    for name, images in strange.items():
        scores = _scores(classifier, images)
        found[name] = {
            kind: float(
                roc_auc_score(
                    np.repeat([1, 0], [len(known[kind]), len(scores[kind])]),
                    np.concatenate([known[kind], scores[kind]]),
                )
            )
            for kind in known
        }
    return found


def _scores(
    classifier: opsin.Classifier, images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    values = classifier.layers(images, ["head", "probabilities", "ood_score"])
    calibration = classifier.metadata.calibration
    temperature = calibration.temperature if calibration else 1.0
    return {
        "probability": values["probabilities"].max(axis=1),
        "energy": logsumexp(values["head"] / temperature, axis=1),
        "ood_score": -values["ood_score"],
    }


def _tell(row: dict[str, Any]) -> None:
    before, after = row["before"], row["after"]
    areas = "  ".join(
        f"{kind} " + " ".join(f"{value:.3f}" for value in by.values())
        for kind, by in row["auroc"].items()
    )
    print(
        f"{row['case']:<28}{row['images']:>9,}{row['accuracy']:>9.4f}{row['temperature']:>7.2f}"
        f"{before['ece']:>8.4f}{after['ece']:>8.4f}{before['log_loss']:>10.4f}"
        f"{after['log_loss']:>8.4f}  {areas}",
        flush=True,
    )


if __name__ == "__main__":
    main()
