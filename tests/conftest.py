"""Real images, real runs and a classifier that needs no PyTorch."""

import contextlib
import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

import opsin
from opsin.core.metadata import Metadata
from opsin.runtime import providers
from tests import object_store
from tests.backbones.small_networks import network
from tests.hub_server import TOKEN, HubServer, serving
from tests.made_classifier import made_layer
from tests.made_runs import answers_right, write_run
from tests.object_store import ObjectStore
from tests.onnx_files.made_files import model_file
from tests.processes import python
from tests.warm import UNDRAWN, Warm

# The machine's speed is no property of the code. `make test-all` asks for the thorough one.
for profile, examples in {"opsin": 20, "thorough": 60}.items():
    settings.register_profile(
        profile,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
settings.load_profile("opsin")

Cli = Callable[..., subprocess.CompletedProcess[str]]
Train = Callable[..., opsin.Run]


class Notes(opsin.Watcher):
    """Keeps what it is told, and can ask for a stop at a batch."""

    def __init__(
        self,
        *,
        interrupt_at: int | None = None,
        by: signal.Signals = signal.SIGINT,
        training: bool = False,
    ) -> None:
        self.epochs: list[opsin.Epoch] = []
        self.notes: list[str] = []
        self.facts: dict[str, str] = {}
        self.begun: list[tuple[str, int, str]] = []
        self.done: list[int] = []
        self.interrupt_at, self.by, self.training = interrupt_at, by, training
        self.batches = 0

    @property
    def totals(self) -> list[int]:
        return [total for _, total, _ in self.begun]

    def epoch(self, epoch: opsin.Epoch) -> None:
        self.epochs.append(epoch)

    def fact(self, name: str, text: str) -> None:
        self.facts[name] = text

    def begin(self, what: str, total: int, unit: str) -> None:
        self.begun.append((what, total, unit))

    def advance(self, done: int, **figures: float) -> None:
        self.done.append(done)
        if self.training and "share" not in figures:  # reading or evaluation
            return
        self.batches += 1
        if self.batches == self.interrupt_at:
            os.kill(os.getpid(), self.by)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> str:
    """A device that computes as the CPU does, and is another one to ONNX Runtime and Opsin."""
    provider = "AzureExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has nothing to stand in for a GPU")
    entry = providers._Provider(provider, "install it", {})
    monkeypatch.setitem(providers._PROVIDERS, "openvino", entry)
    monkeypatch.setattr(providers, "_failed", set())
    return "openvino"


def shape_image(kind: str, seed: int, size: int = 24) -> NDArray[np.uint8]:
    """Draw a disc, a square or a cross in a colour and place of its own: uint8[H, W, 3]."""
    random = np.random.default_rng(seed)
    image = random.integers(150, 220, (size, size, 3))
    row, column = random.integers(size // 3, 2 * size // 3, 2)
    radius = int(random.integers(size // 6, size // 3))
    rows, columns = np.mgrid[:size, :size]
    away_rows, away_columns = np.abs(rows - row), np.abs(columns - column)
    inside = {
        "disc": away_rows**2 + away_columns**2 <= radius**2,
        "square": np.maximum(away_rows, away_columns) <= radius,
        "cross": (np.minimum(away_rows, away_columns) <= 1)
        & (np.maximum(away_rows, away_columns) <= radius),
    }[kind]
    image[inside] = random.integers(0, 110, 3)
    return image.astype(np.uint8)


def write_shapes(root: Path, count: int = 12, kinds: tuple[str, ...] = ("disc", "square")) -> Path:
    for kind in kinds:
        (root / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = shape_image(kind, 1000 * len(kind) + number)
            Image.fromarray(pixels).save(root / kind / f"{number}.png")
    return root


def write_digits(
    root: Path,
    digits: opsin.Dataset,
    rows: Iterable[int],
    folder: Callable[[int], str] = lambda row: str(row % 3),
) -> Path:
    """Write these rows of the digits, each into the folder that its number leads to."""
    for row in rows:
        path = root / folder(row) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(digits.images[row, :, :, 0])).save(path)
    return root


@contextlib.contextmanager
def without_drawing() -> Iterator[None]:
    """Train without figures and page, where nobody looks at them: they take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("opsin.commands.report.draw_run", lambda *_, **__: None)
        patch.setenv(UNDRAWN, "1")  # for the commands of `cli`
        yield


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Likewise, for every test that is not marked as one that looks at them."""
    drawn = request.node.get_closest_marker("drawn")
    with contextlib.nullcontext() if drawn else without_drawing():
        yield


@pytest.fixture(autouse=True, scope="session")
def _quick_disk() -> Iterator[None]:
    """Wait for no disk: only a power cut could show that something was not on it yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        yield


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes")


@pytest.fixture(scope="session")
def digits() -> opsin.Dataset:
    return opsin.load("digits")


@pytest.fixture(scope="session")
def nearest_mean(tmp_path_factory: pytest.TempPathFactory, digits: opsin.Dataset) -> Path:
    """A classifier.onnx that answers with the digit whose mean image is nearest; no PyTorch."""
    train = digits.split.train
    flat = digits.images[train].reshape(len(train), -1).astype(np.float64) / 255
    means = np.stack([flat[digits.labels[train] == k].mean(axis=0) for k in range(10)])
    weights = {
        "scale": np.float32(1 / 255),
        "weight": means.astype(np.float32),
        "bias": (-0.5 * (means**2).sum(axis=1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["input"]),
        helper.make_node("Flatten", ["input"], ["flatten"]),
        helper.make_node("Gemm", ["flatten", "weight", "bias"], ["head"], transB=1),
        helper.make_node("Softmax", ["head"], ["probabilities"]),
        helper.make_node("Identity", ["flatten"], ["embedding"]),
    ]
    kinds = {"input": (8, 8, 1), "flatten": (64,), "head": (10,)}
    metadata = Metadata(
        opsin=opsin.__version__,
        model="mlp",
        classes=digits.classes,
        preparation=digits.preparation,
        layers=tuple(made_layer(name, name, shape) for name, shape in kinds.items()),
        source="digits",
        fingerprint=digits.fingerprint,
    )
    images, ends = ("images", TensorProto.UINT8, ["N", 8, 8, 1]), {"probabilities": ["N", 10]}
    content = model_file(nodes, weights, images, ends | {"embedding": ["N", 64]}, about=metadata)
    path = tmp_path_factory.mktemp("nearest-mean") / "classifier.onnx"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> opsin.Run:
    pytest.importorskip("torch")
    root = tmp_path_factory.mktemp("runs")
    return opsin.train("digits", model="mlp", epochs=3, runs=root, quiet=True)


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """`opsin.train` in silence, into the folder `runs`."""
    return functools.partial(opsin.train, runs=tmp_path / "runs", quiet=True)


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    commands = Warm()
    yield commands
    commands.close()


@pytest.fixture
def cli(tmp_path: Path, warm: Warm) -> Cli:
    """Runs a command, and checks its exit status where one is given."""

    def call(*words: str | Path, status: int | None = None) -> subprocess.CompletedProcess[str]:
        done = warm.run([str(word) for word in words], cwd=tmp_path)
        assert status in (None, done.returncode), done.stdout + done.stderr
        return done

    return call


@pytest.fixture
def cold_cli(tmp_path: Path) -> Cli:
    """Likewise, but Python starts anew: for the start itself, and for limits set before it."""

    def call(
        *words: str | Path, largest_file: int = 1 << 40, status: int | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        options |= {"cwd": tmp_path, "preexec_fn": limit}
        done = python("-W", "error", "-m", "opsin", *words, check=False, **options)
        assert status in (None, done.returncode), done.stdout + done.stderr
        return done

    return call


def cli_without(
    missing: Sequence[str], *words: str | Path, cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command in a Python in which nobody can import some packages."""
    # Refused by a finder, since SciPy stumbles over a torch that is None in sys.modules.
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {tuple(missing)!r}:
            raise ModuleNotFoundError(f"no module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
from opsin.cli import main
sys.exit(main())
"""
    return python("-W", "error", "-c", code, *words, cwd=cwd, check=False)


@pytest.fixture
def backbone(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A small pretrained network, whose scale no other test has: its features are in no cache."""
    file = tmp_path / "small.onnx"
    file.write_bytes(network())
    about = {"image_mean": [sum(map(ord, request.node.name)) / 1e6] * 3, "image_std": [1, 1, 1]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    return file


@pytest.fixture(scope="session")
def _stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    watcher, runs = Notes(interrupt_at=5, training=True), tmp_path_factory.mktemp("stopped")
    options: dict[str, Any] = {"model": "mlp", "epochs": 3, "batch_size": 16, "runs": runs}
    with without_drawing():
        run = opsin.train("digits", watcher=watcher, **options)
    assert run.directory.state()[0] == "stopped"
    return run.path


@pytest.fixture
def stopped(_stopped_once: Path, tmp_path: Path) -> opsin.Run:
    """A training that Ctrl-C stopped in its first epoch."""
    return opsin.Run(shutil.copytree(_stopped_once, tmp_path / _stopped_once.name))


@pytest.fixture
def plain_run(tmp_path: Path, digits: opsin.Dataset, nearest_mean: Path) -> Path:
    """A run on the digits, whose classifier needs no PyTorch."""
    answers = answers_right(digits, 0.9)
    return write_run(tmp_path / "runs", "run", digits, answers, classifier=nearest_mean)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    pytest.importorskip("huggingface_hub")
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield server


@pytest.fixture(scope="session")
def store_port() -> Iterator[int]:
    with object_store.running() as port:
        yield port


@pytest.fixture
def store(
    store_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """A store with an empty bucket, the proxy before it, and what a command needs to reach it."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    with object_store.troubled(store_port) as store:
        for name, text in {
            "AWS_ACCESS_KEY_ID": object_store.KEY_ID,
            "AWS_SECRET_ACCESS_KEY": object_store.SECRET,
            "AWS_SESSION_TOKEN": object_store.SESSION,
            "AWS_ENDPOINT_URL": store.address,
            "GOOGLE_BEARER_TOKEN": object_store.SESSION,
            "GOOGLE_BASE_URL": store.address,
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, text)
        store.client.create_bucket(Bucket=object_store.BUCKET)
        yield store
        store.empty()


def only_json(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON object that a command printed, and nothing else."""
    lines = process.stdout.splitlines()
    assert len(lines) == 1, process.stdout + process.stderr
    content = json.loads(lines[0])
    assert isinstance(content, dict)
    return content


def write_zip(path: Path, contents: Mapping[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def a_few(cases: Iterable[Any], count: int) -> list[Any]:
    """Mark all but ``count`` cases, which lie evenly among them, as slow.

    A case is a value, or a tuple of the values of several parameters.
    """
    every = list(cases)
    step = max(1, len(every) // count)
    kept = set(range(0, len(every), step)[:count])
    return [case if number in kept else _slow(case) for number, case in enumerate(every)]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
