"""Whatever a public function is given, it does its work or says what is wrong: every one of them.

The calls are made from the signatures of what `opsin.__all__` names, so that a new function is
tried by itself; `base` may need to know what its required arguments are called.
"""

import functools
import inspect
import math
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.core.arguments import checked
from opsin.data.sources import Reading
from opsin.server import ServerSettings

pytestmark = pytest.mark.torch

# Trainings and measurements: each call that is not refused is real work.
_LONG = {"train", "train_folds", "train_repeats", "resume",
         "bench", "export_model", "write_report"}  # fmt: skip
_SEVERAL = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


def functions() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for name in opsin.__all__:
        value = getattr(opsin, name)
        if inspect.isfunction(value):
            found[name] = value
        elif inspect.isclass(value) and not issubclass(value, Exception):
            if "__init__" in vars(value) and name in ("Classifier", "Run", "Inspection"):
                found[name] = value
            found |= {
                f"{name}.{key}": method
                for key, method in vars(value).items()
                if inspect.isfunction(method) and not key.startswith("_")
            }
    return found


def parameters() -> list[Any]:
    return [
        pytest.param(
            name,
            parameter.name,
            marks=[pytest.mark.slow] if name in _LONG else [],
            id=f"{name}-{parameter.name}",
        )
        for name, function in functions().items()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]


class World:
    """What calls need to succeed."""

    def __init__(self, run: opsin.Run, root: Path) -> None:
        self.run, self.root = opsin.Run(shutil.copytree(run.path, root / "run")), root
        self.folder = root / "images"
        self.folder.mkdir()
        Image.new("L", (8, 8)).save(self.folder / "black.png")
        images = np.arange(12 * 64, dtype=np.uint16).reshape(12, 8, 8) % 251
        self.dataset = opsin.from_arrays(images, [0, 1] * 6)
        self.classifier = self.run.classifier()
        self.image = np.asarray(opsin.load("digits").images[0])
        self.prediction = self.classifier.predict(self.image)
        self.audit = opsin.audit(self.dataset)
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()
        self.port = self.socket.getsockname()[1]

    @functools.cached_property
    def instances(self) -> dict[str, Any]:
        return {
            "Classifier": self.classifier,
            "Run": self.run,
            "Dataset": self.dataset,
            "Prediction": self.prediction,
            "Audit": self.audit,
            "Inspection": opsin.Inspection(self.run),
            "CacheContents": opsin.list_cache(),
            "Recipe": self.run.recipe,
            "Watcher": opsin.Watcher(),
            "Labelling": opsin.Labelling.open(
                self.folder, file=self.root / "labels.sqlite", backbone="efficientnet-lite0"
            ),
        }

    def wrong(self) -> list[Any]:
        numbers = [None, 0, -1, 1.5, math.nan, math.inf, 10**30, True]
        texts = ["", "no such file", "a\0b", b"", b"bytes", self.folder, Path()]
        several = [[], [None], ["no such file"], {}, {1}, {"a": "b"}, range(3)]
        arrays = [np.full((2, 2), 1j), np.zeros((0, 3)), np.array("text")]
        objects = [object(), len, socket.socket, self.run, self.classifier, self.dataset]
        return [*numbers, *texts, *several, *arrays, *objects]

    def base(self, name: str, parameter: str) -> dict[str, Any]:
        """Return arguments with which a function would do its work, or end soon."""
        runs = dict.fromkeys(("model", "run", "models"), self.run)
        data = {"data": self.dataset, "dataset": self.dataset, "source": self.folder}
        seen = {"audit": self.audit, "prediction": self.prediction, "image": self.image}
        rows = {"images": self.image[None], "rows": np.arange(2), "labels": [0, 1] * 6}
        more = {"right": [True, False], "prepared": [], "units": [0], "epoch": None}
        root = self.root
        places = {"folder": root / "out", "path": root / "a.png", "file": root / "a.npz"}
        layers = {"layer": "head", "names": ["head"], "layers": (), "term": "softmax"}
        words = {"name": "a name", "label": "0", "text": "text", "to": "int8"}
        work = {"what": "Work", "unit": "images", "total": 1, "done": 1, "epochs": 1}
        by_name: dict[str, Any] = {**runs, **data, **seen, **rows, **more}
        by_name |= {**places, **layers, **words, **work}
        special: dict[str, dict[str, Any]] = {
            "Run": {"path": self.run},
            "from_arrays": {"images": np.zeros((12, 8, 8), np.uint8)},
            "classify": {"out": self.root / "answers.csv"},
            "serve": {"settings": ServerSettings(port=self.port)},
            # An address of no machine (RFC 5737), which it finds out when all else is checked.
            "open_studio": {"host": "192.0.2.1", "token": "t" * 32, "home": self.root / "home"},
            "write_report": {"deep": False},
            "merge": {"whole": self.root / "answers.csv"},
            "explain": {"term": "softmax", "image": self.image},
            "plan": {"model": "mlp"},
            "train": {"model": "mlp", "epochs": 1, "runs": self.root / "runs", "quiet": True},
            "resume": {"epochs": 4, "quiet": True},
            "train_folds": {"model": "mlp", "epochs": 1, "runs": self.root / "runs", "folds": 2},
            "train_repeats": {"model": "mlp", "epochs": 1, "runs": self.root / "r", "repeats": 2},
            "bench": {"classifier": self.run},
            "Labelling.label": {"answers": {"black.png": "black"}},
        }
        if name == "open_studio" and parameter == "host":
            special[name] = {"port": 70_000}
        asked = inspect.signature(functions()[name]).parameters
        found = {
            key: value
            for key, value in by_name.items()
            if key in asked
            and asked[key].default is inspect.Parameter.empty
            and asked[key].kind not in _SEVERAL
        }
        return {**found, **special.get(name, {})}


@pytest.fixture(scope="module")
def world(run: opsin.Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(run, tmp_path_factory.mktemp("world"))
    yield made
    made.socket.close()


@pytest.mark.parametrize(("name", "parameter"), parameters())
def test_nothing_but_our_own_errors_is_raised(
    name: str, parameter: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function = functions()[name]
    if "." in name:
        function = getattr(world.instances[name.partition(".")[0]], name.partition(".")[2])
    asked = inspect.signature(function).parameters[parameter]
    failures = []
    for value in world.wrong():
        if value is asked.default:
            continue
        arguments = world.base(name, parameter)
        first = []
        if asked.kind is asked.VAR_POSITIONAL:  # what comes before it can have no name then
            names = [*inspect.signature(function).parameters]
            first = [*map(arguments.pop, names[: names.index(parameter)]), value]
        else:
            arguments[parameter] = value
        try:
            done = function(*first, **arguments)
            if isinstance(done, Iterator):
                list(done)
        except opsin.OpsinError as error:
            assert str(error).strip()
        except Exception as error:  # noqa: BLE001  whatever it is, it is to be shown
            failures.append(f"{value!r:.60}: {type(error).__name__}: {error}")
    assert failures == []


def test_what_is_wrong_is_said_in_words() -> None:
    @checked
    def fit(
        path: str | Path,
        count: int = 1,
        *more: str,
        way: Literal["up", "down"] = "up",
        names: Sequence[str] = (),
        learning_rate: float | None = None,
        **reading: Unpack[Reading],
    ) -> None: ...

    fit("a", np.int64(3), "b", way="down", names=np.array(["a"]), learning_rate=2)  # type: ignore[arg-type]
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((1,), {}, "path must be a text or a Path, not 1$"),
        (("a", True), {}, "count must be a whole number, not True"),
        (("a", 10**30), {}, "count must be a whole number"),
        (("a", 1, 2), {}, "more must be a text, not 2"),
        (("a\0b",), {}, "not 'a.x00b'"),
        (("a",), {"way": "left"}, "way must be one of up, down, not 'left'"),
        (("a",), {"names": "abc"}, "names must be a list, each a text, not 'abc'"),
        (("a",), {"names": [1]}, r"not \[1\]"),
        (("a",), {"learning_rate": math.nan}, "learning_rate must be a number or None, not nan"),
        (("a",), {"outside": 1}, "outside must be True or False, not 1"),
        (("a",), {"nonsense": 1}, "reading must be any of columns, follow_links, outside, not"),
    ]
    for arguments, options, words in wrong:
        with pytest.raises(opsin.RecipeError, match=words):
            fit(*arguments, **options)
    with pytest.raises(TypeError, match=r"fit\(\) missing"):
        fit()  # type: ignore[call-arg]
