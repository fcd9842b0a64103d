"""One step of training: vary, forward, backward, update."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import shutil

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from opsin.core.arrays import Floats
from opsin.core.recipe import TrainingRecipe
from opsin.models.onnx_network import TorchNetwork
from opsin.training.augment import augment
from opsin.training.batches import spans_of
from opsin.training.checkpoint import Tensors
from opsin.training.optimizers import make_optimizers
from opsin.training.process_group import ALONE, ProcessGroup

_NETWORK, _OPTIMIZER, _RANDOM, _MEAN = "network.", "optimizer.", "random.", "mean."


class TrainStep:
    """Network (from ``uint8[N, H, W, C]`` to logits), loss, optimiser and random states."""

    def __init__(
        self,
        network: nn.Module,
        recipe: TrainingRecipe,
        *,
        device: torch.device,
        weights: Floats | None = None,
        group: ProcessGroup = ALONE,
    ) -> None:
        self.group = group
        self.network = network.to(device)
        self.recipe = recipe
        self.device = device
        self.optimizers = make_optimizers(network, recipe)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        balance = None if weights is None else torch.from_numpy(weights).to(device)
        self.loss_of = nn.CrossEntropyLoss(balance, label_smoothing=recipe.label_smoothing)
        self._forward: nn.Module = network
        # Triton needs a C compiler. An imported graph may compute with shapes.
        compiles = device.type == "cuda" and not isinstance(network, TorchNetwork)
        if group.world > 1:
            self._forward = _data_parallel(network, device)
        elif compiles and importlib.util.find_spec("triton") and shutil.which("cc"):
            self._forward = torch.compile(network)  # type: ignore[assignment]
        self._half = recipe.precision == "bfloat16"
        self._mean: AveragedModel | None = None
        if recipe.ema:
            update = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
            self._mean = AveragedModel(network, multi_avg_fn=update, use_buffers=True).eval()

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        rate: float,
        mirrored: Tensor | None = None,
        *,
        whole: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Learn from a batch with labels ``whole``, of which each process has its share."""
        whole = labels if whole is None else whole
        generator, world, rank = self.generator, self.group.world, self.group.rank
        if world > 1:  # what a process draws follows from what a checkpoint keeps
            seed = int(torch.randint(2**31, (1,), generator=generator)) + rank
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed + world)
        varied = augment(images, self.recipe, generator, mirrored)
        self.network.zero_grad(set_to_none=True)
        # A multiple of the world size: each process has its share of each part, and as many parts.
        size = -(-(self.recipe.micro_batch or len(whole)) // world) * world
        parts = []
        for begin, end in spans_of(len(whole), size, world=world):
            rows = slice(begin // world, -(-(end - rank) // world))
            stay: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            if isinstance(self._forward, DistributedDataParallel) and end < len(whole):
                stay = self._forward.no_sync()  # until the last part, gradients stay here
            with self.group.together(), stay:
                parts.append(self._learn(varied[rows], labels[rows], whole, generator))
        loss, right = parts[0]
        for further, answered in parts[1:]:
            loss, right = loss + further, right + answered
        if world > 1:
            loss, right = loss.float(), right.float()
            self.group.add([loss, right])
            self.group.take_first([b for b in self.network.buffers() if b.is_floating_point()])
        for optimizer, share in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * rate
            optimizer.step()
        if self._mean is not None:
            self._mean.update_parameters(self.network)
        return loss, right

    def _learn(
        self, images: Tensor, labels: Tensor, whole: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients of a part of the batch to those of the parts before."""
        if self.recipe.mixup:
            logits, loss = self._mixed(images, labels, generator)
        else:
            logits = self.logits(images)
            loss = self.loss_of(logits, labels)
        if len(labels) < len(whole):
            weights = self.loss_of.weight
            loss = loss * (
                len(labels) / len(whole)
                if weights is None
                else float(weights[labels].sum() / weights[whole.to(weights.device)].sum())
            )
        # The mean over all processes, by which gradients are joined, is then that of the batch.
        (self.group.world * loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), (logits.detach().argmax(dim=1) == labels).sum()

    def _mixed(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Logits and loss of mixed pairs of images (mixup, arXiv:1710.09412)."""
        drawn = int(torch.randint(2**31, (1,), generator=generator))
        share = float(np.random.default_rng(drawn).beta(self.recipe.mixup, self.recipe.mixup))
        logits = self.logits(share * images.float() + (1 - share) * images.flip(0).float())
        loss = share * self.loss_of(logits, labels)
        return logits, loss + (1 - share) * self.loss_of(logits, labels.flip(0))

    def logits(self, images: Tensor) -> Tensor:
        """Logits ``float32[N, K]``, as the network is now: training or evaluating."""
        forward = self._forward
        if not self.network.training and (self._mean is not None or self.group.world > 1):
            forward = self._mean or self.network
        if not self._half:  # an idle autocast would cost small steps a tenth of their time
            logits: Tensor = forward(images)
            return logits
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = forward(images)
        return logits.float()

    def deliver(self) -> None:
        """Leave the network on the CPU, with averaged weights, if any."""
        if self._mean is not None:
            self.network.load_state_dict(self._mean.module.state_dict())
        self.network.to("cpu")

    def tensors(self) -> Tensors:
        """The whole state under names of one level; nothing is copied."""
        tensors = {_NETWORK + name: value for name, value in self.network.state_dict().items()}
        if self._mean is not None:
            tensors |= {_MEAN + name: value for name, value in self._mean.state_dict().items()}
        for index, (optimizer, _) in enumerate(self.optimizers):
            for number, state in optimizer.state_dict()["state"].items():
                for name, value in state.items():
                    if value is not None:
                        tensors[f"{_OPTIMIZER}{index}.{number}.{name}"] = value
        tensors[f"{_RANDOM}variation"] = self.generator.get_state()
        tensors[f"{_RANDOM}cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors[f"{_RANDOM}cuda"] = torch.cuda.get_rng_state(self.device)
        return tensors

    def restore(self, tensors: Tensors) -> None:
        """Restore a state from `tensors`; an optimiser without state starts anew."""
        self.network.load_state_dict(_below(tensors, _NETWORK))
        if self._mean is not None:
            self._mean.load_state_dict(_below(tensors, _MEAN))
        for index, (optimizer, _) in enumerate(self.optimizers):
            _restore(optimizer, tensors, f"{_OPTIMIZER}{index}.")
        self.generator.set_state(tensors[f"{_RANDOM}variation"])
        torch.set_rng_state(tensors[f"{_RANDOM}cpu"])
        if self.device.type == "cuda" and f"{_RANDOM}cuda" in tensors:
            torch.cuda.set_rng_state(tensors[f"{_RANDOM}cuda"], self.device)

    def finite(self) -> bool:
        """Whether every parameter is a number."""
        sums = torch.stack([p.detach().sum() for p in self.network.parameters()])
        return bool(torch.isfinite(sums).all())


def _data_parallel(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """A network whose gradients are the mean over all processes; it shares its tensors."""
    if device.type == "cuda":  # elsewhere each process has the statistics of its own images
        tensors = (*network.parameters(), *network.buffers())
        network = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors}).train()
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(network)


def _below(tensors: Tensors, prefix: str) -> Tensors:
    items = tensors.items()
    return {name.removeprefix(prefix): value for name, value in items if name.startswith(prefix)}


def _restore(optimizer: torch.optim.Optimizer, tensors: Tensors, prefix: str) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, Tensors] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            number, name = key.removeprefix(prefix).split(".")
            target = parameters[int(number)]
            # In the parameter's own order in memory, which a file does not keep.
            whole = torch.empty_like(target).copy_(value) if value.shape == target.shape else value
            state.setdefault(int(number), {})[name] = whole
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
