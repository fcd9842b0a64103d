"""`opsin data`: what a source holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.cli.transfer import tell_changes, tell_export
from opsin.commands.changes import changes_since
from opsin.commands.test_set_usage import leaks_of
from opsin.commands.transfer import check_target, export_data
from opsin.commands.variations import Variations, check_varying, draw_variations
from opsin.data.audit import Audit
from opsin.data.audit import audit as find_trouble
from opsin.data.dataset import Dataset, load, look_at
from opsin.data.rows_file import check_rows_file, write_rows
from opsin.report.terminal import findings_table, for_people, leaks_in_words


@options.takes_data()
@options.takes_training(*options.VARYING)
def data(
    source: options.AnySources = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the images that are drawn.")
    ] = Path("data-figures"),
    draw: Annotated[bool, typer.Option("--draw/--no-draw", help="Draw images.")] = True,
    seed: options.Examples = 0,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Look for what is wrong: duplicates, leaks, odd images, doubtful classes; "
            "write audit.html and audit.json.",
        ),
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="PATH",
            help="Write the images into a new folder, with a table of their classes and parts, "
            "or into one .npz file, to be moved to another machine or tool; draw nothing.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            metavar="RUN",
            help="Say what has changed since a run: images added, removed, renamed, relabelled "
            "or changed; without SOURCE, in the run's own sources.",
            show_default=False,
        ),
    ] = None,
    moved: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="SOURCE",
            help="With --since: where the run's images are now; the same as SOURCE.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            "--rows",
            metavar="FILE",
            help="Write the row numbers of each part, and with --audit of each finding, into this "
            ".npz file: train, val, test, finding_<kind>.",
            show_default=False,
        ),
    ] = None,
    training_options: dict[str, Any],
    data_options: dict[str, Any],
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what a source holds: classes, counts, sizes and samples.

    Example: opsin data fashion-mnist --out look

    Example: opsin data photos --seed 1

    Example: opsin data photos --augment photos

    Example: opsin data photos --export photos.npz

    Example: opsin data --since runs/2026-11-21-photos-resnet
    """
    watcher = for_people(quiet=quiet)
    if since is not None:
        if data_options or training_options or audit or export is not None or rows is not None:
            raise typer.BadParameter(
                "expected no other option that reads or writes images: the run says how they "
                "are read.",
                param_hint="--since",
            )
        places = [*(source or []), *(moved or [])]
        tell_changes(changes_since(since, *places, watcher=watcher), as_json=as_json)
        return
    if moved:
        raise typer.BadParameter("expected --since RUN beside it.", param_hint="--data")
    if not source:
        raise typer.BadParameter("expected a source; received none.", param_hint="SOURCE")
    if training_options:
        _check_varying(training_options, drawn=draw and export is None)
    _check_files(export, rows, audit=audit)
    read = load if export is not None else look_at
    dataset = read(*source, watcher=watcher, **data_options)
    if export is not None:
        tell_export(export_data(dataset, export, watcher=watcher), as_json=as_json)
        return
    drawn: list[Path] = []
    if draw:
        from opsin.commands.data import draw_data  # noqa: PLC0415  needs matplotlib

        drawn = draw_data(dataset, out, seed=seed)
    varied = None
    if training_options:
        varied = draw_variations(dataset, out, seed=seed, watcher=watcher, **training_options)
        drawn.append(varied.image)
    findings = find_trouble(dataset, watcher=watcher) if audit else None
    page = None
    if findings and draw:
        from opsin.commands.data import write_audit  # noqa: PLC0415

        page = write_audit(findings, out)
    listed = _write_rows(dataset, findings, rows)
    if as_json:
        found = {"findings": findings.to_json(), "page": page and str(page)} if findings else {}
        shown = {"augment": varied.to_json()} if varied else {}
        figures = [str(path) for path in drawn]
        print_json({**dataset.describe(), "figures": figures, **shown, **found, **listed})
        return
    _show(dataset, drawn, findings, page=page, varied=varied, rows=rows)


def _check_files(export: Path | None, rows: Path | None, *, audit: bool) -> None:
    """Refuse at once what could not be written after an hour's reading."""
    if rows is not None:
        check_rows_file(rows)
    if export is not None:
        if audit or rows is not None:
            raise typer.BadParameter(
                "expected neither --audit nor --rows beside it.", param_hint="--export"
            )
        check_target(export)


def _write_rows(dataset: Dataset, findings: Audit | None, rows: Path | None) -> dict[str, str]:
    """Write the rows where that was asked for; return what JSON says of it."""
    return {} if rows is None else {"rows": str(write_rows(dataset, findings, rows))}


def _check_varying(training_options: dict[str, Any], *, drawn: bool) -> None:
    """Refuse at once what could not be shown after an hour's reading."""
    if not drawn:
        raise typer.BadParameter(
            "expected neither --export nor --no-draw beside it: it is shown as an image.",
            param_hint=f"--{next(iter(training_options))}",
        )
    check_varying(training_options)


def _show(
    dataset: Dataset,
    drawn: list[Path],
    findings: Audit | None,
    *,
    page: Path | None,
    varied: Variations | None,
    rows: Path | None,
) -> None:
    """Print the facts, a row a class, and what is wrong."""
    about = dataset.describe()
    screen = console()
    low, high = about["range"]
    screen.print(f"[bold]{escape(dataset.recipe.source)}[/]  {dataset.summary()}")
    shape = "×".join(map(str, about["shape"]))
    what = f"uint8[{shape}] (height, width, channels), values {low} to {high}"
    screen.print(f"Each image is {what}.", markup=False)
    screen.print(f"Fingerprint {about['fingerprint'][:16]}\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("Class")
    for heading in ("Train", "Val", "Test", "All"):
        table.add_column(heading, justify="right")
    for name, parts in about["counts"].items():
        numbers = [*parts.values(), sum(parts.values())]
        table.add_row(escape(name), *(f"{number:,}" for number in numbers))
    screen.print(table)
    for entry in dataset.unreadable[:5]:
        screen.print(f"unreadable: {entry[0]}: {entry[1]}", markup=False)
    if len(dataset.unreadable) > 5:
        screen.print(
            f"… and {len(dataset.unreadable) - 5:,} more unreadable files (--json names all)"
        )
    if dataset.problem is not None and findings is None:
        screen.print(f"\nNo classifier can be made of these: {dataset.problem}", markup=False)
    if findings is not None:
        screen.print("\nFindings, the worst first" if findings.findings else "\nNothing suspicious")
        screen.print(findings_table(findings.findings))
    elif any(dataset.leaks):
        said = leaks_in_words(leaks_of(dataset))
        screen.print(f"\n{said}", markup=False)
    if page:
        screen.print(f"\nAudit     {page}", markup=False, soft_wrap=True)
    if varied:
        screen.print(f"\nVaried    {varied.words} ({varied.policy})", markup=False, soft_wrap=True)
    if rows is not None:
        screen.print(f"\nRows      {rows}", markup=False, soft_wrap=True)
    if drawn:
        screen.print(f"\nImages  {', '.join(map(str, drawn))}", markup=False)
