"""One image, answered as people write it themselves.

    python benchmarks/answering_peers.py make FOLDER
    python benchmarks/answering_peers.py pytorch FOLDER IMAGE
    KERAS_BACKEND=tensorflow python benchmarks/answering_peers.py keras FOLDER IMAGE

FOLDER holds ``network.json`` (classes, height, width, channels, stages, activation, temperature)
and ``weights.npz`` (the weights of a `resnet` of Opsin's by their names in its file). ``make``
writes the same network as ``network.pt`` (a state dict) and, where Keras is installed, as
``network.keras``; the others are what benchmarks/prediction.py times as whole processes. They
print the label and its probability, and all run in the peers' environment.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn


def main() -> None:
    """Make the peers' files, or answer for one image."""
    verb, folder, *image = sys.argv[1:]
    if verb == "make":
        _make(Path(folder))
        return
    probabilities = {"keras": _keras, "pytorch": _pytorch}[verb](Path(folder), image[0])
    best = int(probabilities.argmax())
    print(description(Path(folder))["classes"][best], float(probabilities[best]))


def description(folder: Path) -> dict[str, Any]:
    """Read what the network is like."""
    content: dict[str, Any] = json.loads((folder / "network.json").read_text(encoding="utf-8"))
    return content


def _keras(folder: Path, path: str) -> NDArray[np.float32]:
    """Answer as https://keras.io/guides/serialization_and_saving has it."""
    keras: Any = importlib.import_module("keras")
    like = description(folder)
    model = keras.models.load_model(folder / "network.keras")
    mode = "rgb" if like["channels"] == 3 else "grayscale"
    size = (like["height"], like["width"])
    image = keras.utils.load_img(path, color_mode=mode, target_size=size, interpolation="bilinear")
    pixels = np.expand_dims(keras.utils.img_to_array(image), 0)
    return np.asarray(model.predict(pixels, verbose=0)[0], np.float32)


def _pytorch(folder: Path, image: str) -> NDArray[np.float32]:
    import torch  # noqa: PLC0415

    network = load_pytorch(folder)
    pixels = decode(Path(image).read_bytes(), description(folder))
    with torch.inference_mode():
        answer = network(torch.from_numpy(pixels)[None])[0].softmax(0)
    return np.asarray(answer.numpy())


def decode(content: bytes, like: dict[str, Any]) -> NDArray[np.uint8]:
    """Decode with Pillow and resize to the network's size: ``uint8[H, W, C]``."""
    import io  # noqa: PLC0415

    from PIL import Image  # noqa: PLC0415

    with Image.open(io.BytesIO(content)) as image:
        fitting = image.convert("RGB" if like["channels"] == 3 else "L")
        fitting = fitting.resize((like["width"], like["height"]), Image.Resampling.BILINEAR)
    return np.array(fitting).reshape(like["height"], like["width"], like["channels"])


def load_pytorch(folder: Path) -> nn.Module:
    """Build the network and load its state dict."""
    import torch  # noqa: PLC0415

    network = _torch_network(description(folder))
    network.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
    return network.eval()


def _make(folder: Path) -> None:
    """Write the state dict and, where Keras is installed, the .keras file from the weights."""
    import torch  # noqa: PLC0415

    like = description(folder)
    with np.load(folder / "weights.npz") as file:
        weights = {name: file[name] for name in file.files}
    network = _torch_network(like)
    state = {
        # Constants of the normalisation have another shape here: channels come last.
        name: torch.from_numpy(weights[name]).reshape(value.shape) if name in weights else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    torch.save(network.state_dict(), folder / "network.pt")
    if importlib.util.find_spec("keras") is None:
        return
    keras: Any = importlib.import_module("keras")
    model = _keras_network(keras, like, weights)
    model.save(folder / "network.keras")


def _torch_network(like: dict[str, Any]) -> nn.Module:
    """Write opsin.models.resnet in plain PyTorch, its parts under the same names.

    The network takes ``uint8[N, H, W, C]`` and returns logits, divided by the temperature.
    """
    import torch  # noqa: PLC0415
    from torch import Tensor, nn  # noqa: PLC0415

    act = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}[like["activation"]]
    channels = like["channels"]

    class Block(nn.Module):
        def __init__(self, before: int, after: int, *, halve: bool) -> None:
            super().__init__()
            self.conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
            self.pool = nn.MaxPool2d(2) if halve else nn.Identity()
            self.norm = nn.BatchNorm2d(after)
            self.act = act()
            self.residual = before == after and not halve

        def forward(self, maps: Tensor) -> Tensor:
            result: Tensor = self.act(self.norm(self.pool(self.conv(maps))))
            return maps + result if self.residual else result

    class Normalise(nn.Module):
        mean: Tensor
        deviation: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("deviation", torch.ones(channels))

        def forward(self, images: Tensor) -> Tensor:
            normal: Tensor = (images.float() - self.mean) / self.deviation
            return normal.permute(0, 3, 1, 2)

    class Resnet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input = Normalise()
            self.whiten = nn.Conv2d(channels, 8 * channels, 2, bias=False)
            self.act = act()
            before, self.steps = 8 * channels, []
            for number, (after, halve) in enumerate(like["stages"], start=1):
                self.add_module(f"stage{number}", Block(before, after, halve=halve))
                self.add_module(f"residual{number}", Block(after, after, halve=False))
                self.steps += [f"stage{number}", f"residual{number}"]
                before = after
            self.head = nn.Linear(before, len(like["classes"]))

        def forward(self, images: Tensor) -> Tensor:
            maps = self.act(self.whiten(self.input(images)))
            for step in self.steps:
                maps = self.get_submodule(step)(maps)
            logits: Tensor = self.head(maps.amax(dim=(2, 3))) / like["temperature"]
            return logits

    return Resnet()


def _keras_network(keras: Any, like: dict[str, Any], weights: dict[str, NDArray[Any]]) -> Any:
    """Write the same network in Keras's words, with the same weights; it returns probabilities."""
    layers = keras.layers
    act = like["activation"]
    inputs = keras.Input((like["height"], like["width"], like["channels"]))
    mean, deviation = weights["input.mean"].ravel(), weights["input.deviation"].ravel()
    maps = layers.Normalization(mean=mean, variance=deviation.astype(np.float64) ** 2)(inputs)
    filled: list[tuple[Any, list[NDArray[Any]]]] = []

    def conv(maps: Any, name: str, **options: Any) -> Any:
        kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0)
        layer = layers.Conv2D(kernel.shape[3], kernel.shape[0], use_bias=False, **options)
        filled.append((layer, [kernel]))
        return layer(maps)

    def block(maps: Any, name: str, *, halve: bool) -> Any:
        maps = conv(maps, f"{name}.conv", padding="same")
        if halve:
            maps = layers.MaxPooling2D()(maps)
        norm = layers.BatchNormalization(epsilon=1e-5)
        parts = ("weight", "bias", "running_mean", "running_var")
        filled.append((norm, [weights[f"{name}.norm.{part}"] for part in parts]))
        return layers.Activation(act)(norm(maps))

    maps = layers.Activation(act)(conv(maps, "whiten"))
    for number, (_, halve) in enumerate(like["stages"], start=1):
        maps = block(maps, f"stage{number}", halve=halve)
        maps = layers.Add()([maps, block(maps, f"residual{number}", halve=False)])
    maps = layers.GlobalMaxPooling2D()(maps)
    head = layers.Dense(len(like["classes"]), activation="softmax")
    # A softmax of logits divided by a number is one of weights divided by it.
    divided = [
        weights["head.weight"].T / like["temperature"],
        weights["head.bias"] / like["temperature"],
    ]
    filled.append((head, divided))
    model = keras.Model(inputs, head(maps))
    for layer, values in filled:
        layer.set_weights(values)
    return model


if __name__ == "__main__":
    main()
