"""A checkpoint is whole and proves it, or another one is taken."""

import random
from pathlib import Path

import pytest
import torch

from opsin.core.errors import RunError, StorageError
from opsin.training.checkpoint import Checkpoints, TrainingState
from tests.made_runs import made_epoch


def tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 3, 3, 3, generator=generator)
    return {
        "network.weight": weight.contiguous(memory_format=torch.channels_last),
        "optimizer.0.step": torch.tensor(float(seed)),
        "random.cpu": generator.get_state(),
    }


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    best = made_epoch(3, train_loss=1 / 3)
    place = TrainingState(step=7, epoch=2, seen=64, best=best, loss_sum=0.1 + 0.2, seconds=1 / 3)
    kept.save(tensors(1), place)
    found, there = kept.load(7)
    assert there == place
    assert all(torch.equal(found[name], value) for name, value in tensors(1).items())


def test_the_two_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    (tmp_path / ".step-00000010.json.tmp").write_text("left by a kill")
    for step in (5, 10, 20):
        kept.save(tensors(step), TrainingState(step=step, start=5))
    assert kept.steps() == [20, 10, 5]
    for step in (30, 40):
        kept.save(tensors(step), TrainingState(step=step, start=5, best=made_epoch(10)))
    assert kept.steps() == [40, 30, 10]
    assert len(list(tmp_path.iterdir())) == 6


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    told: list[str] = []
    kept = Checkpoints(tmp_path, told.append)
    for step in (1, 2):
        kept.save(tensors(step), TrainingState(step=step))
    files = [tmp_path / "step-00000002.safetensors", tmp_path / "step-00000002.json"]
    whole = [file.read_bytes() for file in files]
    chance = random.Random(0)
    damages = 0
    for file, content in zip(files, whole, strict=True):
        for _ in range(150):
            place, bit = chance.randrange(len(content)), chance.randrange(8)
            broken = bytearray(content)
            broken[place] ^= 1 << bit
            file.write_bytes(broken)
            found = kept.newest()
            assert found is not None and found[1].step == 1, (file.name, place, bit)
            damages += 1
        for _ in range(20):
            file.write_bytes(content[: chance.randrange(len(content))])
            found = kept.newest()
            assert found is not None and found[1].step == 1
            damages += 1
        file.write_bytes(content)
    assert len(told) == damages == 340
    assert "the checkpoint before it is used" in told[0]
    found = kept.newest()
    assert found is not None and found[1].step == 2


def test_a_file_without_its_json_does_not_count(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(tensors(1), TrainingState(step=1))
    kept.save(tensors(2), TrainingState(step=2))
    (tmp_path / "step-00000002.json").unlink()  # as after a kill between the two writes
    assert kept.steps() == [1]
    kept.save(tensors(3), TrainingState(step=3))
    assert sorted(path.name for path in tmp_path.glob("*2.*")) == []
    with pytest.raises(RunError, match="cannot be read"):
        kept.load(2)


def test_a_refused_write_leaves_the_older_ones(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(tensors(1), TrainingState(step=1))
    (tmp_path / "step-00000002.json").mkdir()
    with pytest.raises(StorageError):
        kept.save(tensors(2), TrainingState(step=2))
    found = kept.newest()
    assert found is not None and found[1].step == 1
