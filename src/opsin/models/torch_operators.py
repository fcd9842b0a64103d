"""What ONNX operators compute, by PyTorch, so that it has gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Doubles
from opsin.core.errors import MissingExtraError

try:
    import torch
    from onnx import TensorProto, numpy_helper
    from torch import Tensor, nn
    from torch.nn import functional

    from opsin.onnx_files.operators import OPERATORS, Operator
except ImportError as error:
    raise MissingExtraError("gradients of a classifier", "train") from error

#: An operator: its inputs (``None`` for one that is left out) and, by name, its attributes, become
#: its output, or a tuple of several. Attributes that it does not know are passed over.
Computed = Callable[..., Any]
Given = Mapping[str, Any]

# Numbers of 16 bits are computed with 32: no processor's are rounded the same way.
_TYPES: Final[dict[int, torch.dtype]] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float32,
    TensorProto.BFLOAT16: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


def held(value: NDArray[Any]) -> Tensor:
    """Return a weight of a file as a tensor; numbers of 16 bits become numbers of 32."""
    return torch.from_numpy(np.array(value, np.float32 if value.dtype == np.float16 else None))


def _numbers(value: Tensor) -> list[int]:
    found: list[int] = value.reshape(-1).tolist()
    return found


def _plain(how: Computed) -> Computed:
    """Return an operator without attributes."""
    return lambda *inputs, **_: how(*inputs)


def _by_row(operator: Operator) -> Computed:
    """Return an operator that a row of the table is all about."""
    layer = getattr(nn, operator.layer)

    def run(values: Tensor, **given: Any) -> Any:
        options = {own: given[key] for key, own in operator.attributes.items() if key in given}
        return layer(**options)(values)

    return run


# Windows


def _pads(given: Given, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Return rows or columns to add before each axis of the maps, then after each."""
    auto, axes = given.get("auto_pad", "NOTSET"), len(kernel)
    if auto in ("NOTSET", "VALID"):
        return list(given.get("pads", [0] * 2 * axes))
    strides, dilations = (given.get(name, [1] * axes) for name in ("strides", "dilations"))
    total = [
        max(0, (-(-size // stride) - 1) * stride + (side - 1) * apart + 1 - size)
        for size, side, stride, apart in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    less, more = [each // 2 for each in total], [each - each // 2 for each in total]
    return less + more if auto == "SAME_UPPER" else more + less


def _padded(maps: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    if not any(pads):
        return maps
    axes = len(pads) // 2
    pairs = zip(pads[:axes][::-1], pads[axes:][::-1], strict=True)
    return functional.pad(maps, [side for pair in pairs for side in pair], value=value)


def _conv(maps: Tensor, weight: Tensor, bias: Tensor | None = None, **given: Any) -> Tensor:
    axes = weight.ndim - 2
    pads = _pads(given, maps.shape[2:], weight.shape[2:])
    padding: Sequence[int] = [0] * axes
    if pads[:axes] == pads[axes:]:  # PyTorch's own is quicker, and knows one number for both sides
        padding = pads[:axes]
    else:
        maps = _padded(maps, pads)
    strides, dilations = (given.get(name, [1] * axes) for name in ("strides", "dilations"))
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    return convolve(maps, weight, bias, strides, padding, dilations, given.get("group", 1))


def _max_pool(maps: Tensor, *, kernel_shape: list[int], **given: Any) -> Any:
    return functional.max_pool2d(
        _padded(maps, _pads(given, maps.shape[2:], kernel_shape), -torch.inf),
        kernel_shape,
        stride=given.get("strides", (1, 1)),
        dilation=given.get("dilations", (1, 1)),
        ceil_mode=bool(given.get("ceil_mode", 0)),
    )


def _average_pool(maps: Tensor, *, kernel_shape: list[int], **given: Any) -> Tensor:
    axes = len(kernel_shape)
    pads = _pads(given, maps.shape[2:], kernel_shape)
    pool = functools.partial(
        (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[axes - 1],
        kernel_size=kernel_shape,
        stride=given.get("strides", [1] * axes),
        ceil_mode=bool(given.get("ceil_mode", 0)),
    )
    include = bool(given.get("count_include_pad", 0))
    if pads[:axes] == pads[axes:]:
        return pool(maps, padding=pads[:axes], count_include_pad=include)
    mean = pool(_padded(maps, pads))
    # Where a window reaches over the border, only what is inside counts.
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


def _group_norm(
    values: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    **_: Any,
) -> Tensor:
    channels = values.shape[1]
    if len(weight) != channels:  # a scale a group until opset 21
        weight, bias = (part.repeat_interleave(channels // num_groups) for part in (weight, bias))
    return functional.group_norm(values, num_groups, weight, bias, eps=epsilon)


def _lp_norm(values: Tensor, *, p: int = 2, axis: int = -1) -> Tensor:
    return functional.normalize(values, p=p, dim=axis)


# Products and activations


def _gemm(left: Tensor, right: Tensor, bias: Tensor | None = None, **given: Any) -> Tensor:
    left = left.T if given.get("transA", 0) else left
    right = right.T if given.get("transB", 0) else right
    product = left @ right
    if given.get("alpha", 1.0) != 1.0:
        product = given["alpha"] * product
    if bias is None:
        return product
    return torch.add(product, bias, alpha=given.get("beta", 1.0))


def _einsum(*inputs: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *inputs)


def _clip(values: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
    # By numbers: a tensor's own gradient would be kept for nothing.
    low, high = (None if end is None else end.item() for end in (least, most))
    if low is None and high is None:
        return values
    if low is None or high is None or not values.is_floating_point():
        return values.clamp(low, high)
    return functional.hardtanh(values, low, high)  # whose gradient takes a tenth of clamp's time


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    return base.pow(exponent.item() if exponent.numel() == 1 else exponent)


def _hard_sigmoid(values: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (values * alpha + beta).clamp(0, 1)


def _divide(left: Tensor, right: Tensor) -> Tensor:
    whole = not left.is_floating_point()
    return torch.div(left, right, rounding_mode="trunc" if whole else None)


def _modulo(left: Tensor, right: Tensor, *, fmod: int = 0) -> Tensor:
    return torch.fmod(left, right) if fmod else torch.remainder(left, right)


def _every(how: Callable[[Tensor, Tensor], Tensor]) -> Computed:
    """Return an operator of any number of inputs."""
    return lambda *inputs, **_: functools.reduce(how, inputs)


def _mean(*inputs: Tensor, **_: Any) -> Tensor:
    return functools.reduce(torch.add, inputs) / len(inputs)


def _softmax(how: Callable[..., Tensor]) -> Computed:
    return lambda values, axis=-1, **_: how(values, dim=axis)


def _reduced(how: Callable[..., Tensor]) -> Computed:
    """Return an operator that joins the values along the axes of its second input."""

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


def _product(values: Tensor, *, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    for axis in sorted((axis % values.ndim for axis in dim), reverse=True):
        values = values.prod(dim=axis, keepdim=keepdim)
    return values


# Shapes


def _cast(values: Tensor, *, to: int, **_: Any) -> Tensor:
    return values.to(_TYPES[to])


def _shape(values: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(list(values.shape)[start:end])


def _transpose(values: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    return values.permute(tuple(range(values.ndim))[::-1] if perm is None else tuple(perm))


def _flatten(values: Tensor, *, axis: int = 1) -> Tensor:
    return values.reshape(math.prod(values.shape[:axis]), -1)


def _reshape(values: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    wanted = _numbers(shape)
    if not allowzero:
        wanted = [values.shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    return values.reshape(wanted)


def _squeeze(values: Tensor, axes: Tensor | None = None) -> Tensor:
    return values.squeeze() if axes is None else values.squeeze(tuple(_numbers(axes)))


def _unsqueeze(values: Tensor, axes: Tensor) -> Tensor:
    places = _numbers(axes)
    ndim = values.ndim + len(places)
    for place in sorted(place % ndim for place in places):
        values = values.unsqueeze(place)
    return values


def _expand(values: Tensor, shape: Tensor) -> Tensor:
    return values.expand(np.broadcast_shapes(tuple(values.shape), _numbers(shape)))


def _pad(
    values: Tensor,
    pads: Tensor,
    fill: Tensor | None = None,
    along: Tensor | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    sides = _numbers(pads)
    axes = list(range(values.ndim)) if along is None else _numbers(along)
    before, after = [0] * values.ndim, [0] * values.ndim
    for place, axis in enumerate(axes):
        before[axis], after[axis] = sides[place], sides[place + len(axes)]
    pairs = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    if mode == "constant":
        return functional.pad(values, pairs, value=0.0 if fill is None else fill.item())
    # PyTorch repeats the last axes only; nothing is added to the others.
    own = {"edge": "replicate", "wrap": "circular"}.get(mode, mode)
    return functional.pad(values, pairs[: 2 * (values.ndim - 2)], mode=own)


def _concat(*inputs: Tensor, axis: int) -> Tensor:
    return torch.cat(inputs, dim=axis)


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


def _range(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(chosen.to(one.device), one, other.to(one.device))


def _depth_to_space(values: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    if mode == "DCR":  # PyTorch's order of channels is the other one
        blocks = values.reshape(len(values), blocksize**2, -1, *values.shape[2:])
        values = blocks.transpose(1, 2).reshape(values.shape)
    return functional.pixel_shuffle(values, blocksize)


def _space_to_depth(values: Tensor, *, blocksize: int) -> Tensor:
    small = functional.pixel_unshuffle(values, blocksize)
    blocks = small.reshape(len(small), -1, blocksize**2, *small.shape[2:])
    return blocks.transpose(1, 2).reshape(small.shape)


def _dequantised(
    values: Tensor, scale: Tensor, zero: Tensor | None = None, *, axis: int = 1, **_: Any
) -> Tensor:
    shape = [1] * values.ndim
    if scale.numel() > 1:
        shape[axis] = -1
    centred = values.to(torch.float32)
    if zero is not None:
        centred = centred - zero.to(torch.float32).reshape(shape)
    return centred * scale.reshape(shape)


# Images in other sizes


def _resize(
    values: Tensor,
    _region: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    **given: Any,
) -> Tensor:
    """Enlarge or shrink along each axis by a product with a matrix that says what is mixed."""
    usual = {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_floor",
        "antialias": 0,
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
    }
    options = tuple((name, given.get(name, default)) for name, default in usual.items())
    for place, axis in enumerate(given.get("axes", range(values.ndim))):
        size = values.shape[axis]
        if scales is not None and scales.numel():
            scale = float(scales[place])
            wanted = math.floor(size * scale)
        elif sizes is not None:
            wanted = int(sizes[place])
            scale = wanted / size
        if wanted != size or scale != 1:
            mixed = _mixture(size, wanted, scale, options).to(values.device, values.dtype)
            values = functional.linear(values.movedim(axis, -1), mixed).movedim(-1, axis)
    return values


@functools.lru_cache(64)
def _mixture(size: int, wanted: int, scale: float, options: tuple[tuple[str, Any], ...]) -> Tensor:
    """Return how much of each of ``size`` places is in each of ``wanted`` others."""
    given = dict(options)
    at = _coordinates(given["coordinate_transformation_mode"], size, wanted, scale)
    if given["mode"] == "nearest":
        near = {
            "round_prefer_floor": np.ceil(at - 0.5),
            "round_prefer_ceil": np.floor(at + 0.5),
            "floor": np.floor(at),
            "ceil": np.ceil(at),
        }[given["nearest_mode"]]
        return torch.eye(size)[np.clip(near.astype(np.int64), 0, size - 1)]
    reach = 1 if given["mode"] == "linear" else 2
    # Where an image shrinks, each place mixes as many as fall on it.
    wide = min(scale, 1.0) if given["antialias"] else 1.0
    reach = math.ceil(reach / wide)
    first = np.floor(at).astype(np.int64)
    places = first[:, None] + np.arange(1 - reach, reach + 1)
    away = np.abs(at[:, None] - places) * wide
    shares = np.clip(1 - away, 0, 1)
    if given["mode"] != "linear":
        shares = _cubic(away, given["cubic_coeff_a"])
    inside = (places >= 0) & (places < size)
    if given["exclude_outside"]:  # else the border's own place counts for those beyond it
        shares = np.where(inside, shares, 0)
    shares = shares / shares.sum(axis=1, keepdims=True)
    found = np.zeros((wanted, size))
    np.add.at(found, (np.arange(wanted)[:, None], places.clip(0, size - 1)), shares)
    return torch.from_numpy(found.astype(np.float32))


def _coordinates(mode: str, size: int, wanted: int, scale: float) -> NDArray[np.floating[Any]]:
    """Return where each new place lies among the old ones, rounded as ONNX Runtime does."""
    places, factor = np.arange(wanted, dtype=np.float32), np.float32(scale)
    match mode:
        case "align_corners":
            return places * (size - 1) / max(1, wanted - 1)
        case "asymmetric":
            return places / factor
        case "pytorch_half_pixel" if wanted == 1:
            return np.zeros(1)
        case "half_pixel_symmetric":
            middle = size / 2 * (1 - wanted / (scale * size))
            return middle + (places + 0.5) / factor - 0.5
    return (places + 0.5) / factor - 0.5


def _cubic(away: Doubles, a: float) -> Doubles:
    near = ((a + 2) * away - (a + 3)) * away**2 + 1
    far = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
    return np.where(away <= 1, near, np.where(away < 2, far, 0.0))


#: Operators that are functions of their inputs alone.
_PLAIN: Final[dict[str, Computed]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "Ceil": torch.ceil,
    "Clip": _clip,
    "Cos": torch.cos,
    "Div": _divide,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": _expand,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "PRelu": lambda values, slope: torch.where(values < 0, values * slope, values),
    "Pow": _power,
    "Range": _range,
    "Reciprocal": torch.reciprocal,
    "Sin": torch.sin,
    "Size": lambda values: torch.tensor(values.numel()),
    "Slice": _slice,
    "Softplus": functional.softplus,
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": torch.sub,
    "Tile": lambda values, times: values.repeat(_numbers(times)),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
    "Dropout": lambda values, *_: values,
}
#: What networks that people publish, `opsin.training.torch_to_onnx` and the smooth models of
#: `opsin.classical` are written in. Each has a row in `opsin.onnx_files.operators` as well.
COMPUTED: Final[dict[str, Computed]] = {
    **{name: _by_row(row) for name, row in OPERATORS.items() if row.layer},
    **{name: _plain(how) for name, how in _PLAIN.items()},
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantised,
    "Einsum": _einsum,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _softmax(torch.log_softmax),
    "LpNormalization": _lp_norm,
    "Max": _every(torch.maximum),
    "MaxPool": _max_pool,
    "Mean": _mean,
    "Min": _every(torch.minimum),
    "Mod": _modulo,
    "Pad": _pad,
    "ReduceL2": _reduced(functools.partial(torch.linalg.vector_norm, ord=2)),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceProd": _reduced(_product),
    "ReduceSum": _reduced(torch.sum),
    "ReduceSumSquare": _reduced(_sum_of_squares),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Softmax": _softmax(torch.softmax),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Sum": _every(torch.add),
    "Transpose": _transpose,
}
