"""Classify images: python predict.py IMAGE... [--check]; needs NumPy, Pillow, ONNX Runtime."""

# ruff: noqa: T201
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent


def prepare(file: str | Path, about: dict[str, Any]) -> np.ndarray:
    """Return an image as the network wants it: uint8[height, width, channels]."""
    size, channels, resize = (about["width"], about["height"]), about["channels"], about["resize"]
    opened = Image.open(io.BytesIO(Path(file).read_bytes()))
    opened.load()  # first: some PNGs name their orientation behind the pixels
    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # grey of 16 bits: white is as in the training images
        bits = about.get("bits") or 16
        deep = np.minimum(np.asarray(image), 2**bits - 1) >> (bits - 8)
        image = Image.fromarray(deep.astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != size and resize == "fill":  # cut what stands out
        image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    elif image.size != size:  # squash: stretch; fit: keep the whole image
        scale = min(size[0] / image.width, size[1] / image.height)
        fitted = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        inner = fitted if resize == "fit" else size
        image = image.resize(inner, Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    # What is left over gets the colour of the border.
    edge = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    whole = np.empty((size[1], size[0], channels), np.uint8)
    whole[:] = np.sort(edge, axis=0)[len(edge) // 2]
    top, left = (size[1] - image.height) // 2, (size[0] - image.width) // 2
    whole[top : top + image.height, left : left + image.width] = pixels
    return whole


def main(words: list[str]) -> int:
    """Print a line for each image; with --check, compare with expected.json."""
    session = onnxruntime.InferenceSession(
        HERE / "classifier.onnx", providers=["CPUExecutionProvider"]
    )
    about = json.loads((HERE / "classes.json").read_text("utf-8"))
    expected = json.loads((HERE / "expected.json").read_text("utf-8")) if "--check" in words else {}
    wrong = 0
    for file in (word for word in words if word != "--check"):
        answer = session.run(["probabilities"], {"images": prepare(file, about)[None]})[0][0]
        label = about["classes"][int(answer.argmax())]
        line = f"{file}\t{label}\t{answer.max():.1%}"
        if wanted := expected.get(Path(file).name):
            apart = float(np.abs(answer - wanted["probabilities"]).max())
            wrong += label != wanted["label"]
            line += f"\texpected {wanted['label']}, largest difference {apart:.1g}"
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
