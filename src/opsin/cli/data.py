"""`opsin data`: what a source holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from opsin.cli import options, recipe_flags
from opsin.cli.cache import tell_cache
from opsin.cli.output import console, print_json
from opsin.cli.transfer import tell_changes, tell_export
from opsin.commands.changes import changes_since
from opsin.commands.decoding import decode
from opsin.commands.test_set_usage import leaks_of
from opsin.commands.transfer import Form, check_target, export_data
from opsin.commands.variations import Variations, check_varying, draw_variations
from opsin.core.events import Watcher
from opsin.core.format import repeats
from opsin.core.recipe import DATA_OPTIONS
from opsin.core.stored_json import JsonObject
from opsin.data.audit import Audit
from opsin.data.audit import audit as find_trouble
from opsin.data.dataset import Dataset, load, look_at
from opsin.data.left_out import left_out_in_words
from opsin.data.rows_file import check_rows_file, write_rows
from opsin.data.split import LARGE
from opsin.report.terminal import findings_table, for_people, leaks_in_words
from opsin.runtime.cluster import is_elsewhere

# Unreadable files that are named on the screen.
_SHOWN: Final = 5
_NOTHING_ELSE: Final = (
    "expected no other option that reads or writes images: the run says how they are read."
)


@recipe_flags.takes_training(*recipe_flags.VARYING, after="yes")
@recipe_flags.takes_data(after="yes")
def data(
    source: options.AnySources = None,
    *,
    out: Path = Path("data-figures"),
    draw: bool = True,
    seed: options.Examples = 0,
    audit: bool = False,
    export: Path | None = None,
    export_as: Form | None = None,
    since: Path | None = None,
    moved: list[str] | None = None,
    rows: Path | None = None,
    cache: bool = False,
    empty: list[str] | None = None,
    yes: bool = False,
    on: options.WhereToWork = "local",
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    **given: Any,
) -> None:
    """Show what a source holds: classes, counts, sizes and samples.

    Example: opsin data fashion-mnist --out look

    Example: opsin data photos --seed 1

    Example: opsin data photos --augment photos

    Example: opsin data photos --export photos.npz

    Example: opsin data photos --export parts --export-as datasets

    Example: opsin data photos --audit --on ray

    Example: opsin data --since runs/2026-11-21-photos-resnet

    Example: opsin data --cache --empty features

    Options:
        out: Folder for the images that are drawn.
        draw: Draw images.
        audit: Look for what is wrong: duplicates, leaks, odd images, doubtful classes; write
            audit.html and audit.json.
        export (PATH): Write the images into a new folder, with a table of their classes and parts,
            or into one .npz or .parquet file, to be moved to another machine or tool; draw nothing.
            A .csv names the files where they are.
        export_as: What --export writes: datasets is a folder for Hugging Face's library (default:
            by the name's ending, else a folder).
        since (RUN): Say what has changed since a run: images added, removed, renamed, relabelled or
            changed; without SOURCE, in the run's own sources.
        moved (--data SOURCE): With --since: where the run's images are now; the same as SOURCE.
        rows (FILE): Write the row numbers of each part, and with --audit of each finding, into this
            .npz file: train, val, test, finding_<kind>.
        cache: Show what Opsin's cache holds: decoded images, features, fetched sources.
        empty (PART): With --cache: remove sources, datasets, features, models or all; they are made
            again when they are needed.
        yes: With --empty: do not ask.
    """
    if cache or empty or yes:
        _check_cache(cache, source or since or given)
        tell_cache(empty or [], sure=yes, as_json=as_json)
        return
    watcher = for_people(quiet=quiet)
    if since is not None:
        if given or audit or export is not None or rows is not None or is_elsewhere(on):
            raise typer.BadParameter(_NOTHING_ELSE, param_hint="--since")
        places = [*(source or []), *(moved or [])]
        tell_changes(changes_since(since, *places, watcher=watcher), as_json=as_json)
        return
    if moved or not source:
        expected = "--since RUN beside it." if moved else "a source; received none."
        hint = "--data" if moved else "SOURCE"
        raise typer.BadParameter(f"expected {expected}", param_hint=hint)
    reading = {name: value for name, value in given.items() if name in DATA_OPTIONS}
    varying = {name: value for name, value in given.items() if name not in DATA_OPTIONS}
    _check_varying(varying, drawn=draw and export is None)
    _check_files(export, rows, audit=audit, form=export_as)
    _read_on(on, source, reading, watcher)
    if export is not None:
        dataset = load(*source, watcher=watcher, **reading)
        written = export_data(dataset, export, form=export_as, watcher=watcher)
        tell_export(written, as_json=as_json)
        return
    shown = _Overview(look_at(*source, watcher=watcher, **reading))
    if draw:
        shown.draw(out, seed)
    if varying:
        shown.vary(varying, out, seed, watcher)
    if audit:
        shown.audit(watcher, page_in=out if draw else None)
    shown.tell(rows, as_json=as_json)


def _read_on(on: str, source: Sequence[str], reading: Mapping[str, Any], watcher: Watcher) -> None:
    """Let a cluster decode the images, where one is named."""
    if is_elsewhere(on):
        decode(*source, on=on, watcher=watcher, **reading)


def _check_cache(shown: bool, beside: object) -> None:
    """Refuse a part to empty without the cache, and the cache beside a source."""
    if not shown:
        raise typer.BadParameter("expected --cache beside it.", param_hint="--empty")
    if beside:
        raise typer.BadParameter("expected no source beside it.", param_hint="--cache")


def _check_files(export: Path | None, rows: Path | None, *, audit: bool, form: Form | None) -> None:
    """Refuse at once what could not be written after an hour's reading."""
    if rows is not None:
        check_rows_file(rows)
    if export is not None:
        if audit or rows is not None:
            raise typer.BadParameter(
                "expected neither --audit nor --rows beside it.", param_hint="--export"
            )
        check_target(export, form)
    elif form is not None:
        raise typer.BadParameter("expected --export PATH beside it.", param_hint="--export-as")


def _check_varying(varying: Mapping[str, object], *, drawn: bool) -> None:
    """Refuse at once what could not be shown after an hour's reading."""
    if not varying:
        return
    if not drawn:
        raise typer.BadParameter(
            "expected neither --export nor --no-draw beside it: it is shown as an image.",
            param_hint=f"--{next(iter(varying))}",
        )
    check_varying(**varying)


@dataclass
class _Overview:
    """What is found out about a source, and the files that show it."""

    dataset: Dataset
    drawn: list[Path] = field(default_factory=list)
    varied: Variations | None = None
    findings: Audit | None = None
    page: Path | None = None
    rows: Path | None = None

    def draw(self, out: Path, seed: int) -> None:
        """Draw samples, classes and sizes."""
        from opsin.commands.data import draw_data  # noqa: PLC0415  needs matplotlib

        self.drawn += draw_data(self.dataset, out, seed=seed)

    def vary(self, varying: Mapping[str, object], out: Path, seed: int, watcher: Watcher) -> None:
        """Draw images as the training would vary them."""
        self.varied = draw_variations(self.dataset, out, seed=seed, watcher=watcher, **varying)
        self.drawn.append(self.varied.image)

    def audit(self, watcher: Watcher, *, page_in: Path | None) -> None:
        """Look for what is wrong, and write the page where it is wanted."""
        self.findings = find_trouble(self.dataset, watcher=watcher)
        if page_in is not None:
            from opsin.commands.data import write_audit  # noqa: PLC0415  needs matplotlib

            self.page = write_audit(self.findings, page_in)

    def tell(self, rows: Path | None, *, as_json: bool) -> None:
        """Write the rows where they are wanted, and print everything."""
        if rows is not None:
            self.rows = write_rows(self.dataset, self.findings, rows)
        if as_json:
            print_json(self.to_json())
        else:
            self.print(console())

    def to_json(self) -> JsonObject:
        """Return what ``--json`` prints."""
        content = self.dataset.describe().to_json()
        content["parts_may_move"] = self.dataset.parts_may_move
        content["figures"] = [str(path) for path in self.drawn]
        if self.varied is not None:
            content["augment"] = self.varied.to_json()
        if self.findings is not None:
            content["findings"] = self.findings.to_json()
            content["page"] = None if self.page is None else str(self.page)
        if self.rows is not None:
            content["rows"] = str(self.rows)
        return content

    def print(self, screen: Console) -> None:
        """Print the facts, a row a class, what is wrong, and where the files are."""
        self._print_facts(screen)
        if self.findings is not None:
            none = "\nNothing suspicious"
            screen.print("\nFindings, the worst first" if self.findings.findings else none)
            screen.print(findings_table(self.findings.findings))
        elif any(self.dataset.leaks):
            said = leaks_in_words(leaks_of(self.dataset))
            screen.print(f"\n{said}", markup=False)
        if self.page is not None:
            screen.print(f"\nAudit     {self.page}", markup=False, soft_wrap=True)
        if self.varied is not None:
            said = f"{self.varied.words} ({self.varied.policy})"
            screen.print(f"\nVaried    {said}", markup=False, soft_wrap=True)
        if self.rows is not None:
            screen.print(f"\nRows      {self.rows}", markup=False, soft_wrap=True)
        if self.drawn:
            screen.print(f"\nImages    {', '.join(map(str, self.drawn))}", markup=False)

    def _print_facts(self, screen: Console) -> None:
        dataset, about = self.dataset, self.dataset.describe()
        low, high = about.range
        screen.print(f"[bold]{escape(dataset.recipe.source)}[/]  {dataset.summary()}")
        shape = "×".join(map(str, about.shape))
        what = f"uint8[{shape}] (height, width, channels), values {low} to {high}"
        screen.print(f"Each image is {what}.", markup=False)
        screen.print(f"Fingerprint {about.fingerprint[:16]}\n")
        table = Table(box=None, pad_edge=False, padding=(0, 2))
        table.add_column("Class")
        for part in ("Train", "Val", "Test", "All"):
            table.add_column(part, justify="right")
        for name, parts in about.counts.items():
            numbers = [*parts.values(), sum(parts.values())]
            table.add_row(escape(name), *(f"{number:,}" for number in numbers))
        screen.print(table)
        if dataset.parts_may_move:
            screen.print(
                f"\nImages that are added to classes of fewer than {LARGE} can move old ones to "
                "another part; --parts-of RUN keeps the parts of a run."
            )
        if dataset.repeated:
            screen.print(repeats(dataset.repeated))
        for name, reason in dataset.unreadable[:_SHOWN]:
            screen.print(f"unreadable: {name}: {reason}", markup=False)
        more = len(dataset.unreadable) - _SHOWN
        if more > 0:
            screen.print(f"… and {more:,} more unreadable files (--json names all)")
        if dataset.left_out:
            screen.print(f"Left out: {left_out_in_words(dataset.left_out)}", markup=False)
        if dataset.problem is not None and self.findings is None:
            screen.print(f"\nNo classifier can be made of these: {dataset.problem}", markup=False)
