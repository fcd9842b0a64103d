"""ONNX operators in PyTorch, which gives them gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

try:
    import torch
    from onnx import TensorProto, numpy_helper
    from torch import Tensor, nn
    from torch.nn import functional

    from opsin.onnx_files.operators import OPERATORS, Operator, padding
except ImportError as error:
    raise MissingExtraError("gradients of a classifier", "train") from error

#: An operator: its inputs (``None`` for one that is left out) and, by name, its attributes, become
#: its output, or a tuple of several. Attributes that it does not know are passed over.
Computed = Callable[..., Any]

# Numbers of 16 bits are computed with 32: no processor's are rounded the same way.
_TYPES: Final[dict[int, torch.dtype]] = {
    TensorProto.FLOAT: torch.float32, TensorProto.FLOAT16: torch.float32,
    TensorProto.BFLOAT16: torch.float32, TensorProto.DOUBLE: torch.float64,
    TensorProto.INT64: torch.int64, TensorProto.INT32: torch.int32, TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8, TensorProto.BOOL: torch.bool,
}  # fmt: skip


def held(value: NDArray[Any]) -> Tensor:
    """Return a weight of a file as a tensor; numbers of 16 bits become numbers of 32."""
    return torch.from_numpy(np.array(value, np.float32 if value.dtype == np.float16 else None))


def _numbers(value: Tensor) -> list[int]:
    numbers: list[int] = value.reshape(-1).tolist()
    return numbers


def _plain(how: Computed) -> Computed:
    return lambda *inputs, **_: how(*inputs)


def _by_row(operator: Operator) -> Computed:
    layer = getattr(nn, operator.layer)

    def run(values: Tensor, **attrs: Any) -> Any:
        options = {name: attrs[key] for key, name in operator.attributes.items() if key in attrs}
        return layer(**options)(values)

    return run


# Windows


def _padded(maps: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    if not any(pads):
        return maps
    axes = len(pads) // 2
    pairs = zip(pads[:axes][::-1], pads[axes:][::-1], strict=True)
    return functional.pad(maps, [side for pair in pairs for side in pair], value=value)


def _conv(maps: Tensor, weight: Tensor, bias: Tensor | None = None, **attrs: Any) -> Tensor:
    axes = weight.ndim - 2
    pads = padding(attrs, maps.shape[2:], weight.shape[2:])
    if pads[:axes] != pads[axes:]:  # PyTorch's own is quicker, and knows one number for both sides
        maps, pads = _padded(maps, pads), [0] * axes
    strides, dilations = (attrs.get(name, [1] * axes) for name in ("strides", "dilations"))
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    return convolve(maps, weight, bias, strides, pads[:axes], dilations, attrs.get("group", 1))


def _max_pool(maps: Tensor, *, kernel_shape: list[int], **attrs: Any) -> Any:
    return functional.max_pool2d(
        _padded(maps, padding(attrs, maps.shape[2:], kernel_shape), -torch.inf),
        kernel_shape,
        stride=attrs.get("strides", (1, 1)),
        dilation=attrs.get("dilations", (1, 1)),
        ceil_mode=bool(attrs.get("ceil_mode", 0)),
    )


def _average_pool(maps: Tensor, *, kernel_shape: list[int], **attrs: Any) -> Tensor:
    axes = len(kernel_shape)
    pads = padding(attrs, maps.shape[2:], kernel_shape)
    pool = functools.partial(
        (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[axes - 1],
        kernel_size=kernel_shape,
        stride=attrs.get("strides", [1] * axes),
        ceil_mode=bool(attrs.get("ceil_mode", 0)),
    )
    include = bool(attrs.get("count_include_pad", 0))
    if pads[:axes] == pads[axes:]:
        return pool(maps, padding=pads[:axes], count_include_pad=include)
    mean = pool(_padded(maps, pads))
    # Over the border, only pixels inside count.
    return mean if include else mean / pool(_padded(torch.ones_like(maps[:1, :1]), pads))


def _global(how: Callable[..., Tensor]) -> Computed:
    return lambda maps, **_: how(maps, dim=tuple(range(2, maps.ndim)), keepdim=True)


# Norms, with the statistics of the file, in training as well: a few images say less


def _batch_norm(*inputs: Tensor, epsilon: float = 1e-5, **_: Any) -> Tensor:
    maps, weight, bias, mean, variance = inputs
    return functional.batch_norm(maps, mean, variance, weight, bias, eps=epsilon)


def _layer_norm(
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    **_: Any,
) -> Tensor:
    shape = values.shape[axis:]
    shift = None if bias is None else bias.expand(shape)
    return functional.layer_norm(values, list(shape), weight.expand(shape), shift, eps=epsilon)


def _instance_norm(
    values: Tensor, weight: Tensor, bias: Tensor, *, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    return functional.instance_norm(values, weight=weight, bias=bias, eps=epsilon)


# Products and activations


def _gemm(left: Tensor, right: Tensor, bias: Tensor | None = None, **attrs: Any) -> Tensor:
    left = left.T if attrs.get("transA", 0) else left
    right = right.T if attrs.get("transB", 0) else right
    product = left @ right
    if attrs.get("alpha", 1.0) != 1.0:
        product = attrs["alpha"] * product
    if bias is None:
        return product
    return torch.add(product, bias, alpha=attrs.get("beta", 1.0))


def _clip(values: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
    # By numbers: a tensor's own gradient would be kept for nothing.
    low, high = (None if end is None else end.item() for end in (least, most))
    if low is None and high is None:
        return values
    if low is None or high is None or not values.is_floating_point():
        return values.clamp(low, high)
    return functional.hardtanh(values, low, high)  # whose gradient takes a tenth of clamp's time


def _divide(left: Tensor, right: Tensor) -> Tensor:
    whole = not left.is_floating_point()
    return torch.div(left, right, rounding_mode="trunc" if whole else None)


def _every(how: Callable[[Tensor, Tensor], Tensor]) -> Computed:
    return lambda *inputs, **_: functools.reduce(how, inputs)


def _softmax(how: Callable[..., Tensor]) -> Computed:
    return lambda values, axis=-1, **_: how(values, dim=axis)


def _reduced(how: Callable[..., Tensor]) -> Computed:
    def reduce(
        values: Tensor,
        axes: Iterable[int] | None = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        chosen = None if axes is None else [int(axis) for axis in axes]
        if chosen == [] and noop_with_empty_axes:
            return values
        return how(values, dim=tuple(chosen or range(values.ndim)), keepdim=bool(keepdims))

    return reduce


def _sum_of_squares(values: Tensor, *, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return values.square().sum(dim=dim, keepdim=keepdim)


# Shapes


def _shape(values: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(list(values.shape)[start:end])


def _reshape(values: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    wanted = _numbers(shape)
    if not allowzero:
        wanted = [values.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return values.reshape(wanted)


def _unsqueeze(values: Tensor, axes: Tensor) -> Tensor:
    dims = _numbers(axes)
    ndim = values.ndim + len(dims)
    for axis in sorted(axis % ndim for axis in dims):
        values = values.unsqueeze(axis)
    return values


def _pad(
    values: Tensor,
    pads: Tensor,
    fill: Tensor | None = None,
    along: Tensor | None = None,
    **_: Any,
) -> Tensor:
    sides = _numbers(pads)
    axes = list(range(values.ndim)) if along is None else _numbers(along)
    before, after = [0] * values.ndim, [0] * values.ndim
    for index, axis in enumerate(axes):
        before[axis], after[axis] = sides[index], sides[index + len(axes)]
    return _padded(values, before + after, 0.0 if fill is None else fill.item())


def _split(
    values: Tensor, sizes: Tensor | None = None, *, axis: int = 0, num_outputs: int = 1
) -> tuple[Tensor, ...]:
    if sizes is not None:
        return torch.split(values, _numbers(sizes), dim=axis)
    return torch.split(values, -(-values.shape[axis] // num_outputs), dim=axis)


def _slice(
    values: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    begins, stops = _numbers(starts), _numbers(ends)
    along = list(range(len(begins))) if axes is None else _numbers(axes)
    strides = [1] * len(begins) if steps is None else _numbers(steps)
    for axis, begin, stop, step in zip(along, begins, stops, strides, strict=True):
        places = range(values.shape[axis])[begin:stop:step]
        if step == 1:
            values = values.narrow(axis, places.start, len(places))
        else:
            chosen = torch.tensor(places, dtype=torch.int64, device=values.device)
            values = values.index_select(axis, chosen)
    return values


def _gather(values: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis, places = axis % values.ndim, indices.long().to(values.device)
    places = torch.where(places < 0, places + values.shape[axis], places)
    shape = (*values.shape[:axis], *places.shape, *values.shape[axis + 1 :])
    return values.index_select(axis, places.reshape(-1)).reshape(shape)


def _constant_of_shape(shape: Tensor, *, value: TensorProto | None = None) -> Tensor:
    one = torch.zeros(1) if value is None else held(numpy_helper.to_array(value))
    return one.reshape(()).expand(_numbers(shape))


# Images in other sizes


def _resize(
    values: Tensor,
    _region: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    **attrs: Any,
) -> Tensor:
    """Enlarge or shrink along each axis by a product with a matrix of shares."""
    usual = {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_floor",
        "antialias": 0,
        "cubic_coeff_a": -0.75,
    }
    options = tuple((name, attrs.get(name, default)) for name, default in usual.items())
    for index, axis in enumerate(attrs.get("axes", range(values.ndim))):
        size = values.shape[axis]
        if scales is not None and scales.numel():
            scale = float(scales[index])
            wanted = math.floor(size * scale)
        elif sizes is not None:
            wanted = int(sizes[index])
            scale = wanted / size
        if wanted != size or scale != 1:
            mixed = _mixture(size, wanted, scale, options).to(values.device, values.dtype)
            values = functional.linear(values.movedim(axis, -1), mixed).movedim(-1, axis)
    return values


@functools.lru_cache(64)
def _mixture(size: int, wanted: int, scale: float, options: tuple[tuple[str, Any], ...]) -> Tensor:
    """Return the share of each of ``size`` places in each of ``wanted`` others."""
    chosen = dict(options)
    # Positions of new places among the old ones, rounded as ONNX Runtime does.
    at = (np.arange(wanted, dtype=np.float32) + 0.5) / np.float32(scale) - 0.5
    if chosen["coordinate_transformation_mode"] == "pytorch_half_pixel" and wanted == 1:
        at = np.zeros(1, np.float32)
    if chosen["mode"] == "nearest":
        down = chosen["nearest_mode"] == "round_prefer_floor"
        nearest = (np.ceil(at - 0.5) if down else np.floor(at + 0.5)).astype(np.int64)
        return torch.eye(size)[np.clip(nearest, 0, size - 1)]
    cubic = chosen["mode"] == "cubic"
    # In a shrinking image, each place mixes all that fall on it.
    wide = min(scale, 1.0) if chosen["antialias"] else 1.0
    reach = math.ceil((2 if cubic else 1) / wide)
    first = np.floor(at).astype(np.int64)
    places = first[:, None] + np.arange(1 - reach, reach + 1)
    away = np.abs(at[:, None] - places) * wide
    shares = np.clip(1 - away, 0, 1)
    if cubic:
        a = chosen["cubic_coeff_a"]
        near = ((a + 2) * away - (a + 3)) * away**2 + 1
        far = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
        shares = np.where(away <= 1, near, np.where(away < 2, far, 0.0))
    shares = shares / shares.sum(axis=1, keepdims=True)
    mixture = np.zeros((wanted, size))
    np.add.at(mixture, (np.arange(wanted)[:, None], places.clip(0, size - 1)), shares)
    return torch.from_numpy(mixture.astype(np.float32))


# Operators that are functions of their inputs alone.
_PLAIN: Final[dict[str, Computed]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "Clip": _clip,
    "Div": _divide,
    "Dropout": lambda values, *_: values,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": lambda values, to: values.expand(np.broadcast_shapes(values.shape, _numbers(to))),
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "PRelu": lambda values, slope: torch.where(values < 0, values * slope, values),
    "Pow": lambda base, power: base.pow(power.item() if power.numel() == 1 else power),
    "Slice": _slice,
    "Softplus": functional.softplus,
    "Sqrt": torch.sqrt,
    "Squeeze": lambda values, *axes: values.squeeze(*(tuple(_numbers(part)) for part in axes)),
    "Sub": torch.sub,
    "Unsqueeze": _unsqueeze,
    "Where": lambda chosen, one, other: torch.where(
        chosen.to(one.device), one, other.to(one.device)
    ),
}
#: What networks that people publish, `opsin.training.torch_to_onnx`, Keras' layers and the smooth
#: models of `opsin.classical` are written in.
COMPUTED: Final[dict[str, Computed]] = {
    **{name: _by_row(row) for name, row in OPERATORS.items() if row.layer},
    **{name: _plain(how) for name, how in _PLAIN.items()},
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda values, to, **_: values.to(_TYPES[to]),
    "Concat": lambda *inputs, axis: torch.cat(inputs, dim=axis),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Flatten": lambda values, axis=1: values.reshape(math.prod(values.shape[:axis]), -1),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "HardSigmoid": lambda values, alpha=0.2, beta=0.5: (values * alpha + beta).clamp(0, 1),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _softmax(torch.log_softmax),
    "Max": _every(torch.maximum),
    "MaxPool": _max_pool,
    "Mean": lambda *inputs, **_: functools.reduce(torch.add, inputs) / len(inputs),
    "Min": _every(torch.minimum),
    "Pad": _pad,
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "ReduceSumSquare": _reduced(_sum_of_squares),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Softmax": _softmax(torch.softmax),
    "Split": _split,
    "Sum": _every(torch.add),
    "Transpose": lambda values, perm=None: values.permute(perm or [*range(values.ndim)][::-1]),
}
#: Attributes whose values, the usual one first, are the only ones that are computed; the last is
#: the mode in which they matter, where that is not every one.
VALUES: Final = (
    ("Pad", "mode", ("constant",), ""),
    ("Resize", "coordinate_transformation_mode", ("half_pixel", "pytorch_half_pixel"), ""),
    ("Resize", "nearest_mode", ("round_prefer_floor", "round_prefer_ceil"), "nearest"),
    ("Resize", "exclude_outside", (0,), "cubic"),
)
