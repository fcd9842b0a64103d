"""The notebook runs in a kernel of Jupyter, and what it shows in MLflow is what the run says."""

import os
from pathlib import Path

import pytest

import opsin

NOTEBOOK = Path(__file__).parents[1] / "docs" / "how-to" / "notebooks" / "frame-to-mlflow.ipynb"
pytestmark = [pytest.mark.torch, pytest.mark.slow]


# MLflow reads its database by what SQLAlchemy is about to drop.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_a_frame_comes_to_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from mlflow import MlflowClient
    from nbclient import NotebookClient

    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    folder = tmp_path / "notebook"
    folder.mkdir()
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()

    (path,) = (folder / "runs").iterdir()
    run = opsin.Run(path)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (shown,) = client.search_runs(["0"])
    assert (shown.info.run_name, shown.info.status) == (path.name, "FINISHED")
    assert shown.data.params["model"] == "mlp"
    metrics = shown.data.metrics
    assert metrics["test/accuracy"] == run.accuracy
    assert metrics["test/accuracy_low"] == run.figures.low
    losses = client.get_metric_history(shown.info.run_id, "val_loss")
    assert [(each.step, each.value) for each in losses] == [
        (epoch.epoch, epoch.val_loss) for epoch in run.history
    ]
    assert len(losses) == 5
    (validated,) = [cell for cell in notebook.cells if "cross_val_score(" in cell.source]
    printed = validated.outputs[-1].text.split()[-1]
    assert float(printed) == metrics["cross_validation/accuracy"] > 0.7
