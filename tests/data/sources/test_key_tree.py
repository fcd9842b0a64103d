"""The walk over keys gives what the walk over a folder with the same files gives."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from opsin.data.image_tree import ImageTree
from opsin.data.sources import key_tree
from opsin.data.sources.key_tree import KeyTree
from opsin.stores.bucket import open_bucket
from opsin.stores.store_address import StoreAddress
from tests.object_store import BUCKET, ObjectStore
from tests.variants import a_few

_NAMES = ("2", "10", "010", "Cat", "cat", "é", "b.c", "a b", "a-", "a", ".hidden", "z+")


def made_tree(root: Path, seed: int) -> None:
    """Write a folder of files, few of them images, and a run."""
    chance = random.Random(seed)
    for _ in range(60):
        folders = chance.choices(_NAMES, k=chance.randrange(4))
        path = root.joinpath(*folders, chance.choice(_NAMES) + chance.choice((".png", ".JPG", "")))
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    run = root / "runs" / "1"
    run.mkdir(parents=True)
    for name in ("recipe.json", "status.json", "figure.png"):
        (run / name).write_bytes(b"")


@pytest.mark.parametrize("seed", a_few(range(4), 1))
def test_the_images_of_a_folder_in_its_order(
    tmp_path: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    made_tree(tmp_path / "tree", seed)
    store.upload(tmp_path / "tree", "tree")
    address = StoreAddress(BUCKET, "tree")
    local = ImageTree(tmp_path / "tree")
    expected = list(local.images())
    tree = KeyTree(open_bucket(StoreAddress(BUCKET, "")), address)
    assert list(tree.images()) == expected
    assert (tree.runs, local.runs) == (1, 1)
    assert tree.folders("") == local.folders("")
    assert tree.loose() == local.loose()
    assert [name for name, _ in tree.stream()] == expected
    assert tree.runs == 1
    # Where there is too much to be sorted, it comes as the store has it.
    monkeypatch.setattr(key_tree, "SORTED", 5)
    names = [name for name, _ in tree.stream()]
    assert set(expected) < set(names)  # runs are not looked for
    store.asked.clear()
    assert len(list(tree.stream())) == len(names)
    assert len(store.asked) == 1


def test_nothing_below(store: ObjectStore) -> None:
    tree = KeyTree(open_bucket(StoreAddress(BUCKET, "")), StoreAddress(BUCKET, "none"))
    assert (tree.is_empty(), list(tree.images()), tree.folders("")) == (True, [], [])
