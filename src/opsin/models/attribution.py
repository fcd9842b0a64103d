"""Heat maps by gradients: the pixels that speak for a class."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from opsin.core.arrays import Floats, Pixels
from opsin.core.errors import MissingExtraError
from opsin.models.onnx_network import TorchNetwork

try:
    import torch
    from torch import Tensor
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("heat maps by gradients", "train") from error

#: Largest share by which an integral may miss its exact value before more steps are taken.
GAP: Final = 0.02
STEPS: Final = (32, 128)
# Pixels of a batch of gradients.
_PIXELS: Final = 200_000
# Least difference of logits that a gap is measured against.
_LEAST: Final = 1e-3


def saliency(network: TorchNetwork, pixels: Pixels, target: int) -> Floats:
    """How strongly a class's logit depends on each pixel's strongest channel (arXiv:1312.6034)."""
    with captum_methods() as attr:
        gradients = attr.Saliency(network).attribute(_input(pixels), target=target)
    return _numbers(gradients[0].amax(dim=2))


def grad_cam(network: TorchNetwork, pixels: Pixels, target: int, *, layer: str) -> Floats:
    """Where a layer's maps speak for a class, at the image's size (arXiv:1610.02391)."""
    with captum_methods() as attr:
        maps = attr.LayerGradCam(network, network.layer(layer)).attribute(
            _input(pixels), target=target, relu_attributions=True
        )
    size = (pixels.shape[0], pixels.shape[1])
    large = functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return _numbers(large[0, 0])


def integrated_gradients(
    network: TorchNetwork, pixels: Pixels, target: int, *, baseline: Pixels, most: int = STEPS[-1]
) -> tuple[Floats, float]:
    """Return what each pixel adds to a class's logit, and the share that their sum misses.

    M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks", ICML 2017. The
    map should add up to the difference of logits between image and baseline (completeness);
    where 32 steps of the integral miss it by more than `GAP`, 128 are taken, if ``most`` allows.
    """
    start = torch.from_numpy(baseline.astype(np.float32)).expand(1, *pixels.shape).contiguous()
    with torch.no_grad():
        whole = torch.from_numpy(pixels[None].astype(np.float32))
        ends = network(torch.cat([start, whole]))[:, target].double()
    difference = float(ends[1] - ends[0])
    at_once = max(2, _PIXELS // (pixels.shape[0] * pixels.shape[1]))
    heat, gap = np.zeros(pixels.shape[:2], np.float32), float("inf")
    for steps in STEPS:
        with captum_methods() as attr:
            shares = attr.IntegratedGradients(network).attribute(
                _input(pixels),
                baselines=start,
                target=target,
                n_steps=steps,
                internal_batch_size=at_once,
            )
        missing = abs(float(shares.detach().double().sum()) - difference)
        missing /= max(abs(difference), _LEAST)
        if missing < gap:
            heat, gap = _numbers(shares[0].sum(dim=2)), missing
        if gap <= GAP or steps >= most:
            break
    return heat, gap


@contextlib.contextmanager
def captum_methods() -> Iterator[Any]:
    """Captum's methods, without its warnings; `MissingExtraError` if it is not there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import captum.attr  # noqa: PLC0415  it takes a second, and brings matplotlib
        except ImportError as error:
            raise MissingExtraError("heat maps by gradients", "train") from error
        yield captum.attr


def _input(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels[None].astype(np.float32)).requires_grad_()


def _numbers(values: Tensor) -> Floats:
    numbers: Floats = values.detach().to(torch.float32).numpy().copy()
    return numbers
