"""What the pages on extending Opsin show works, each in one file."""

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.evaluation.metric_table import METRICS, summary_of
from opsin.evaluation.metrics import measure
from opsin.report.templates import environment
from tests.conftest import without_drawing
from tests.http_servers import listening
from tests.processes import python
from tests.warm import Warm

# The page's examples, each a change in one place.
pytestmark = pytest.mark.docs

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "how-to"


def code_of(section: str, number: int = 0, page: str = "extend") -> str:
    _, _, text = (PAGES / f"{page}.md").read_text(encoding="utf-8").partition(section)
    return str(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number])


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Lay the example's module among the kinds, and write 60 scans."""
    room = tmp_path / "sources"
    room.mkdir()
    (room / "scans.py").write_text(code_of("## Add a kind of source\n"), encoding="utf-8")
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(room)])
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    sources.kinds.cache_clear()
    records = np.random.default_rng(0).integers(0, 256, (60, 65)).astype(np.uint8)
    records[:, 0] = np.arange(60) % 3
    file = tmp_path / "digits.scan"
    records.tofile(file)
    yield file
    sources.kinds.cache_clear()


def test_a_source_kind_is_one_module(scans: Path) -> None:
    assert "a .scan file" in sources.kinds_in_words()
    dataset = opsin.load(str(scans))
    assert (len(dataset), dataset.classes) == (60, ("0", "1", "2"))
    images = list(sources.open_stream(scans))
    assert len(images) == 60
    written = sources.find_all(DataRecipe.of(str(scans))).open().images
    assert images[7].name == "7"
    assert np.asarray(written).shape == (60, 8, 8, 1)
    with zipfile.ZipFile(scans.with_suffix(".zip"), "w") as archive:
        archive.write(scans, "wrapped/digits.scan")
    assert opsin.load(scans.with_suffix(".zip")).fingerprint == dataset.fingerprint


# In a process of its own: NiceGUI keeps one application a process.
_ASK_FOR_PAGE = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from opsin.studio import pages
from opsin.studio.app import build
from opsin.studio.context import Studio
from opsin.studio.settings import StudioSettings

folder = Path(sys.argv[1])
pages.__path__.append(str(folder / "pages"))
studio = Studio(StudioSettings(runs=folder, home=folder / "home", roots=(folder,)))
studio.hold()
with TestClient(build(studio)) as client:
    texts = [client.get(address).text for address in ("/", "/accuracies?least=0.9")]
print(*texts, sep="<separator>")
"""


def test_a_page_of_the_studio_is_one_module(tmp_path: Path) -> None:
    pytest.importorskip("nicegui")
    (tmp_path / "pages").mkdir()
    module = tmp_path / "pages" / "accuracies.py"
    module.write_text(code_of("## Add a page to the studio\n"), encoding="utf-8")
    done = python("-c", _ASK_FOR_PAGE, tmp_path)
    home, page = done.stdout.split("<separator>")
    assert "Accuracies" in home  # in the menu
    assert "Classifiers with an accuracy appear here." in page


@pytest.fixture
def _metrics_restored() -> Iterator[None]:
    before = list(METRICS)
    yield
    METRICS[:] = before


@pytest.mark.usefixtures("_metrics_restored")
def test_a_metric_is_one_row() -> None:
    pytest.importorskip("nicegui")
    from opsin.studio.pages.results import figure_rows

    exec(compile(code_of("## Add a metric\n"), "the page", "exec"), {})
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]], np.float32)
    measured = measure(probabilities, np.array([0, 1, 1, 1]), ["cat", "dog"])
    assert measured.model_dump(mode="json", exclude_unset=True)["cohen_kappa"] == pytest.approx(0.5)
    assert ("Cohen's kappa", "0.5000") in figure_rows(measured)
    rows = "{% for row in figures|known_metrics %}{{ row.name }};{% endfor %}"
    assert "Cohen&#39;s kappa;" in environment().from_string(rows).render(figures=measured)
    assert "kappa" not in summary_of(measured)


@pytest.mark.torch
def test_an_observer_is_a_class_of_empty_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code_of("# ", page="watch-a-training"), "the page", "exec"), names)
    run, tracker = names["run"], names["JsonLines"]
    file = tmp_path / f"{run.path.name}.jsonl"

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in file.read_text().splitlines()]

    kept = [{"epoch": row.epoch, "val_accuracy": row.val_accuracy} for row in run.history]
    assert lines() == [*kept, {"state": "done", "accuracy": run.accuracy}]
    assert "Device" in capsys.readouterr().err  # the display is there as well

    class Failing(opsin.Watcher):
        def epoch(self, epoch: opsin.Epoch) -> None:
            raise ConnectionError("no server")

    observers = [Failing(), tracker(tmp_path)]
    longer = opsin.resume(run, epochs=3, observers=observers)
    file = tmp_path / f"{longer.path.name}.jsonl"
    assert [line.get("epoch") for line in lines()] == [3, None]
    assert longer.directory.state() == ("done", None)
    told = capsys.readouterr().err
    assert "the observer Failing failed (ConnectionError('no server'))" in told


def test_a_tracker_is_one_module(warm: Warm, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "src" / "opsin" / "trackers" / "webhook.py"
    module.write_text(code_of("## Add an experiment tracker\n"), encoding="utf-8")
    told: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            told.append(json.loads(content)["text"].partition(": ")[2])
            self.send_response(204)
            self.end_headers()

    warm.run(["--version"], cwd=tmp_path)  # it begins with this environment, not with the copy's
    words = ("train", "digits", "--model", "logistic", "--classes", "0,1", "--json", "--track")
    with listening(Hook) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEBHOOK_URL", f"{address}/")
        patch.setenv("PYTHONPATH", str(tmp_path / "src"))
        done = warm.run([*words, "webhook"], cwd=tmp_path / "src")  # where `opsin` is the copy
    assert done.returncode == 0, done.stderr
    accuracy = opsin.Run(tmp_path / "src" / json.loads(done.stdout)["run"]).accuracy
    assert told[0] == "logistic on ['digits']"
    assert told[1].startswith("epoch 1: val_accuracy ")
    assert told[2:] == [f"epoch 1: test/accuracy {accuracy:.4f}", "done"]


@pytest.mark.torch
def test_two_processes_train_one_run(tmp_path: Path) -> None:
    (tmp_path / "together.py").write_text(code_of("# ", page="many-machines"))
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "together.py")
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = python(*words, cwd=tmp_path, env=env)
    (path,) = (tmp_path / "runs").iterdir()
    # Two processes write to one place: the line of one may begin before that of the other ends.
    assert done.stdout.count(f"runs/{path.name}") == 2
    assert done.stderr.count("Trained ") == 1  # one process shows progress
    together = opsin.Run(path)
    assert together.directory.state() == ("done", None)
    # The same steps as by one process, but for the order in which numbers are added up.
    with without_drawing():
        alone = opsin.train("digits", model="mlp", epochs=2, runs=tmp_path / "alone", quiet=True)
    for one, two in zip(alone.history, together.history, strict=True):
        for figure in ("step", "train_loss", "val_loss", "val_accuracy"):
            assert getattr(two, figure) == pytest.approx(getattr(one, figure), rel=1e-3)


@pytest.mark.torch
def test_an_architecture_is_one_file_and_an_operator_one_row(warm: Warm, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    package = tmp_path / "src" / "opsin"
    module = package / "models" / "architectures" / "strided.py"
    module.write_text(code_of("## Add a network of your own\n"), encoding="utf-8")
    words = ("train", "digits", "--model", "strided", "--epochs", "1", "--json")

    def run_copy(*words: str) -> subprocess.CompletedProcess[str]:
        return warm.run(words, cwd=package.parent)  # where `opsin` is the copy

    refused = run_copy(*words)
    assert refused.returncode == 1
    assert "softsign1 is Softsign" in refused.stderr
    assert not (package.parent / "runs").exists()

    file = package / "onnx_files" / "operators.py"
    before = file.read_text(encoding="utf-8")
    row = code_of("## Add a network of your own\n", 1).strip()
    after = before.replace("_ROWS: Final = (\n", f"_ROWS: Final = (\n    {row},\n")
    assert after != before
    file.write_text(after, encoding="utf-8")
    with without_drawing():
        trained = run_copy(*words)
    assert trained.returncode == 0, trained.stderr
    run = json.loads(trained.stdout)["run"]
    assert "strided (convolutions of stride 2)" in " ".join(
        run_copy("train", "--help").stdout.split()
    )
    looked = run_copy("inspect", run, "test/0", "--explain", "--json")
    assert looked.returncode == 0, looked.stderr
