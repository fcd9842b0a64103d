"""What can be measured, beside whom, and how long it takes.

    python -m benchmarks
    python -m benchmarks.prediction --help

Each benchmark is a script of this folder. It prints a table and, with ``--out``, writes its figures
as JSON. Peers live in an environment of their own (benchmarks/requirements-peers.txt); those that
are not installed are left out, with a word.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Benchmark:
    """A script of this folder.

    Args:
        peers: Who is measured beside us, if anybody.
        duration: What the whole takes on two cores, about.
        smoke: Arguments of a run of seconds, which shows that the script works; its figures say
            nothing. RUN stands for a small `resnet` of the digits, FOLDER for a folder of them,
            WASTE for photographs of three kinds.
    """

    peers: str
    duration: str
    smoke: str

    @staticmethod
    def purpose(name: str) -> str:
        """Return the first line of a script's docstring."""
        text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


BENCHMARKS: Final = {
    "ablation": Benchmark("", "3 h", "digits --epochs 1 --only adamw"),
    "accuracy": Benchmark("published figures", "8 h", "digits --seeds 1"),
    "classical": Benchmark("published figures", "30 min", "logistic --source digits"),
    "cluster": Benchmark("", "10 min", "RUN --images 40 --repeats 1 --memory 100"),
    "devices": Benchmark("", "2 min", "RUN FOLDER --device cpu --repeats 1"),
    "duplicates": Benchmark("", "20 min", "--made 50 --plant 5 --sizes 50 100"),
    "find": Benchmark("scikit-learn", "5 min", "--images 2000 --width 32 --repeats 2"),
    "first_layer": Benchmark("", "1 min", ""),
    "heat_maps": Benchmark("", "3 min a run", "RUN --images 2"),
    "importing": Benchmark("", "1 min", "--megabytes 1 --repeats 1"),
    "inspection": Benchmark("", "5 min", "RUN --repeats 1 --images 100"),
    "label_errors": Benchmark(
        "", "30 min", "--source digits --images 300 --seeds 1 --folds 2 --epochs 1"
    ),
    "labelling": Benchmark("", "20 min", "FOLDER --network RUN --seeds 1 --sessions 4"),
    "one_class_more": Benchmark("", "2 min", "FOLDER --hold 3"),
    "out_of_fold": Benchmark(
        "", "15 min", "FOLDER --network RUN --images 4 --draws 1 --planted 2 --of 8 --plantings 1"
    ),
    "prediction": Benchmark(
        "Keras, PyTorch", "10 min", "RUN --repeats 1 --seconds 0.2 --memory 20 40 --made 20"
    ),
    "fine_tuning": Benchmark("PyTorch", "2 h", "digits RUN --seeds 1 --no-loop"),
    "pretrained": Benchmark("scikit-learn", "15 min", "digits RUN --seeds 1"),
    "pretrained_curve": Benchmark(
        "", "8 h", "digits --network RUN --images 3 --seeds 0 --test 50 --from-scratch logistic"
    ),
    "processes": Benchmark("", "10 min", "--source digits --size 24 --repeats 1"),
    "reading": Benchmark("Pillow, PyTorch", "10 min", "20 --repeats 1 --memory 20 40"),
    "serving": Benchmark(
        "FastAPI with PyTorch, LitServe", "20 min", "RUN --repeats 1 --seconds 0.5 --settings 1"
    ),
    "studio": Benchmark("", "10 min", "WASTE --only folders"),
    "training": Benchmark(
        "Keras on three backends, PyTorch", "1 h", "--work mlp-epoch --source digits --repeats 1"
    ),
    "trust": Benchmark("", "1 h", "digits --seeds 1"),
    "tutorials": Benchmark(
        "the tutorials' printed figures",
        "1 h",
        "--fashion digits --cifar10 FOLDER --classes 0,1,2 --seeds 1 --epochs 1",
    ),
}


def main() -> None:
    """Print the table."""
    print("python -m benchmarks.NAME, on two cores about:\n")
    for name, benchmark in BENCHMARKS.items():
        peers = f" Peers: {benchmark.peers}." if benchmark.peers else ""
        print(f"{name:<14}{benchmark.duration:>12}  {Benchmark.purpose(name)}{peers}")


if __name__ == "__main__":
    main()
