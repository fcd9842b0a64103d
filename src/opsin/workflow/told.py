"""What a training says before it begins and when it is done."""

from __future__ import annotations

from typing import Any

from opsin.events import Watcher
from opsin.report.terminal import (
    clock,
    confusions,
    leaks_in_words,
    megabytes,
    plus_minus,
)
from opsin.run import RunDirectory
from opsin.workflow.job import Job


def tell_start(watcher: Watcher, directory: RunDirectory, job: Job) -> None:
    """Say what is trained on what, and what is wrong with the pictures."""
    dataset, audit = job.dataset, job.audit
    watcher.fact("Data", f"{dataset.recipe.source} · {dataset.summary()}")
    if dataset.unreadable:
        name, reason = dataset.unreadable[0]
        watcher.note(
            f"{len(dataset.unreadable):,} unreadable files left out, such as {name}: {reason} "
            f"(all of them: {directory.dataset})"
        )
    if audit.findings:
        found = [f"{count:,} {kind.replace('-', ' ')}" for kind, count in audit.counts().items()]
        watcher.fact("Audit", f"{' · '.join(found)} · to see them: opsin data SOURCE --audit")
    if any(dataset.leaks):
        watcher.note(leaks_in_words(*dataset.leaks))
    watcher.layers(job.layers)
    parameters = sum(layer.parameters for layer in job.layers)
    work = sum(layer.multiply_adds for layer in job.layers)
    cost = f"{work / 1e6:.1f} M" if work >= 1_000_000 else f"{work:,}"
    watcher.fact(
        "Model",
        f"{job.recipe.model.name} · {parameters:,} parameters · {cost} multiply-adds a picture",
    )
    for name, reason in job.recipe.reasons.items():
        watcher.fact(name, reason)
    watcher.fact("Device", job.device_name)
    watcher.fact("Run", str(directory.path))


def tell_end(watcher: Watcher, report: dict[str, Any]) -> None:
    """Say how the training went, how good the file is, and what it confuses."""
    figures = report["figures"][report["split"]]
    training, file, seconds = report["training"], report["file"], report["seconds"]
    watcher.fact(
        "Trained",
        f"{_how(training)} in {clock(seconds['train'])} · best by validation: epoch "
        f"{training['best_epoch']} · {clock(sum(seconds.values()))} in all",
    )
    what, how = ("Test", "looked at once")
    if report["split"] == "val":
        what, how = ("Valid.", "optimistic: the best epoch was chosen on them")
    watcher.fact(
        what,
        f"accuracy {plus_minus(figures)} ({figures['images']:,} pictures, {how}) · "
        f"log loss {figures['log_loss']:.3f}",
    )
    watcher.fact("Confuses", confusions(figures))
    watcher.fact(
        "File",
        f"classifier.onnx · {megabytes(file['bytes'])} · same answers as the network on "
        f"{file['parity_images']} pictures (largest difference {file['difference']:.0e})",
    )


def _how(training: dict[str, Any]) -> str:
    epochs, asked = training["epochs"], training["asked"]
    if training["diverged"]:
        return f"stopped in epoch {epochs + 1} of {asked}, since {training['diverged']},"
    if training["stopped"]:
        return f"stopped in epoch {epochs} of {asked}"
    if epochs < asked:
        return f"{epochs} of {asked} epochs, then no more patience,"
    return f"{epochs} epochs"
