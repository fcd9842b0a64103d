"""`opsin report`: a run's analysis and page."""

from __future__ import annotations

from pathlib import Path

import typer

from opsin.cli import options
from opsin.cli.output import console, print_json, say
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report
from opsin.report.terminal import for_people, labels_grounds, labels_title, printable


def report(
    run: Path,
    *,
    fix: Path | None = None,
    data: list[str] | None = None,
    seed: options.Seed = 0,
    quick: bool = False,
    device: options.Device = "auto",
    open_page: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Analyse a finished run in depth, and write its report again.

    A training writes the page at its end; this adds the answers to disturbed and strange images,
    and a map of all images.

    Example: opsin report runs/2026-11-21-fashion-mnist-cnn --open

    Options:
        data (SOURCE): Where the run's images are now, if they were moved; they must be the same.
        fix (FILE): Write the suspected label errors as a table: correct its column label, and give
            it to opsin train --labels. Nothing is written where the classifier is too weak to tell.
        quick: Leave out what takes a minute: disturbed and strange images, and the map.
    """
    from opsin.commands.report import write_report  # noqa: PLC0415  needs matplotlib

    page = write_report(
        run,
        deep=not quick,
        fix=fix,
        data=data or (),
        seed=seed,
        device=device,
        watcher=for_people(quiet=quiet),
    )
    stored = RunDirectory(run).read(Report)
    failures = stored.failures
    too_weak = bool(failures and failures.labels and failures.labels.too_weak)
    if as_json:
        written = None if fix is None or too_weak else str(fix)
        figures = stored.model_dump(mode="json", exclude_unset=True)
        print_json({"page": str(page), "fix": written} | figures)
    elif failures:
        say(str(page))
        grounds = labels_grounds(failures.suspected, failures.labels)
        title = "" if too_weak else f"{labels_title(failures)}. "
        console().print(f"Labels    {printable(title + grounds)}", markup=False)
        if fix is not None and not too_weak:
            say(
                f"{fix}: correct the column label (- leaves an image out), then: "
                f"opsin train SOURCE --labels {fix}"
            )
    if open_page:
        typer.launch(page.absolute().as_uri())
