"""Weights by name, out of safetensors and both forms of checkpoints of PyTorch."""

import itertools
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError
from opsin.onnx_files.tensor_file import LEGACY, read_tensors
from tests.importing.made_keras import drawn


def write_safetensors(path: Path, tensors: dict[str, NDArray[Any]]) -> Path:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    ends = [0, *itertools.accumulate(values.nbytes for values in tensors.values())]
    for at, (name, values) in zip(itertools.pairwise(ends), tensors.items(), strict=True):
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": at}
    text = json.dumps(header).encode()
    numbers = b"".join(values.tobytes() for values in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)
    return path


def chain() -> dict[str, NDArray[Any]]:
    return {
        "stack.0.weight": drawn(8, 16),
        "stack.0.bias": drawn(8, seed=1),
        "stack.2.weight": drawn(3, 8, seed=2),
        "stack.2.bias": drawn(3, seed=3),
    }


def test_safetensors_are_read(tmp_path: Path) -> None:
    found = read_tensors(write_safetensors(tmp_path / "w.safetensors", chain()))
    assert list(found) == list(chain())
    for name, values in chain().items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_pytorch_are_read(tmp_path: Path, zipped: bool) -> None:
    import torch

    def save(what: object, name: str) -> None:
        torch.save(what, tmp_path / name, _use_new_zipfile_serialization=zipped)

    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    state = network.state_dict()
    save(state, "plain.pt")
    whole = {"epoch": 3, "model_state_dict": state, "optimizer": optimizer.state_dict()}
    save(whole, "whole.pt")
    turned = torch.arange(12.0).reshape(3, 4).T
    save({"turned": turned, "part": turned[1:, :2]}, "views.pt")
    for file in ("plain.pt", "whole.pt"):
        found = read_tensors(tmp_path / file)
        assert list(found) == list(state)
        for name, values in state.items():
            np.testing.assert_array_equal(found[name], values.numpy())
    views = read_tensors(tmp_path / "views.pt")
    np.testing.assert_array_equal(views["turned"], turned.numpy())
    np.testing.assert_array_equal(views["part"], turned[1:, :2].numpy())
    save(network, "module.pt")
    with pytest.raises(ModelFileError, match=r"more than weights.*torch\.save\(model\.state_dict"):
        read_tensors(tmp_path / "module.pt")


def legacy(state: dict[str, NDArray[Any]], **changed: bytes) -> bytes:
    """Return a checkpoint as PyTorch wrote it before its zip; parts may be other bytes."""
    # What pickle writes for them: a reference to a storage, in a call that rebuilds a tensor.
    entries = []
    for name, values in state.items():
        shape, strides = values.shape, [step // values.itemsize for step in values.strides]
        dims = "".join(f"I{n}\n" for n in shape), "".join(f"I{n}\n" for n in strides)
        entries.append(
            f"V{name}\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\n"
            f"V{name}\nVcpu\nI{values.size}\nNtQI0\n({dims[0]}t({dims[1]}tI00\n"
            "ccollections\nOrderedDict\n)RtRs"
        )
    parts = {
        "magic": LEGACY,
        "version": pickle.dumps(1001, 2),
        "system": pickle.dumps({"little_endian": True}, 2),
        "weights": b"\x80\x02}" + "".join(entries).encode() + b".",
        "keys": pickle.dumps(list(state), 2),
        "numbers": b"".join(
            struct.pack("<q", values.size) + values.tobytes() for values in state.values()
        ),
    }
    return b"".join((parts | changed).values())


STATE = {"a": drawn(2, 3), "b": drawn(4, seed=1)}


def read_bytes(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    path.write_bytes(content)
    return read_tensors(path)


def test_the_form_before_the_zip_is_read_without_pytorch(tmp_path: Path) -> None:
    found = read_bytes(tmp_path / "w.pth", legacy(STATE))
    assert list(found) == ["a", "b"]
    for name, values in STATE.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": pickle.dumps(print, 2)}, {"weights": b"\x80\x02cos\nsystem\n(Vtrue\ntR."},
        {"weights": legacy(STATE)[:-8]}, {"system": pickle.dumps({"little_endian": False}, 2)},
        {"system": pickle.dumps([], 2)}, {"keys": pickle.dumps(["a", "c"], 2)},
        {"keys": pickle.dumps(7, 2)}, {"keys": b""}, {"numbers": struct.pack("<q", 1 << 60)},
        {"numbers": struct.pack("<q", -1) + bytes(64)}, {"numbers": b""},
    ],
)  # fmt: skip
def test_a_damaged_one_is_refused(tmp_path: Path, changed: dict[str, bytes]) -> None:
    with pytest.raises(ModelFileError):
        read_bytes(tmp_path / "w.pth", legacy(STATE, **changed))


@given(st.data())
def test_any_other_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(legacy(STATE))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    path = tmp_path_factory.mktemp("odd") / "w.pth"
    try:
        found = read_bytes(path, bytes(content[:end]))
    except ModelFileError:
        return
    assert sum(values.size for values in found.values()) <= 10
