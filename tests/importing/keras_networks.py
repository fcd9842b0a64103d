"""Saves networks by Keras itself, with the answers that it gives: the judge of what is imported.

    KERAS_BACKEND=torch .venv-keras/bin/python tests/importing/keras_networks.py FOLDER [NAME…]

It runs in an environment of its own, where Keras is installed and Opsin is not.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from keras import Input, Model, Sequential, applications, layers

SHAPE: Final = (13, 10, 3)
IMAGES: Final = 32
# Networks whose own first layers take pixels from 0 to 255; all others get numbers around 0.
_TAKE_PIXELS: Final = ("EfficientNet", "MobileNetV3", "ConvNeXt", "Rescaling", "Normalization",
                       "transfer")  # fmt: skip
Build = Callable[[], Any]


def after(*these: Any, shape: tuple[int, ...] = SHAPE) -> Any:
    return Sequential([Input(shape), *these, layers.Flatten(), layers.Dense(5, "softmax")])


def behind(make: Build) -> Build:
    return lambda: after(layers.Conv2D(4, 3), make())


def windows(pad: str) -> dict[str, Build]:
    """Return everything with a window that moves, padded in one way."""
    convolution = partial(layers.Conv2D, 4, padding=pad)
    depthwise = partial(layers.DepthwiseConv2D, 3, padding=pad)
    separable = partial(layers.SeparableConv2D, 6, 3, padding=pad)
    made: dict[str, Build] = {
        f"Conv2D {pad} {size} {step}": partial(convolution, size, strides=step, activation="relu")
        for size, step in ((3, 1), (3, 2), (2, 2), (5, 3), (1, 2))
    }
    made |= {
        f"Conv2D {pad} with holes": partial(convolution, 3, dilation_rate=2),
        f"DepthwiseConv2D {pad}": partial(depthwise, depth_multiplier=2),
        f"DepthwiseConv2D {pad} 2": partial(depthwise, strides=2, use_bias=False),
        f"SeparableConv2D {pad}": partial(separable, strides=2, depth_multiplier=2),
    }
    return {name: lambda make=make: after(make()) for name, make in made.items()} | {
        f"MaxPooling2D {pad}": behind(partial(layers.MaxPooling2D, 3, strides=2, padding=pad)),
        f"AveragePooling2D {pad}": behind(partial(layers.AveragePooling2D, 2, padding=pad)),
    }


def activations() -> dict[str, Build]:
    bent = ["relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_silu", "elu", "selu"]
    smooth = ["sigmoid", "tanh", "softplus", "softsign", "swish", "gelu", "mish", "exponential"]
    names = [*bent, *smooth, "softmax", "log_softmax"]
    found = {f"Activation {name}": behind(partial(layers.Activation, name)) for name in names}
    made: dict[str, Build] = {
        "ReLU up to 6": lambda: layers.ReLU(max_value=6.0),
        "LeakyReLU": layers.LeakyReLU,
        "ELU": lambda: layers.ELU(alpha=0.5),
        "Softmax of rows": lambda: layers.Softmax(axis=1),
    }
    return found | {name: behind(make) for name, make in made.items()}


def others() -> dict[str, Build]:
    return {
        "Conv2D in groups": lambda: after(layers.Conv2D(8, 1), layers.Conv2D(8, 3, groups=4)),
        "GlobalAveragePooling2D": lambda: after(layers.GlobalAveragePooling2D()),
        "GlobalMaxPooling2D kept": lambda: after(layers.GlobalMaxPooling2D(keepdims=True)),
        "BatchNormalization": lambda: after(layers.Conv2D(4, 3), layers.BatchNormalization()),
        "BatchNormalization of rows": lambda: after(
            layers.GlobalMaxPooling2D(), layers.BatchNormalization(scale=False)
        ),
        "LayerNormalization": lambda: after(layers.LayerNormalization(epsilon=1e-5)),
        "LayerNormalization of all": lambda: after(layers.LayerNormalization(axis=[1, 2, 3])),
        "Rescaling": lambda: after(
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.RandomFlip(),
            layers.Conv2D(4, 3),
            layers.Dropout(0.5),
            layers.GaussianNoise(0.1),
            layers.SpatialDropout2D(0.1),
        ),
        "Normalization": lambda: after(
            layers.Normalization(mean=[10.0, 20, 30], variance=[100.0, 200, 300])
        ),
        "Normalization adapted": adapted,
        "shapes": lambda: after(
            layers.ZeroPadding2D(((1, 2), (0, 3))),
            layers.Cropping2D(((1, 0), (2, 1))),
            layers.Permute((2, 1, 3)),
            layers.Reshape((-1, 3)),
        ),
        "Resizing": lambda: after(layers.Resizing(8, 9)),
        "Resizing larger": lambda: after(layers.Resizing(20, 17)),
        "Resizing nearest": lambda: after(layers.Resizing(20, 17, interpolation="nearest")),
    }


def adapted() -> Any:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(0, 255, (50, *SHAPE)).astype(np.float32))
    return after(layer)


def merged() -> Any:
    image = Input(SHAPE)
    a, b = layers.Conv2D(4, 3)(image), layers.Conv2D(4, 3)(image)
    kinds = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
    joined = layers.Concatenate()([getattr(layers, kind)()([a, b]) for kind in kinds])
    wide = layers.Concatenate(axis=2)([layers.Concatenate(axis=1)([a, b])] * 2)
    rows = [layers.Flatten()(each) for each in (joined, wide)]
    return Model(image, layers.Dense(5)(layers.Concatenate()(rows)))


def squeeze_and_excite() -> Any:
    image = Input(SHAPE)
    maps = layers.Conv2D(4, 3)(image)
    gate = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(maps))
    gated = layers.Multiply()([maps, layers.Conv2D(4, 1, activation="sigmoid")(gate)])
    return Model(image, layers.Dense(5)(layers.GlobalMaxPooling2D()(gated)))


def shared() -> Any:
    image, twice = Input(SHAPE), layers.Conv2D(3, 3, padding="same")
    return Model(image, layers.Dense(5)(layers.Flatten()(twice(layers.ReLU()(twice(image))))))


def nested() -> Any:
    image, inner = Input(SHAPE), Input((11, 8, 4))
    stem = Sequential([Input(SHAPE), layers.Conv2D(4, 3, name="same"), layers.BatchNormalization()])
    block = Model(inner, layers.Add()([layers.Conv2D(4, 3, padding="same")(inner), inner]))
    value = layers.Conv2D(4, 3, name="same")(block(block(stem(image))))
    return Model(image, layers.Dense(5, "softmax")(layers.Flatten()(value)))


def arithmetic() -> Any:
    image = Input(SHAPE)
    value = layers.Conv2D(4, 3)(image) * 2.0 + 1.0
    return Model(image, layers.Dense(5)(layers.Flatten()(value + (1.0 - value / 3.0))))


def tutorial_convolutions() -> Any:
    these = [Input((32, 32, 3))]
    for filters in (32, 64, 64):
        these += [
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.Conv2D(filters, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
        ]
    ends = [layers.Flatten(), layers.Dense(512, "relu"), layers.Dense(3, "softmax")]
    return Sequential([*these, *ends])


def transfer() -> Any:
    base = applications.MobileNetV2(weights=None, include_top=False, input_shape=(64, 64, 3))
    base.trainable = False
    image = Input((64, 64, 3))
    value = base(layers.Rescaling(1 / 127.5, -1)(layers.RandomFlip()(image)), training=False)
    value = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(value))
    return Model(image, layers.Dense(3, "softmax")(value))


def whole() -> dict[str, Build]:
    found: dict[str, Build] = {
        "merged": merged,
        "squeeze and excite": squeeze_and_excite,
        "shared": shared,
        "nested": nested,
        "arithmetic": arithmetic,
        "transfer": transfer,
        "tutorial, convolutions": tutorial_convolutions,
        "tutorial, dense": lambda: Sequential(
            [Input((28, 28)), layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10)]
        ),
        "rows of pixels": lambda: Sequential(
            [Input((784,)), layers.Dense(32, "relu"), layers.Dense(10, "softmax")]
        ),
        "one number": lambda: Sequential(
            [Input((16, 16, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(1, "sigmoid")]
        ),
        "a number each": lambda: Sequential(
            [Input((16, 16, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(4, "sigmoid")]
        ),
    }
    small = "ResNet50 ResNet50V2 MobileNetV3Small EfficientNetB0 EfficientNetV2B0 ConvNeXtTiny"
    sides = dict.fromkeys([*small.split(), "DenseNet121"], 64)
    sides |= {"MobileNetV2": 96, "VGG16": 32, "Xception": 71, "InceptionV3": 75}
    for name, side in sides.items():
        build = getattr(applications, name)
        found[name] = partial(build, weights=None, input_shape=(side, side, 3), classes=7)
    return found


def shaken(model: Any) -> Any:
    drawn = np.random.default_rng(0)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if "variance" in variable.path:
            variable.assign(drawn.uniform(0.5, 1.5, shape))
        elif variable.path.rsplit("/", 1)[-1] in ("gamma", "beta", "moving_mean", "bias", "alpha"):
            value = keras.ops.convert_to_numpy(variable)
            variable.assign(value + drawn.normal(0, 0.2, shape))
    return model


def main() -> None:
    folder, *wanted = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    networks = windows("same") | windows("valid") | activations() | others() | whole()
    for name in wanted or networks:
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        model = shaken(networks[name]())
        images = np.random.default_rng(7).uniform(0, 255, (IMAGES, *model.input_shape[1:]))
        if not name.startswith(_TAKE_PIXELS):
            images = images / 127.5 - 1
        images = images.astype(np.float32)
        stem = Path(folder) / name
        for kind in (".keras", ".h5"):
            model.save(f"{stem}{kind}")
        np.savez(f"{stem}.npz", images=images, answers=model.predict(images, verbose=0))


if __name__ == "__main__":
    main()
