"""What benchmarks/training.py compares with; it runs in the peers' environment, without Opsin.

    KERAS_BACKEND=jax python benchmarks/peers.py keras TASK.json

TASK.json holds ``network`` (mlp or cnn), ``classes`` (their number), ``epochs``, ``batch_size``,
``seed`` and ``arrays``: path of an .npz file of ``x_train`` (``uint8[N, H, W, C]``), ``y_train``
(``int64[N]``) and the same for val and test. One line of JSON comes out: seconds, accuracies and
the number of parameters.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader


def main() -> None:
    """Train one peer and print what it took and reached."""
    peer, file = sys.argv[1:]
    task = json.loads(Path(file).read_text(encoding="utf-8"))
    print(json.dumps({"keras": _keras, "pytorch": _pytorch}[peer](task)))


def _arrays(task: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Read them, pixels as ``float32[N, H, W, C]`` from 0 to 1 as the tutorials do."""
    with np.load(task["arrays"]) as file:
        return {
            name: file[name].astype(np.float32) / 255 if name[0] == "x" else file[name]
            for name in file.files
        }


def _keras(task: dict[str, Any]) -> dict[str, Any]:
    keras: Any = importlib.import_module("keras")
    data = _arrays(task)
    keras.utils.set_random_seed(task["seed"])
    model = _keras_model(keras, data["x_train"].shape[1:], task)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    clock = _Clock()
    history = model.fit(
        data["x_train"],
        data["y_train"],
        batch_size=task["batch_size"],
        epochs=task["epochs"],
        validation_data=(data["x_val"], data["y_val"]),
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: clock.lap())],
    )
    train = clock.whole()
    _, accuracy = model.evaluate(data["x_test"], data["y_test"], verbose=0)
    return {
        "parameters": model.count_params(),
        "train": train,
        "epochs": clock.epochs,
        "val_accuracy": history.history["val_accuracy"],
        "test_accuracy": accuracy,
    }


def _keras_model(keras: Any, shape: tuple[int, ...], task: dict[str, Any]) -> Any:
    """Write opsin.models.mlp and opsin.models.cnn in Keras's words."""
    layers = keras.layers
    model = keras.Sequential([layers.Input(shape)])
    if task["network"] == "cnn":
        for filters in (32, 64, 128):
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
            model.add(layers.BatchNormalization())
            model.add(layers.Conv2D(filters, 3, activation="relu"))
            model.add(layers.MaxPooling2D())
            model.add(layers.Dropout(0.5))
    model.add(layers.Flatten())
    if task["network"] == "mlp":
        model.add(layers.Dense(128, activation="relu"))
    model.add(layers.Dense(task["classes"]))
    return model


class _Clock:
    """Seconds of each epoch, validation included.

    Where one ends and the next begins is no matter of opinion: JAX still computes what was asked
    for when its training returns, but has to have its figures at the epoch's end.
    """

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self._made = self._began = time.perf_counter()

    def lap(self) -> None:
        now = time.perf_counter()
        self.epochs.append(now - self._began)
        self._began = now

    def whole(self) -> float:
        return time.perf_counter() - self._made


def _pytorch(task: dict[str, Any]) -> dict[str, Any]:
    """Train as https://docs.pytorch.org/tutorials/beginner/basics/quickstart_tutorial does."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415
    from torch.utils.data import DataLoader, TensorDataset  # noqa: PLC0415

    data = _arrays(task)
    torch.manual_seed(task["seed"])
    loaders = {}
    for part in ("train", "val", "test"):
        images = torch.from_numpy(data[f"x_{part}"].transpose(0, 3, 1, 2).copy())
        pairs = TensorDataset(images, torch.from_numpy(data[f"y_{part}"]))
        loaders[part] = DataLoader(pairs, batch_size=task["batch_size"], shuffle=part == "train")
    model = _pytorch_model(data["x_train"].shape[1:], task)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    clock, accuracies = _Clock(), []
    for _ in range(task["epochs"]):
        model.train()
        for batch, (images, labels) in enumerate(loaders["train"]):
            loss = loss_fn(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if batch % 100 == 0:
                loss.item()
        accuracies.append(_pytorch_accuracy(model, loaders["val"]))
        clock.lap()
    held = [value for name, value in model.state_dict().items() if "num_batches" not in name]
    return {
        "parameters": sum(value.numel() for value in held),
        "train": clock.whole(),
        "epochs": clock.epochs,
        "val_accuracy": accuracies,
        "test_accuracy": _pytorch_accuracy(model, loaders["test"]),
    }


def _pytorch_accuracy(model: nn.Module, loader: DataLoader[Any]) -> float:
    import torch  # noqa: PLC0415

    model.eval()
    loss, right, count = 0.0, 0.0, 0
    with torch.no_grad():
        for images, labels in loader:
            logits = model(images)
            loss += torch.nn.functional.cross_entropy(logits, labels).item()
            right += (logits.argmax(1) == labels).type(torch.float).sum().item()
            count += len(labels)
    return right / count


def _pytorch_model(shape: tuple[int, ...], task: dict[str, Any]) -> nn.Sequential:
    from torch import nn  # noqa: PLC0415

    height, width, channels = shape
    layers: list[nn.Module] = []
    if task["network"] == "cnn":
        for filters in (32, 64, 128):
            layers += [
                nn.Conv2d(channels, filters, 3, padding=1),
                nn.ReLU(),
                nn.BatchNorm2d(filters),
                nn.Conv2d(filters, filters, 3),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Dropout(0.5),
            ]
            height, width, channels = (height - 2) // 2, (width - 2) // 2, filters
    units = height * width * channels
    layers.append(nn.Flatten())
    if task["network"] == "mlp":
        layers += [nn.Linear(units, 128), nn.ReLU()]
        units = 128
    return nn.Sequential(*layers, nn.Linear(units, task["classes"]))


if __name__ == "__main__":
    main()
