"""`opsin train` and `resume`: from a source to a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from opsin.classical.classical_recipe import PIXEL_MODELS
from opsin.cli import options, recipe_flags
from opsin.cli.output import STOP_SAID, columns, console, plain, print_json, say
from opsin.cli.recipe_flags import Track, merge_options, read_options
from opsin.commands.runs import Run
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import RecipeError
from opsin.core.format import clock, plus_minus
from opsin.core.recipe import CHANGEABLE, DATA_OPTIONS
from opsin.models.architectures import MODELS as NETWORKS
from opsin.report.terminal import Terminal, class_table, labels_grounds, printable

if TYPE_CHECKING:
    from opsin.commands.repeats import Repeats
    from opsin.report.training_plan import Plan


@recipe_flags.takes(*recipe_flags.TRAINING, after="add_to", most_used=("epochs", "augment"))
@recipe_flags.takes(*DATA_OPTIONS, after="add_to", most_used=("test", "classes", "size"))
def train(
    source: options.Sources,
    *,
    model: Annotated[
        str,
        typer.Option(
            help="auto: chosen for your images and this machine; "
            f"{', '.join(f'{name} ({spec.description})' for name, spec in NETWORKS.items())}; "
            f"without layers: {', '.join(PIXEL_MODELS)}.",
            rich_help_panel=options.MOST_USED,
            show_default=True,
        ),
    ] = "auto",
    budget: str | None = None,
    add_to: Path | None = None,
    recipe: Path | None = None,
    name: str | None = None,
    repeats: int = 1,
    folds: int | None = None,
    plan: bool = False,
    track: Track = None,
    offline: bool = False,
    runs: options.Runs = Path("runs"),
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
) -> None:
    """Train a classifier, evaluate it, and write its report.

    Ctrl-C stops the training where it is; the run is then evaluated and usable.

    Example: opsin train fashion-mnist --model cnn --epochs 5

    Example: opsin train holiday-photos --budget 10m --plan

    Example: opsin train holiday-photos --folds 5

    Example: opsin train glass --add-to runs/2026-11-21-waste

    Most used:
        budget (TIME): Time that the training may take, such as 10m or 1h30m: a pretrained network
            is fine-tuned in it, or the epochs of a network are chosen to fit.
        recipe: Take options from a TOML file, or a run's recipe.json; those given here win.
        name: Name of the run (default: source and model).
        plan: Train nothing: show the network, each automatic choice with its reason, and about how
            long the training would take.

    Options:
        repeats (N): Train N times, with consecutive seeds: mean and standard deviation.
        folds (K): Cross-validate: K runs, each tested on another K-th of the images.
        add_to (RUN): Add the source to the images of this run: new classes, or more images of known
            ones; a folder without sub-folders is a class. What judged the run never becomes
            training data, and both are compared on it.
    """
    if model != "auto":
        fields["model"] = model
    if budget is not None:
        fields["budget"] = budget
    wanted = merge_options(read_options(recipe) if recipe else {}, fields)
    wanted |= {"quiet": quiet, "offline": offline}
    several = repeats != 1 or folds is not None
    if add_to is not None:
        options.expect(not several, "no --repeats or --folds beside it", "--add-to")
        options.expect(recipe is None, "no --recipe beside it: the run has one", "--add-to")
        wanted["add_to"] = add_to
    if plan:
        options.expect(
            not several, "no --repeats or --folds beside it: one training is planned", "--plan"
        )
        from opsin.commands.train.train import plan as plan_training  # noqa: PLC0415  trains

        _show_plan(plan_training(source, **wanted), as_json=as_json)
        return
    wanted |= {"runs": runs, "name": name, "track": track}
    if several:
        from opsin.commands.repeats import train_folds, train_repeats  # noqa: PLC0415  0.3 s

        if repeats != 1 and folds is not None:
            raise RecipeError("Both --repeats and --folds are given")
        _show_repeats(
            train_repeats(source, repeats=repeats, **wanted)
            if folds is None
            else train_folds(source, folds=folds, **wanted),
            as_json=as_json,
        )
        return
    from opsin.commands.train.train import train as workflow  # noqa: PLC0415  needs what trains

    show_run(workflow(source, **wanted), as_json=as_json)


@recipe_flags.takes(*CHANGEABLE, after="run")
def resume(
    run: Path,
    *,
    name: str | None = None,
    data: list[str] | None = None,
    track: Track = None,
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
) -> None:
    """Continue a run that was stopped or killed where it left off.

    It continues from the last checkpoint, in the middle of an epoch if need be, and comes to the
    same weights. With options, which a finished run needs, the training goes on in a new run beside
    it, which names it as its parent.

    Example: opsin resume runs/2026-11-21-photos-resnet

    Example: opsin resume runs/2026-11-21-photos-resnet --epochs 20

    Options:
        data (SOURCE): Where the run's images are now, if they were moved; they must be the same.
        name: Name of the new run, where options make it one.
    """
    from opsin.commands.train.train import resume as workflow  # noqa: PLC0415  needs what trains

    resumed = workflow(run, data or (), name=name, track=track, quiet=quiet, **fields)
    show_run(resumed, as_json=as_json)


def show_run(run: Run, *, as_json: bool) -> None:
    """Print a run's figures and where to look next.

    Raises:
        typer.Exit: It was stopped (status 130), or its loss diverged (status 1).
    """
    report = run.directory.read(Report)
    if as_json:
        print_json({"run": str(run.path), **report.model_dump(mode="json", exclude_unset=True)})
    else:
        say()
        console().print(class_table(report.judged))
        if run.directory.page.is_file():  # missing if the disk was full
            say(f"\nLook      {run.directory.page}")
        say(f"Try       opsin predict {run.path} IMAGE")
        if report.training.stopped:
            say(f"Go on     opsin resume {run.path}")
    _exit_with(stopped=report.training.stopped, diverged=bool(report.training.diverged))


def _exit_with(*, stopped: bool, diverged: bool) -> None:
    if stopped:
        STOP_SAID.set()
        raise typer.Exit(130)
    if diverged:
        raise typer.Exit(1)


def _show_plan(planned: Plan, *, as_json: bool) -> None:
    from opsin.commands.train.words import plan_in_words  # noqa: PLC0415  needs what trains

    if as_json:
        print_json(planned.model_dump(mode="json"))
        return
    terminal = Terminal(console())
    (name, text), *others = plan_in_words(planned)
    terminal.fact(name, text)
    if planned.layers:
        terminal.layers(planned.layers)
    for name, text in others:
        terminal.fact(name, text)


def _show_repeats(repeats: Repeats, *, as_json: bool) -> None:
    summary, labels = repeats.summary, str(repeats.labels) if repeats.labels else None
    if as_json:
        figures = summary.model_dump(mode="json", exclude_unset=True)
        print_json({"file": str(repeats.file), "labels": labels} | figures)
        _exit_with(stopped=repeats.stopped, diverged=repeats.diverged)
        return
    say()
    if summary.pooled is not None:
        console().print(class_table(summary.pooled))
        say()
    console().print(_repeats_table(repeats))
    say()
    for line in _meaning(repeats):
        console().print(line, markup=False)
    say(f"\nFile      {repeats.file}")
    if doubts := summary.doubts:
        grounds = printable(labels_grounds(doubts.suspected, doubts.labels))
        if labels is not None:
            grounds = f"{labels}: correct the suspects there, and give it to --labels. {grounds}"
        say(f"Labels    {grounds}")
    _exit_with(stopped=repeats.stopped, diverged=repeats.diverged)


def _repeats_table(repeats: Repeats) -> Table:
    summary = repeats.summary
    kind = "Fold" if summary.kind == "folds" else "Seed"
    table = columns("Run", figures=(kind, "Accuracy", "Log loss", "Time"))
    for row in summary.runs:
        remark = " (stopped)" if row.stopped else " (loss ran away)" if row.diverged else ""
        figures = (row.fold or str(row.seed), plus_minus(row), f"{row.log_loss:.3f}")
        table.add_row(plain(row.run) + remark, *figures, clock(row.seconds))
    mean, deviation = summary.mean, summary.deviation
    if mean is not None:
        accuracy, loss, name = f"{mean.accuracy:.4f}", f"{mean.log_loss:.3f}", "Mean"
        if deviation is not None:
            accuracy += f" ± {deviation.accuracy:.4f}"
            loss += f" ± {deviation.log_loss:.3f}"
            name = "Mean ± deviation"
        table.add_row(f"[bold]{name}[/]", "", f"[bold]{accuracy}[/]", loss, clock(mean.seconds))
    return table


def _meaning(repeats: Repeats) -> Iterator[str]:
    """Sentences on how to read the figures."""
    summary = repeats.summary
    rows, pooled = summary.runs, summary.pooled
    if repeats.stopped:
        whole = sum(not row.stopped for row in rows)
        mean = f"the mean is of {whole}" if whole else "there is no mean"
        yield f"Stopped by Ctrl-C: {whole} of {summary.asked} runs are whole, {mean}."
    if diverged := sum(bool(row.diverged) for row in rows):
        yield (
            f"The loss diverged in {diverged} of {len(rows)} runs; their best epoch before counts "
            "all the same. Give a lower --learning-rate."
        )
    if summary.split == "val":
        yield "On validation images, by which each best epoch was chosen: optimistic."
    yield "A run's ± is its 95% interval, from the number of images it was tested on."
    if summary.deviation is not None:
        yield (
            "The mean's ± is the standard deviation between folds. It is no confidence interval: "
            "any two folds were trained on many of the same images."
            if pooled is not None
            else "The mean's ± is the standard deviation between seeds, on the same images."
        )
    if pooled is not None:
        yield (
            f"Pooled: accuracy {plus_minus(pooled)} (95% interval) on {pooled.images:,} "
            f"images, each tested once · log loss {pooled.log_loss:.3f}"
        )
