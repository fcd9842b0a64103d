"""What a training would be, before it begins."""

from __future__ import annotations

from typing import Any, Unpack

from opsin.classical.classical_recipe import ClassicalRecipe
from opsin.commands.train.load import load_for
from opsin.commands.train.train import decide
from opsin.commands.train.trial import TRIAL_SECONDS
from opsin.commands.train.words import tell_limits
from opsin.core.arguments import checked
from opsin.core.events import Watcher, WatcherGroup
from opsin.core.format import about, counted, file_size, millions
from opsin.core.keyword_options import TrainOptions
from opsin.core.recipe import Recipe, TrainingRecipe
from opsin.report.terminal import for_people
from opsin.report.training_plan import Plan
from opsin.training.process_group import refuse_several


class _Noted(Watcher):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@checked
def plan(
    data: object,
    *,
    model: str | None = None,
    budget: str | float | None = None,
    watcher: Watcher | None = None,
    quiet: bool = False,
    offline: bool = False,
    **options: Unpack[TrainOptions],
) -> Plan:
    """Say what `train` would do with the same arguments; no run is begun and nothing is kept.

    Images that were never read before are read and kept in the cache, as `train` would.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        model: As in `train`.
        budget: As in `train`; the sizes of the network are then measured for a few seconds.
        watcher: Receives how far reading and measuring are (default: a progress display on
            standard error).
        quiet: Show nothing.
        offline: Fetch no pretrained network: use what is on this machine.
        **options: Fields of the recipe, as in `train`.

    Raises:
        OpsinError: As from `train`, for everything that it refuses before it begins.

    Example:
        >>> planned = plan("digits", model="mlp", epochs=3, quiet=True)
        >>> planned.parameters, planned.recipe.training.epochs
        (9610, 3)
    """
    refuse_several("a plan")
    noted = _Noted()
    watcher = WatcherGroup(watcher or for_people(quiet=quiet), noted)
    requested: dict[str, Any] = {**options}
    loaded = load_for(
        data, model, requested, budget=budget, offline=offline, watcher=watcher, planned=True
    )
    dataset = loaded.dataset
    tell_limits(watcher, dataset)
    learner = decide(loaded, requested, began=0.0, watcher=watcher)
    # The audit changes nothing of a training, and would take longer than all else.
    with learner.ready():
        planned = learner.planned()
        if loaded.is_open:
            learner.decided(
                Trial="where histograms of gradients come close to the features, a network is "
                f"trained from scratch for {TRIAL_SECONDS:.0f} s on training images; if that one "
                "is better, it is trained in full"
            )
        images = {part: len(dataset.split.rows(part)) for part in ("train", "val", "test")}
        images["train"] = len(getattr(learner, "rows", dataset.split.train))
        return Plan.model_validate({
            "recipe": learner.recipe,
            "summary": dataset.summary(),
            "images": images,
            "layers": tuple(learner.layers),
            "device": learner.device_name,
            "notes": tuple(noted.notes),
            **planned,
        })  # fmt: skip


def in_words(planned: Plan) -> list[tuple[str, str]]:
    """The plan as lines of a heading and a text."""
    recipe = planned.recipe
    size = "its size is known once it is fitted"
    if planned.parameters is not None and planned.multiply_adds is not None:
        work = millions(planned.multiply_adds)
        size = f"{planned.parameters:,} parameters · {work} multiply-adds an image"
    lines = [
        ("Data", f"{recipe.data.source} · {planned.summary}"),
        ("Model", f"{recipe.model.name} · {size}"),
        *recipe.reasons.items(),
        ("Device", planned.device),
    ]
    if isinstance(recipe.training, TrainingRecipe) and planned.seconds is not None:
        epochs, seconds = recipe.training.epochs, planned.seconds
        most = "at most " if recipe.training.patience else ""
        time = f"{most}about {about(seconds)} for {counted(epochs, 'epoch')}"
        if isinstance(recipe, ClassicalRecipe) and recipe.budget is not None:
            time = f"at most about {about(seconds)}"
        lines.append(("Time", time))
    elif planned.seconds is not None:
        lines.append(("Time", f"about {about(planned.seconds)} for features and head"))
    if isinstance(recipe, Recipe):
        # Two digits: more would say more than is known.
        lines.append(("Memory", f"about {file_size(planned.memory or 0)} beside the images"))
        rates = [rate for _, rate in planned.rates]
        ends = f"{rates[0]:.2g} at first, {rates[-1]:.2g} at the end"
        lines.append(("Rate", f"{recipe.training.schedule} · {max(rates):.2g} at most, {ends}"))
    return lines
