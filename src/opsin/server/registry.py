"""The models in service, replaced without a gap."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from opsin.core.child_process import Header
from opsin.core.errors import OpsinError
from opsin.core.files import MISSING, file_stamp
from opsin.core.metadata import Metadata
from opsin.server.metrics import ServerMetrics
from opsin.server.models import ModelVersion, ServedModel, training_shares
from opsin.server.workers import WorkerPool

_LOG: Final = logging.getLogger(__name__)


class ModelRegistry:
    """Holds the models under their names, and watches their files.

    A file that has changed is opened by two processes of its own first: `check_model` sees that it
    does no harm, so that a bad one changes nothing, and `WorkerPool.try_out` whether answers
    depend on what else is in a batch. Then every worker opens it beside the old one, and only
    then do new requests get it; those that came before have their answers from the old one.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        *,
        batch: int,
        device: str,
        metrics: ServerMetrics,
        poll_seconds: float,
    ) -> None:
        self.models: dict[str, ModelVersion] = {}
        self.served: dict[str, ServedModel] = {}
        self._paths = dict(paths)
        self._batch, self._device = batch, device
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._coming: list[ModelVersion] = []
        self._retired: list[ModelVersion] = []

    async def open(self, pool: WorkerPool) -> None:
        """Read the models, and start the workers with them."""
        models = {
            name: await asyncio.to_thread(ModelVersion.read, path, self._device)
            for name, path in self._paths.items()
        }
        known = await pool.start(list(models.values()), trial_batch=self._batch)
        for (name, model), header in zip(models.items(), known, strict=True):
            self._enter(name, model, header)

    def needed(self) -> set[str]:
        """The digests of the models that a worker may still be asked for."""
        self._retired = [model for model in self._retired if model.asked]
        return {model.digest for model in (*self.models.values(), *self._retired, *self._coming)}

    async def watch(self, pool: WorkerPool) -> None:
        """Replace models whose files are replaced, until cancelled."""
        tried = {name: model.stamp for name, model in self.models.items()}
        seen = dict(tried)
        while True:
            await asyncio.sleep(self._poll_seconds)
            for name in self._paths:
                stamp = await asyncio.to_thread(file_stamp, self.models[name].path)
                if stamp == MISSING:  # between two files, or gone: the old one goes on
                    continue
                # The same twice: it seems to be written completely.
                if stamp == seen[name] != tried[name]:
                    tried[name] = stamp
                    await self._replace(name, pool)
                seen[name] = stamp

    async def _replace(self, name: str, pool: WorkerPool) -> None:
        """Open a model's new file, and let it take over; a bad one changes nothing."""
        old = self.models[name]
        try:
            new = await asyncio.to_thread(ModelVersion.read, old.path, self._device)
            if new.digest == old.digest:
                return
            header = await pool.try_out(new, trial_batch=self._batch)
        except (OpsinError, OSError) as error:
            _LOG.warning("model %s: the old file stays in use: %s", name, error)
            self._metrics.reloaded(name, ok=False)
            return
        self._coming = [new]
        await pool.load(new)
        self._enter(name, new, header)
        self._coming = []
        self._retired.append(old)
        _LOG.info("model %s: the new file is in use", name)
        self._metrics.reloaded(name, ok=True)

    def _enter(self, name: str, model: ModelVersion, header: Header) -> None:
        """Put a model into service."""
        metadata = Metadata.model_validate(header["metadata"])
        model.served = ServedModel(
            name=name,
            metadata=metadata,
            digest=model.digest,
            loaded=time.time(),
            mix=training_shares(model.path, metadata),
            embedding=header["embedding"],
            device=header["device"],
            batch_invariant=header["batch_invariant"],
        )
        self.models[name], self.served[name] = model, model.served
