"""Data sets of the hub by their addresses; the hub is on this machine, its libraries are real."""

import io
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Cli, only_json
from tests.data.sources.test_parquet import LABELS, PIXELS
from tests.hub_server import COMMIT, HubServer
from tests.served import encoded


def parquet(rows: range, **more: object) -> bytes:
    stream = io.BytesIO()
    images = [encoded(PIXELS[row]) for row in rows]
    labels = [LABELS[row] for row in rows]
    pd.DataFrame({"image": images, "label": labels, **more}).to_parquet(stream)
    return stream.getvalue()


@pytest.fixture
def published(hub: HubServer) -> HubServer:
    files = {
        "README.md": b"---\nlicense: mit\n---\n",
        "data/train-00000-of-00001.parquet": parquet(range(4)),
        "data/test-00000-of-00001.parquet": parquet(range(4, 6)),
    }
    hub.publish("someone/pets", files)
    return hub


def fetched(hub: HubServer) -> int:
    return sum(method == "GET" and path.endswith(".parquet") for method, path, _ in hub.asked)


@pytest.mark.slow
def test_it_is_fetched_once_and_answers_without_a_network(
    published: HubServer, cold_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cold_cli("data", "hf:someone/pets", "--no-draw", "--json")
    assert f"someone/pets is at commit {COMMIT[:12]}" in first.stderr
    said = only_json(first)
    assert (said["images"], said["classes"]) == (6, ["cat", "dog"])
    assert sum(each["test"] for each in said["counts"].values()) == 2
    assert fetched(published) == 2
    again = only_json(cold_cli("data", "hf:someone/pets", "--no-draw", "--json"))
    assert again["fingerprint"] == said["fingerprint"]
    assert fetched(published) == 2
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(published.asked)
    offline = only_json(cold_cli("data", "hf:someone/pets", "--no-draw", "--json"))
    assert offline["fingerprint"] == said["fingerprint"]
    assert len(published.asked) == asked
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    gone = cold_cli("data", "hf:someone/pets", "--no-draw")
    assert gone.returncode == 0
    assert "what is here of someone/pets is used" in gone.stderr
    assert "cannot be reached" in cold_cli("data", "hf:someone/others", "--no-draw").stderr


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf:someone/nothing", "shows you no someone/nothing"),
        pytest.param("hf:someone/pets@v9", "has no v9", marks=pytest.mark.slow),
        pytest.param("hf:someone/pets:other", "'other' not found", marks=pytest.mark.slow),
        ("hf:", "no data set of the hub"),
        pytest.param("hf:a/b/c", "no data set of the hub", marks=pytest.mark.slow),
    ],
)
def test_what_is_missing(address: str, said: str, published: HubServer, cold_cli: Cli) -> None:
    done = cold_cli("data", address, "--no-draw")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_strangers_tables_name_no_files(hub: HubServer, cold_cli: Cli, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(PIXELS[0]))
    stream = io.BytesIO()
    paths = [{"bytes": None, "path": str(secret)}] * 4
    pd.DataFrame({"image": paths, "label": ["a", "b"] * 2}).to_parquet(stream)
    hub.publish("someone/spy", {"data/train-00000-of-00001.parquet": stream.getvalue()})
    done = cold_cli("data", "hf:someone/spy", "--no-draw")
    assert done.returncode == 1
    assert "leads out of the table's folder" in done.stderr
