"""Layers that depend on the whole batch, where each process has a share of it.

BatchNorm takes its mean and variance from all images of the batch, and dropout draws for all of
them, so that the batch's result does not depend on how many processes share it.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from opsin.training.process_group import ProcessGroup


class WholeBatch(nn.Module):
    """A network as one of several processes computes it; parameters and buffers are its own.

    Args:
        network: The network, whose mode of training or evaluating holds.
        group: The processes.
    """

    def __init__(self, network: nn.Module, group: ProcessGroup) -> None:
        super().__init__()
        #: Images of the whole batch; set before each step.
        self.images = 0
        self._original = [network]  # in a list, so that it is no part of this module
        memo: dict[int, Any] = {
            id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())
        }
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                memo[id(module)] = _NormOfAll(module, group)
            elif isinstance(module, _DropoutNd):
                memo[id(module)] = _DropoutOfAll(module, self, group)
        self.network = copy.deepcopy(network, memo)

    def forward(self, images: Tensor) -> Tensor:
        """Return what the network does, with its statistics and chance those of the whole batch."""
        self.network.train(self._original[0].training)
        logits: Tensor = self.network(images)
        return logits


class _DropoutOfAll(nn.Module):
    """Dropout that draws for the whole batch and applies its own share."""

    def __init__(self, dropout: _DropoutNd, batch: WholeBatch, group: ProcessGroup) -> None:
        super().__init__()
        self.dropout, self.group = dropout, group
        self._batch = [batch]  # in a list, so that no module holds itself

    def forward(self, values: Tensor) -> Tensor:
        """Drop out in training."""
        if not self.training:
            return values
        whole = values.new_ones((self._batch[0].images, *values.shape[1:]))
        if values.dim() == 4 and not values.is_contiguous():  # numbers are drawn in memory's order
            whole = whole.contiguous(memory_format=torch.channels_last)
        kept: Tensor = self.dropout(whole)
        return values * kept[self.group.share]


class _NormOfAll(nn.Module):
    """BatchNorm by the mean and the variance of the whole batch."""

    def __init__(self, norm: _BatchNorm, group: ProcessGroup) -> None:
        super().__init__()
        self.norm, self.group = norm, group

    def forward(self, values: Tensor) -> Tensor:
        """Normalise; in training move the running statistics, too."""
        norm = self.norm
        if not self.training:
            normal: Tensor = norm(values)
            return normal
        batch = _statistics(values.detach(), self.group)
        result: Tensor = _Normalised.apply(  # type: ignore[no-untyped-call]
            values, norm.weight, norm.bias, batch, norm.eps, self.group
        )
        self._keep(batch)
        return result

    @torch.no_grad()
    def _keep(self, batch: _Statistics) -> None:
        """Move the running statistics, as PyTorch does."""
        norm = self.norm
        mean, variance, seen = norm.running_mean, norm.running_var, norm.num_batches_tracked
        if mean is None or variance is None or seen is None:
            return
        seen.add_(1)
        moved = 1 / float(seen) if norm.momentum is None else norm.momentum
        mean.lerp_(batch.mean, moved)
        variance.lerp_(batch.variance * (batch.number / (batch.number - 1)), moved)


class _Statistics(NamedTuple):
    """How many values a channel has in the whole batch, their mean and their variance."""

    number: Tensor
    mean: Tensor
    variance: Tensor


def _statistics(values: Tensor, group: ProcessGroup) -> _Statistics:
    """Return the statistics of the whole batch.

    By each process's own mean, so that nothing is lost where that is large (T. Chan, G. Golub and
    R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
    """
    channels = values.shape[1]
    own, own_mean = torch.var_mean(values.float(), _others(values), correction=0)
    table = values.new_zeros((group.world, 2 * channels + 1), dtype=torch.float32)
    table[group.rank, :channels] = own_mean
    table[group.rank, channels:-1] = own
    table[group.rank, -1] = values.numel() / channels
    group.add([table])
    means, variances, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
    count = counts.sum()
    mean = (means * counts).sum(dim=0) / count
    variance = ((variances + (means - mean) ** 2) * counts).sum(dim=0) / count
    return _Statistics(count, mean, variance)


def _others(values: Tensor) -> list[int]:
    """Return the dimensions of a batch but its channels."""
    return [0, *range(2, values.dim())]


class _Normalised(torch.autograd.Function):
    """Values less the whole batch's mean, over its deviation, which depend on them, too.

    Source: S. Ioffe and C. Szegedy, "Batch normalization" (2015), arXiv:1502.03167, section 3.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  PyTorch passes no names
        ctx: Any,
        values: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        batch: _Statistics,
        eps: float,
        group: ProcessGroup,
    ) -> Tensor:
        """Normalise as in evaluation, with this batch's statistics."""
        ctx.save_for_backward(values, weight, *batch)
        ctx.eps, ctx.group = eps, group
        return nn.functional.batch_norm(values, batch.mean, batch.variance, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; those of weight and bias are of this process's share."""
        values, weight, count, mean, variance = ctx.saved_tensors
        # As if mean and variance were fixed numbers …
        scaled, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], values, weight, mean, variance, None, None, False, ctx.eps,
            [True, True, True],
        )  # fmt: skip
        # … and what they change, by the sums over the whole batch.
        sums = torch.stack([of_weight, of_bias]).float()
        ctx.group.add([sums])
        inverse = (variance + ctx.eps).rsqrt()
        scale = inverse if weight is None else inverse * weight
        slope = -scale * inverse * sums[0] / count
        offset = -scale * sums[1] / count - mean * slope
        shape = [1, -1, *[1] * (values.dim() - 2)]
        slope, offset = (each.view(shape).to(values.dtype) for each in (slope, offset))
        whole = scaled.addcmul_(values, slope).add_(offset)
        if weight is None:
            return whole, None, None, None, None, None
        return whole, of_weight, of_bias, None, None, None
