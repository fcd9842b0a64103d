"""The cache can be looked at and emptied, and nothing else with it."""

from pathlib import Path

import filelock
import numpy as np
import pytest

import opsin
from opsin.backbones.features import FeatureCache
from opsin.data.cache import cache_root
from tests.conftest import Cli, only_json

HASH = "0123456789abcdef" * 2


@pytest.fixture
def cache(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("OPSIN_CACHE", str(folder))
    opsin.load(shapes)
    digests = np.arange(64, dtype=np.uint8).reshape(2, 32)
    for key, name in ((HASH, "first network"), (HASH[::-1], "second network")):
        FeatureCache(key, 5, name).keep(digests, np.zeros((2, 5), np.float32))
    return folder


def test_one_part_is_emptied_and_made_again(cache: Path, shapes: Path) -> None:
    before = opsin.list_cache()
    files = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert before.bytes == sum(path.stat().st_size for path in files)
    removed = opsin.empty_cache("features")
    assert removed.bytes == before.sizes["features"] > 0
    after = opsin.list_cache()
    assert after.sizes == {**before.sizes, "features": 0}
    opsin.empty_cache()
    assert opsin.list_cache().bytes == 0
    assert len(opsin.load(shapes)) == 24


def test_only_what_is_opsins_goes(cache: Path, tmp_path: Path) -> None:
    names = ("features/notes.txt", "decoded/cats/1.jpg", "sources/my-photos/1.jpg", "thesis.txt")
    mine = [cache / name for name in (*names, "index/index.json", "../elsewhere/precious.txt")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    # A link that bears a name of ours leads to what is not.
    (cache / "features" / ("a" * 32)).symlink_to(tmp_path / "elsewhere")
    (cache / "unpacked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / ("b" * 32)).mkdir()
    within = tmp_path / "elsewhere" / ("b" * 32) / "precious.txt"
    within.write_text("mine")
    inside = cache / "features" / HASH / "link"
    inside.symlink_to(tmp_path / "elsewhere")
    opsin.empty_cache()
    assert all(path.read_text() == "mine" for path in (*mine, within))
    assert not (cache / "features" / HASH).exists()


def test_what_another_process_writes_stays(cache: Path) -> None:
    key = "ab" * 32
    unfinished = cache / "decoded" / key
    unfinished.mkdir(parents=True, exist_ok=True)
    (unfinished / "images.npy").write_bytes(bytes(100))
    with filelock.FileLock(cache / "decoded" / f"{key}.lock"):
        opsin.empty_cache("datasets")
        assert (unfinished / "images.npy").exists()
    opsin.empty_cache("datasets")
    assert not unfinished.exists()


def test_the_command_shows_and_empties(cache: Path, cli: Cli) -> None:
    shown = cli("data", "--cache")
    assert shown.returncode == 0, shown.stderr
    assert str(cache_root()) in shown.stdout
    sizes = only_json(cli("data", "--cache", "--json"))["parts"]
    emptied = only_json(cli("data", "--cache", "--empty", "features", "--json"))
    assert emptied["removed"]["bytes"] == sizes["features"] > 0
    assert emptied["parts"] == {**sizes, "features": 0}
    assert cli("data", "--cache", "--empty", "all").returncode == 0
    assert opsin.list_cache().bytes == 0
