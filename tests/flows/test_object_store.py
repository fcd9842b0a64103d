"""Images and answers on an object store, as users meet them, and what goes wrong there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.run_images import load_run_images
from tests.conftest import Cli, a_few, only_json, write_digits
from tests.object_store import BUCKET, KEY_ID, SECRET, SESSION, Fault, ObjectStore

PHOTOS = f"s3://{BUCKET}/photos"


@pytest.fixture
def photos(tmp_path: Path, digits: opsin.Dataset, store: ObjectStore) -> Path:
    """Sixty images in three folders, one of them in a folder of its own; the same on the store."""
    folder, inner = tmp_path / "photos", ("a", "b/deep", "c")
    write_digits(folder, digits, range(60), lambda row: inner[row % 3])
    (folder / "7 loose é+&%.png").write_bytes((folder / "a" / "9.png").read_bytes())
    (folder / "a" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / "a" / "notes.txt").write_text("no image")
    store.upload(folder, "photos")
    return folder


def failed(process: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of an error, which holds no secret and no trace."""
    assert process.returncode == 1, process.stdout + process.stderr
    lines = [line for line in process.stderr.splitlines() if line.startswith("opsin: ")]
    assert len(lines) == 1, process.stderr
    for secret in (KEY_ID, SECRET, SESSION, "Traceback"):
        assert secret not in process.stdout + process.stderr
    return lines[0]


@pytest.mark.parametrize("form", a_few(["csv", "jsonl", "parquet"], 1))
def test_answers_are_those_of_a_folder(
    cli: Cli, nearest_mean: Path, photos: Path, store: ObjectStore, form: str
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    local = only_json(cli("predict", nearest_mean, photos, "--out", f"local.{form}", "--json"))
    there = f"s3://{BUCKET}/answers.{form}"
    done = only_json(cli("predict", nearest_mean, PHOTOS, "--out", there, "--json"))
    assert done == local | {"out": there, "seconds": done["seconds"]}
    assert (done["images"], done["unreadable"]) == (62, 1)
    plain = (photos.parent / f"local.{form}").read_bytes()
    assert store.content(f"answers.{form}") == plain
    # Each image was fetched once.
    assert len(store.fetched("photos/photos/")) == len(set(store.fetched("photos/photos/"))) == 62
    cli("predict", nearest_mean, PHOTOS, "--out", f"here.{form}")
    assert (photos.parent / f"here.{form}").read_bytes() == plain
    store.put("mine.csv", b"mine")
    said = failed(cli("predict", nearest_mean, PHOTOS, "--out", f"s3://{BUCKET}/mine.csv"))
    assert f"s3://{BUCKET}/mine.csv is there already" in said
    assert store.content("mine.csv") == b"mine"


@pytest.mark.slow
def test_the_same_command_answers_what_is_new_and_nothing_else(
    cli: Cli, nearest_mean: Path, photos: Path, store: ObjectStore
) -> None:
    out = f"s3://{BUCKET}/answers.csv"
    words = ("predict", nearest_mean, PHOTOS, "--out", out, "--json")
    only_json(cli(*words))
    store.asked.clear()
    assert only_json(cli(*words))["resumed"] == 62
    assert store.fetched("") == []
    assert not any(method == "PUT" for method, _ in store.asked)
    store.put("photos/a/1000.png", store.content("photos/a/3.png"))  # added
    done = only_json(cli(*words))
    assert done["images"] == 63
    assert store.fetched("") == ["photos/a/1000.png"]
    assert len(set(store.content("answers.csv").splitlines())) == 64


@pytest.mark.slow
def test_embeddings_are_those_of_a_folder(
    cli: Cli, backbone: Path, photos: Path, store: ObjectStore
) -> None:
    shutil.rmtree(photos / "b")
    for key in store.keys("photos/b/"):
        store.client.delete_object(Bucket=BUCKET, Key=key)
    out = f"s3://{BUCKET}/features.npz"
    there = only_json(cli("embed", PHOTOS, "--from", backbone, "--out", out, "--json"))
    here = only_json(cli("embed", photos, "--from", backbone, "--out", "here.npz", "--json"))
    assert there["classes"] == here["classes"] == ["a", "c"]
    stored = photos.parent / "there.npz"
    stored.write_bytes(store.content("features.npz"))
    with np.load(stored) as one, np.load(photos.parent / "here.npz") as other:
        names = set(one.files) - {"about"}
        assert names == set(other.files) - {"about"}
        assert all(np.array_equal(one[name], other[name]) for name in names)
    assert "is there already" in failed(cli("embed", PHOTOS, "--from", backbone, "--out", out))


@pytest.mark.slow
def test_keys_are_data(
    cli: Cli, nearest_mean: Path, photos: Path, store: ObjectStore, tmp_path: Path
) -> None:
    content = store.content("photos/a/9.png")
    odd = {"a/back\\slash.png", "a/50%25.png", f"a/{'n' * 900}.png"}
    for key in (".hidden.png", "a/.git/z.png", *odd):
        store.put(f"odd/{key}", content)
    words = ("predict", nearest_mean, f"s3://{BUCKET}/odd")
    done = only_json(cli(*words, "--json", "--out", "odd.jsonl"))
    lines = (tmp_path / "odd.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["image"] for line in lines} == odd
    assert (done["images"], done["unreadable"]) == (3, 0)
    assert "is on a store" in failed(cli(*words, "--sort-into", "sorted"))
    assert not (tmp_path / "sorted").exists()
    store.put("odd/../x.png", content)
    assert "without a name between slashes" in failed(cli(*words))


@pytest.mark.slow
def test_a_labelled_folder(cli: Cli, shapes: Path, store: ObjectStore) -> None:
    store.upload(shapes, "shapes")
    there = f"s3://{BUCKET}/shapes"
    told = only_json(cli("data", there, "--json"))
    here = only_json(cli("data", shapes, "--json"))
    assert told["fingerprint"] == here["fingerprint"]
    assert sorted(set(store.fetched("shapes"))) == store.keys("shapes/")
    store.asked.clear()
    trained = only_json(cli("train", there, "--model", "logistic", "--json"))
    assert store.fetched("shapes") == []  # they are in the cache
    run = RunDirectory(shapes.parent / trained["run"])
    assert len(load_run_images(run)) == 24  # where they were
    scored = only_json(cli("evaluate", trained["run"], there, "--json"))
    local = only_json(cli("evaluate", trained["run"], shapes, "--json"))
    assert scored["accuracy"] == local["accuracy"]
    kept = [path for path in Path(shapes.parent / trained["run"]).rglob("*") if path.is_file()]
    for secret in (KEY_ID, SECRET, SESSION):
        assert not [path for path in kept if secret.encode() in path.read_bytes()]
    store.put("shapes/disc/0.png", store.content("shapes/disc/1.png"))
    assert only_json(cli("data", there, "--json"))["fingerprint"] != told["fingerprint"]


@pytest.mark.slow
def test_a_table(cli: Cli, shapes: Path, store: ObjectStore) -> None:
    fingerprint = only_json(cli("data", shapes, "--json"))["fingerprint"]
    rows = [
        f"{path.parent.name}/{path.name},{path.parent.name}"
        for path in sorted(shapes.rglob("*.png"), key=lambda p: (p.parent, int(p.stem)))
    ]
    (shapes / "all.csv").write_text("\n".join(["path,label", *rows, ""]))
    store.upload(shapes, "shapes")
    told = only_json(cli("data", f"s3://{BUCKET}/shapes/all.csv", "--json"))
    assert told["fingerprint"] == fingerprint
    store.put("shapes.zip", b"PK")
    assert "Fetch archives" in failed(cli("data", f"s3://{BUCKET}/shapes.zip"))
    for path in ("../secret.png", "/etc/x.png", "s3://other/x.png", "a/../../x.png"):
        store.put("shapes/bad.csv", f"path,label\n{path},a\n".encode())
        said = failed(cli("data", f"s3://{BUCKET}/shapes/bad.csv"))
        assert f"Line 2 of s3://{BUCKET}/shapes/bad.csv names" in said


def test_a_source_that_is_not_there(cli: Cli, nearest_mean: Path, store: ObjectStore) -> None:
    store.put("photos/notes.txt", b"no image")
    for source, said in {
        "s3://no-such-bucket/photos": "There is no bucket no-such-bucket",
        f"s3://{BUCKET}/none": f"There is nothing at s3://{BUCKET}/none",
        "s3://": "no address such as s3://bucket/photos",
        "s3://Not a bucket/x": "has no bucket",
        "abfs://bucket/photos": "does not begin with s3://, gs:// or az://",
        f"gs://{BUCKET}/none": f"There is nothing at gs://{BUCKET}/none",
        f"{PHOTOS}/notes.txt": "notes.txt is no image or table",
    }.items():
        assert said in failed(cli("predict", nearest_mean, source))
    assert said in failed(cli("data", source))


@pytest.mark.parametrize(
    ("trouble", "said"),
    a_few(
        [
            ("busy", "refused again and again (SlowDown)"),
            ("expired", "have expired"),
            ("denied", "You have no right to read"),
            ("unknown", "credentials or settings for s3://photos/"),
        ],
        1,
    ),
)
def test_trouble_in_the_middle_costs_nothing(
    cli: Cli, nearest_mean: Path, photos: Path, store: ObjectStore, trouble: str, said: str
) -> None:
    cli("predict", nearest_mean, photos, "--out", "plain.csv")
    store.faults = [Fault(trouble, part="/photos/photos/c/", spare=5)]  # type: ignore[arg-type]
    words = ("predict", nearest_mean, PHOTOS, "--out", "answers.csv", "--json")
    stopped = cli(*words)
    assert said in failed(stopped)
    before = (photos.parent / "answers.csv").read_bytes().splitlines()
    assert 40 < len(before) < 63  # with its heading
    store.faults, store.asked = [], []
    done = only_json(cli(*words))
    assert done["resumed"] == len(before) - 1
    assert len(store.fetched("")) == 62 - done["resumed"]
    plain = (photos.parent / "plain.csv").read_bytes()
    assert (photos.parent / "answers.csv").read_bytes() == plain


@pytest.mark.parametrize("verb", a_few(["predict", "embed"], 1))
def test_of_two_commands_on_one_object_the_second_is_refused(
    nearest_mean: Path, backbone: Path, photos: Path, store: ObjectStore, verb: str
) -> None:
    out = f"s3://{BUCKET}/answers.{'csv' if verb == 'predict' else 'npz'}"
    key = out.rpartition("/")[2]
    words = (
        ["predict", nearest_mean, PHOTOS]
        if verb == "predict"
        else ["embed", PHOTOS, "--from", backbone]
    )
    store.faults = [Fault("kept back", part="/photos/photos/", times=1)]
    with subprocess.Popen(
        [sys.executable, "-m", "opsin", *map(str, words), "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=photos.parent,
    ) as process:
        assert store.waiting.wait(60)
        store.put(key, b"of another machine")
        store.released.set()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Another object was written to {out} meanwhile" in said
    assert store.content(key) == b"of another machine"


@pytest.mark.slow
@pytest.mark.parametrize("arrived", [False, True])
def test_killed_while_it_is_sent(
    cli: Cli, nearest_mean: Path, photos: Path, store: ObjectStore, *, arrived: bool
) -> None:
    words = ["predict", str(nearest_mean), PHOTOS, "--out", f"s3://{BUCKET}/answers.csv"]
    store.faults = [Fault("kept back", method="PUT", times=1)]
    process = subprocess.Popen([sys.executable, "-m", "opsin", *words], cwd=photos.parent)
    assert store.waiting.wait(60)
    if not arrived:
        store.client.delete_object(Bucket=BUCKET, Key="answers.csv")
    process.send_signal(signal.SIGKILL)
    process.wait()
    store.released.set()
    store.asked.clear()
    done = only_json(cli(*words, "--json"))
    assert done["resumed"] == done["images"] == 62
    assert store.fetched("photos/photos/") == []
    assert store.keys("answers") == ["answers.csv"]
    assert "on a store" in failed(cli(*words, "--shard", "1/2"))


def test_without_the_extra(cold_cli: Cli, nearest_mean: Path, tmp_path: Path) -> None:
    (tmp_path / "obstore.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = cold_cli(
        "predict", nearest_mean, "s3://photos/a", env=os.environ | {"PYTHONPATH": path}, status=1
    )
    assert "pip install 'opsin[s3]'" in done.stderr


def test_no_store_answers(
    cli: Cli, nearest_mean: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://someone:secret@127.0.0.1:1")
    assert "AWS_ENDPOINT_URL is no address" in failed(cli("predict", nearest_mean, PHOTOS))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert f"{PHOTOS} got no answer" in failed(cli("predict", nearest_mean, PHOTOS))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    said = failed(cli("predict", nearest_mean, PHOTOS))
    assert "credentials or settings for s3://photos/" in said
