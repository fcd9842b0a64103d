"""What trackers keep, read back: a server of MLflow's, TensorBoard's files, files of W&B."""

import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opsin.core.platform import end_group

# Bytes of a block of W&B's files, which are logs of LevelDB behind a heading of seven bytes.
_BLOCK, _HEADING, _HEADER = 32_768, 7, struct.Struct("<IHB")


class MLflowServer:
    """`mlflow server` as a process of its own, with SQLite."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def ask(self, method: str, **content: Any) -> dict[str, Any]:
        """Call the REST API, by GET where the method's name begins with it."""
        address = f"{self.url}/api/2.0/mlflow/{method}"
        request = urllib.request.Request(
            address, json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        if method.rpartition("/")[2].startswith(("get", "list")):
            query = "&".join(f"{key}={value}" for key, value in content.items())
            request = urllib.request.Request(f"{address}?{query}")
        with urllib.request.urlopen(request, timeout=60) as reply:
            found: dict[str, Any] = json.loads(reply.read())
        return found

    def runs(self, experiment: str) -> dict[str, dict[str, Any]]:
        found = self.ask("experiments/get-by-name", experiment_name=experiment)["experiment"]
        rows = self.ask("runs/search", experiment_ids=[found["experiment_id"]]).get("runs", [])
        named = {row["info"]["run_name"]: row for row in rows}
        assert len(named) == len(rows)
        return named

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        found = self.ask("metrics/get-history", run_id=run, metric_key=metric)["metrics"]
        return [(int(each.get("step", 0)), each["value"]) for each in found]


@contextmanager
def mlflow_serving(folder: Path) -> Iterator[MLflowServer]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    words = ["--host=127.0.0.1", f"--port={port}", "--workers=1"]
    words += ["--backend-store-uri=sqlite:///mlflow.db", "--artifacts-destination=artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", *words]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        env = os.environ | quiet
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=env, start_new_session=True
        )
        try:
            server = MLflowServer(f"http://127.0.0.1:{port}", folder)
            while not _answers(server):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            yield server
        finally:
            end_group(process.pid)
            process.wait(60)


def _answers(server: MLflowServer) -> bool:
    try:
        with urllib.request.urlopen(f"{server.url}/health", timeout=60):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


def wandb_records(folder: Path) -> list[Any]:
    """Return the records of the one run that W&B keeps offline in a folder."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    records = []
    for content in _log_entries(file.read_bytes()):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined,unused-ignore]
        record.ParseFromString(content)
        records.append(record)
    return records


def _log_entries(content: bytes) -> Iterator[bytes]:
    assert content.startswith(b":W&B")
    place, entry = _HEADING, b""
    while place + _HEADER.size <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER.size:
            place += left
            continue
        _, length, kind = _HEADER.unpack_from(content, place)
        place += _HEADER.size
        entry += content[place : place + length]
        place += length
        if kind in (1, 4):  # whole, or the last part
            yield entry
            entry = b""


def tensorboard_events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run)).Reload()
