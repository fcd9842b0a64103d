"""What ONNX operators compute, by PyTorch, so that it has gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

try:
    import torch
    from onnx import TensorProto, numpy_helper
    from torch import Tensor, nn
    from torch.nn import functional

    from opsin.onnx_files.operators import OPERATORS, Operator
except ImportError as error:
    raise MissingExtraError("gradients of a classifier", "train") from error

#: Inputs in their order, ``None`` for one that is left out.
Inputs = Sequence[Any]
Given = Mapping[str, Any]
#: An operator: its inputs and attributes become its output, or a tuple of several.
Computed = Callable[[Inputs, Given], Any]

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


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _numbers(value: Tensor) -> list[int]:
    found: list[int] = value.reshape(-1).tolist()
    return found


def _plain(how: Callable[..., Any]) -> Computed:
    """Return an operator without attributes."""
    return lambda inputs, _: how(*inputs)


def _by_row(operator: Operator) -> Computed:
    """Return an operator that a row of the table is all about."""
    layer = getattr(nn, operator.layer)

    def run(inputs: Inputs, given: Given) -> Any:
        options = {
            own: _text(given[key]) for key, own in operator.attributes.items() if key in given
        }
        return layer(**options)(inputs[0])

    return run


# Windows


def _pads(given: Given, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Return rows or columns to add before each axis of the maps, then after each."""
    auto, axes = _text(given.get("auto_pad", "NOTSET")), len(kernel)
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


def _conv(inputs: Inputs, given: Given) -> Tensor:
    maps, weight, *bias = inputs
    axes = weight.ndim - 2
    pads = _pads(given, maps.shape[2:], weight.shape[2:])
    padding: Sequence[int] = [0] * axes
    if pads[:axes] == pads[axes:]:  # PyTorch's own is quicker, and knows one number for both sides
        padding = pads[:axes]
    else:
        maps = _padded(maps, pads)
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    return convolve(
        maps,
        weight,
        bias[0] if bias else None,
        given.get("strides", [1] * axes),
        padding,
        given.get("dilations", [1] * axes),
        given.get("group", 1),
    )


def _max_pool(inputs: Inputs, given: Given) -> Tensor:
    kernel = given["kernel_shape"]
    pads = _pads(given, inputs[0].shape[2:], kernel)
    found: Tensor = functional.max_pool2d(
        _padded(inputs[0], pads, -torch.inf),
        kernel,
        stride=given.get("strides", (1, 1)),
        dilation=given.get("dilations", (1, 1)),
        ceil_mode=bool(given.get("ceil_mode", 0)),
    )
    return found


def _average_pool(inputs: Inputs, given: Given) -> Tensor:
    maps, kernel = inputs[0], given["kernel_shape"]
    axes = len(kernel)
    pads = _pads(given, maps.shape[2:], kernel)
    padding, own = [0] * axes, pads[:axes] == pads[axes:]
    if own:
        padding = pads[:axes]
    pool = functools.partial(
        (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[axes - 1],
        kernel_size=kernel,
        stride=given.get("strides", [1] * axes),
        ceil_mode=bool(given.get("ceil_mode", 0)),
    )
    include = bool(given.get("count_include_pad", 0))
    if own:
        return pool(maps, padding=padding, count_include_pad=include)
    mean = pool(_padded(maps, pads))
    if include:
        return mean
    # Where a window reaches over the border, only what is inside counts.
    return mean / pool(_padded(torch.ones_like(maps[:1, :1]), pads))


def _global(how: Callable[..., Tensor]) -> Computed:
    return lambda inputs, _: how(inputs[0], dim=tuple(range(2, inputs[0].ndim)), keepdim=True)


# Norms


def _batch_norm(inputs: Inputs, given: Given) -> Tensor:
    maps, weight, bias, mean, variance = inputs
    # With the statistics of the file, in training as well: a few images say less.
    return functional.batch_norm(maps, mean, variance, weight, bias, eps=given.get("epsilon", 1e-5))


def _layer_norm(inputs: Inputs, given: Given) -> Tensor:
    values, weight, *bias = inputs
    shape = values.shape[given.get("axis", -1) :]
    parts = [weight, bias[0] if bias else None]
    weight, shift = (part if part is None else part.expand(shape) for part in parts)
    return functional.layer_norm(values, shape, weight, shift, eps=given.get("epsilon", 1e-5))


def _instance_norm(inputs: Inputs, given: Given) -> Tensor:
    values, weight, bias = inputs
    return functional.instance_norm(
        values, weight=weight, bias=bias, eps=given.get("epsilon", 1e-5)
    )


def _group_norm(inputs: Inputs, given: Given) -> Tensor:
    values, weight, bias = inputs
    groups, channels = given["num_groups"], values.shape[1]
    if len(weight) != channels:  # a scale a group until opset 21
        weight, bias = (part.repeat_interleave(channels // groups) for part in (weight, bias))
    return functional.group_norm(values, groups, weight, bias, eps=given.get("epsilon", 1e-5))


def _lp_norm(inputs: Inputs, given: Given) -> Tensor:
    return functional.normalize(inputs[0], p=given.get("p", 2), dim=given.get("axis", -1))


# Products and activations


def _gemm(inputs: Inputs, given: Given) -> Tensor:
    left, right, *bias = inputs
    left = left.T if given.get("transA", 0) else left
    right = right.T if given.get("transB", 0) else right
    product: Tensor = left @ right
    if given.get("alpha", 1.0) != 1.0:
        product = given["alpha"] * product
    return torch.add(product, bias[0], alpha=given.get("beta", 1.0)) if bias else product


def _einsum(inputs: Inputs, given: Given) -> Tensor:
    return torch.einsum(_text(given["equation"]), *inputs)


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


def _hard_sigmoid(inputs: Inputs, given: Given) -> Tensor:
    values: Tensor = inputs[0] * given.get("alpha", 0.2) + given.get("beta", 0.5)
    return values.clamp(0, 1)


def _divide(left: Tensor, right: Tensor) -> Tensor:
    whole = not left.is_floating_point()
    return torch.div(left, right, rounding_mode="trunc" if whole else None)


def _modulo(inputs: Inputs, given: Given) -> Tensor:
    how = torch.fmod if given.get("fmod", 0) else torch.remainder
    found: Tensor = how(inputs[0], inputs[1])
    return found


def _every(how: Callable[[Tensor, Tensor], Tensor]) -> Computed:
    """Return an operator of any number of inputs."""
    return lambda inputs, _: functools.reduce(how, inputs)


def _mean(inputs: Inputs, _: Given) -> Tensor:
    found: Tensor = functools.reduce(torch.add, inputs) / len(inputs)
    return found


def _softmax(how: Callable[..., Tensor]) -> Computed:
    return lambda inputs, given: how(inputs[0], dim=given.get("axis", -1))


def _reduced(how: Callable[..., Tensor]) -> Computed:
    """Return an operator that joins the values along the axes of its second input."""

    def reduce(inputs: Inputs, given: Given) -> Tensor:
        values, axes = inputs[0], inputs[1] if len(inputs) > 1 else None
        chosen = list(range(values.ndim)) if axes is None else _numbers(axes)
        if axes is not None and not chosen:
            if given.get("noop_with_empty_axes", 0):
                found: Tensor = values
                return found
            chosen = list(range(values.ndim))
        return how(values, dim=tuple(chosen), keepdim=bool(given.get("keepdims", 1)))

    return reduce


def _sum_of_squares(values: Tensor, *, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return values.square().sum(dim=dim, keepdim=keepdim)


def _product(values: Tensor, *, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    for axis in sorted((axis % values.ndim for axis in dim), reverse=True):
        values = values.prod(dim=axis, keepdim=keepdim)
    return values


# Shapes


def _cast(inputs: Inputs, given: Given) -> Tensor:
    found: Tensor = inputs[0].to(_TYPES[given["to"]])
    return found


def _shape(inputs: Inputs, given: Given) -> Tensor:
    sizes = list(inputs[0].shape)
    return torch.tensor(sizes[given.get("start", 0) : given.get("end", len(sizes))])


def _transpose(inputs: Inputs, given: Given) -> Tensor:
    values: Tensor = inputs[0]
    return values.permute(given.get("perm", tuple(range(values.ndim))[::-1]))


def _flatten(inputs: Inputs, given: Given) -> Tensor:
    values: Tensor = inputs[0]
    axis = given.get("axis", 1)
    return values.reshape(math.prod(values.shape[:axis]), -1)


def _reshape(inputs: Inputs, given: Given) -> Tensor:
    values, wanted = inputs[0], _numbers(inputs[1])
    if not given.get("allowzero", 0):
        wanted = [values.shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    found: Tensor = values.reshape(wanted)
    return found


def _squeeze(values: Tensor, axes: Tensor | None = None) -> Tensor:
    return values.squeeze() if axes is None else values.squeeze(tuple(_numbers(axes)))


def _unsqueeze(values: Tensor, axes: Tensor) -> Tensor:
    places = _numbers(axes)
    ndim = values.ndim + len(places)
    for place in sorted(place % ndim for place in places):
        values = values.unsqueeze(place)
    return values


def _expand(values: Tensor, shape: Tensor) -> Tensor:
    sizes = _numbers(shape)
    wide = values.reshape((1,) * (len(sizes) - values.ndim) + tuple(values.shape))
    sizes = [1] * (wide.ndim - len(sizes)) + sizes
    return wide.expand([max(pair) for pair in zip(wide.shape, sizes, strict=True)])


def _pad(inputs: Inputs, given: Given) -> Tensor:
    values, pads = inputs[0], _numbers(inputs[1])
    fill = 0.0 if len(inputs) < 3 or inputs[2] is None else inputs[2].item()
    axes = list(range(values.ndim))
    if len(inputs) > 3:
        axes = [axis % values.ndim for axis in _numbers(inputs[3])]
    before, after = [0] * values.ndim, [0] * values.ndim
    for place, axis in enumerate(axes):
        before[axis], after[axis] = pads[place], pads[place + len(axes)]
    pairs = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    mode = {"edge": "replicate", "wrap": "circular"}.get(
        kind := _text(given.get("mode", "constant")), kind
    )
    if mode == "constant":
        return functional.pad(values, pairs, value=fill)
    # PyTorch repeats the last axes only; nothing is added to the others.
    return functional.pad(values, pairs[: 2 * (values.ndim - 2)], mode=mode)


def _concat(inputs: Inputs, given: Given) -> Tensor:
    return torch.cat(list(inputs), dim=given["axis"])


def _split(inputs: Inputs, given: Given) -> tuple[Tensor, ...]:
    values, axis = inputs[0], given.get("axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        return torch.split(values, _numbers(inputs[1]), dim=axis)
    parts = given["num_outputs"]
    return torch.split(values, -(-values.shape[axis] // parts), dim=axis)


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


def _gather(inputs: Inputs, given: Given) -> Tensor:
    values, places = inputs[0], inputs[1].long().to(inputs[0].device)
    axis = given.get("axis", 0) % values.ndim
    places = torch.where(places < 0, places + values.shape[axis], places)
    shape = (*values.shape[:axis], *places.shape, *values.shape[axis + 1 :])
    found: Tensor = values.index_select(axis, places.reshape(-1)).reshape(shape)
    return found


def _constant_of_shape(inputs: Inputs, given: Given) -> Tensor:
    value = torch.zeros(1)
    if "value" in given:
        value = held(numpy_helper.to_array(given["value"]))
    return value.reshape(()).expand(_numbers(inputs[0]))


def _range(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(chosen.to(one.device), one, other.to(one.device))


def _depth_to_space(inputs: Inputs, given: Given) -> Tensor:
    values, side = inputs[0], given["blocksize"]
    if _text(given.get("mode", "DCR")) == "CRD":
        return functional.pixel_shuffle(values, side)
    count, channels, height, width = values.shape
    parts = values.reshape(count, side, side, channels // side**2, height, width)
    found: Tensor = parts.permute(0, 3, 4, 1, 5, 2).reshape(
        count, channels // side**2, height * side, width * side
    )
    return found


def _space_to_depth(inputs: Inputs, given: Given) -> Tensor:
    values, side = inputs[0], given["blocksize"]
    count, channels, height, width = values.shape
    parts = values.reshape(count, channels, height // side, side, width // side, side)
    found: Tensor = parts.permute(0, 3, 5, 1, 2, 4).reshape(
        count, channels * side**2, height // side, width // side
    )
    return found


def _dequantised(inputs: Inputs, given: Given) -> Tensor:
    values, scale, *zero = inputs
    shape = [1] * values.ndim
    if scale.numel() > 1:
        shape[given.get("axis", 1)] = -1
    centred = values.to(torch.float32)
    if zero and zero[0] is not None:
        centred = centred - zero[0].to(torch.float32).reshape(shape)
    found: Tensor = centred * scale.reshape(shape)
    return found


# Images in other sizes


def _resize(inputs: Inputs, given: Given) -> Tensor:
    """Enlarge or shrink along each axis by a product with a matrix that says what is mixed."""
    values = inputs[0]
    scales = inputs[2] if len(inputs) > 2 else None
    axes = [axis % values.ndim for axis in given.get("axes", range(values.ndim))]
    options = tuple(
        (name, _text(given.get(name, default)))
        for name, default in (
            ("mode", "nearest"),
            ("coordinate_transformation_mode", "half_pixel"),
            ("nearest_mode", "round_prefer_floor"),
            ("antialias", 0),
            ("cubic_coeff_a", -0.75),
            ("exclude_outside", 0),
        )
    )
    for place, axis in enumerate(axes):
        size = values.shape[axis]
        if scales is not None and scales.numel():
            scale = float(scales[place])
            wanted = math.floor(size * scale)
        else:
            wanted = int(inputs[3][place])
            scale = wanted / size
        if wanted != size or scale != 1:
            mixed = _mixture(size, wanted, scale, options).to(values.device, values.dtype)
            moved = values.movedim(axis, -1)
            values = functional.linear(moved, mixed).movedim(-1, axis)
    found: Tensor = values
    return found


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
    kernel, reach = (_triangle, 1) if given["mode"] == "linear" else (_cubic(given), 2)
    # Where an image shrinks, each place mixes as many as fall on it.
    wide = min(scale, 1.0) if given["antialias"] else 1.0
    reach = math.ceil(reach / wide)
    first = np.floor(at).astype(np.int64)
    places = first[:, None] + np.arange(1 - reach, reach + 1)
    shares = kernel(np.abs(at[:, None] - places) * wide)
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


def _triangle(away: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(1 - away, 0, 1)


def _cubic(given: Given) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    a = given["cubic_coeff_a"]

    def kernel(away: NDArray[np.float64]) -> NDArray[np.float64]:
        near = ((a + 2) * away - (a + 3)) * away**2 + 1
        far = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
        return np.where(away <= 1, near, np.where(away < 2, far, 0.0))

    return kernel


#: What networks that people publish, `opsin.training.torch_to_onnx` and the smooth models of
#: `opsin.classical` are written in. Each has a row in `opsin.onnx_files.operators` as well.
COMPUTED: Final[dict[str, Computed]] = {
    **{name: _by_row(row) for name, row in OPERATORS.items() if row.layer},
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Ceil": _plain(torch.ceil),
    "Clip": _plain(_clip),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Cos": _plain(torch.cos),
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantised,
    "Div": _plain(_divide),
    "Dropout": lambda inputs, _: inputs[0],
    "Einsum": _einsum,
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": _plain(_expand),
    "Flatten": _flatten,
    "Floor": _plain(torch.floor),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "LpNormalization": _lp_norm,
    "MatMul": _plain(torch.matmul),
    "Max": _every(torch.maximum),
    "MaxPool": _max_pool,
    "Mean": _mean,
    "Min": _every(torch.minimum),
    "Mod": _modulo,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "PRelu": _plain(lambda values, slope: torch.where(values < 0, values * slope, values)),
    "Pad": _pad,
    "Pow": _plain(_power),
    "Range": _plain(_range),
    "Reciprocal": _plain(torch.reciprocal),
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
    "Sin": _plain(torch.sin),
    "Size": _plain(lambda values: torch.tensor(values.numel())),
    "Slice": _plain(_slice),
    "Softmax": _softmax(torch.softmax),
    "Softplus": _plain(functional.softplus),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _plain(_squeeze),
    "Sub": _plain(torch.sub),
    "Sum": _every(torch.add),
    "Tile": _plain(lambda values, times: values.repeat(_numbers(times))),
    "Transpose": _transpose,
    "Unsqueeze": _plain(_unsqueeze),
    "Where": _plain(_where),
}
