"""Files as Keras writes them, made without it: plain JSON and HDF5."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from opsin.importing.keras_config import read_network
from tests.conftest import write_zip

Weights = Sequence[NDArray[Any]]


def layer(kind: str, name: str, **options: Any) -> dict[str, Any]:
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, **options},
        "registered_name": None,
    }


def image(*shape: int | None) -> dict[str, Any]:
    return layer("InputLayer", "input_layer", batch_shape=[None, *shape])


def sequential(*layers: Mapping[str, Any], name: str = "sequential") -> dict[str, Any]:
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": name, "layers": list(layers)},
        "registered_name": None,
    }


def functional(
    layers: Sequence[tuple[Mapping[str, Any], Sequence[str]]], *, outputs: Sequence[str]
) -> dict[str, Any]:
    def value(name: str) -> dict[str, Any]:
        history = {"shape": [], "dtype": "float32", "keras_history": [name, 0, 0]}
        return {"class_name": "__keras_tensor__", "config": history}

    listed = []
    for each, given in layers:
        values = [value(name) for name in given]
        args = [values] if len(values) > 1 else values
        nodes: list[dict[str, Any]] = [{"args": args, "kwargs": {}}] if given else []
        listed.append({**each, "name": each["config"]["name"], "inbound_nodes": nodes})
    first = layers[0][0]["config"]["name"]
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "functional",
            "layers": listed,
            "input_layers": [[first, 0, 0]],
            "output_layers": [[name, 0, 0] for name in outputs],
        },
        "registered_name": None,
    }


def write_keras(
    path: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Weights],
    *,
    version: str = "3.15.1",
    changed: Callable[[h5py.File], object] = lambda _: None,
    further: Mapping[str, bytes] | None = None,
) -> Path:
    stored = io.BytesIO()
    layers = read_network("made", config).layers if weights else ()
    keys = {each.name: each.key for each in layers}
    with h5py.File(stored, "w") as file:
        for name, arrays in weights.items():
            group = file.create_group(f"layers/{keys[name]}/vars")
            for number, array in enumerate(arrays):
                group[str(number)] = array
        changed(file)
    members = {
        "metadata.json": json.dumps({"keras_version": version}).encode(),
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": stored.getvalue(),
        **(further or {}),
    }
    return write_zip(path, members, zipfile.ZIP_STORED)


def write_h5(
    path: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Weights],
    *,
    version: str = "2.15.0",
    changed: Callable[[h5py.File], object] = lambda _: None,
) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = version
        for name, arrays in weights.items():
            group = file.create_group(f"model_weights/{name.partition('/')[0]}")
            names = [f"{name}/{number}:0" for number in range(len(arrays))]
            group.attrs["weight_names"] = [each.encode() for each in names]
            for each, array in zip(names, arrays, strict=True):
                group[each] = array
        changed(file)
    return path


def drawn(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def tutorial() -> tuple[dict[str, Any], dict[str, Weights]]:
    config = sequential(
        image(28, 28),
        layer("Flatten", "flatten"),
        layer("Dense", "dense", units=128, activation="relu"),
        layer("Dropout", "dropout", rate=0.2),
        layer("Dense", "dense_1", units=10, activation="softmax"),
    )
    weights: dict[str, Weights] = {
        "dense": [drawn(784, 128), drawn(128)],
        "dense_1": [drawn(128, 10, seed=1), drawn(10, seed=1)],
    }
    return config, weights
