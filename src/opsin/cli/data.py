"""`opsin data`: what a source holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from opsin.cli import options, recipe_flags
from opsin.cli.options import expect
from opsin.cli.output import columns, console, plain, print_json, say, say_unreadable
from opsin.commands.changes import Changes, changes_since
from opsin.commands.decoding import decode
from opsin.commands.test_set_usage import leaks_of
from opsin.commands.transfer import Exported, Form, check_target, export_data
from opsin.commands.variations import Variations, check_varying, draw_variations
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.format import counted, file_size, repeats
from opsin.core.recipe import DATA_OPTIONS
from opsin.core.storage import atomic_file
from opsin.core.stored_json import JsonObject
from opsin.data.audit import Audit
from opsin.data.audit import audit as find_trouble
from opsin.data.cache_contents import PARTS, empty_cache, list_cache
from opsin.data.dataset import Dataset, load, look_at
from opsin.data.image_tree import left_out_in_words
from opsin.report.terminal import findings_table, for_people, leaks_in_words
from opsin.runtime.cluster import is_elsewhere

# Most images named on the screen for each kind of change.
_SHOWN: Final = 3


@recipe_flags.takes(*recipe_flags.VARYING, after="empty")
@recipe_flags.takes(*recipe_flags.DATA, after="empty")
def data(
    source: options.AnySources = None,
    *,
    out: Path = Path("data-figures"),
    draw: bool = True,
    seed: options.Seed = 0,
    audit: bool = False,
    export: Path | None = None,
    export_as: Form | None = None,
    since: Path | None = None,
    moved: list[str] | None = None,
    rows: Path | None = None,
    cache: bool = False,
    empty: list[str] | None = None,
    on: str = "local",
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
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
        export_as: What --export writes: datasets is a folder for Hugging Face's library (default:
            by the name's ending, else a folder).
        since (RUN): Say what has changed since a run: images added, removed, renamed, relabelled or
            changed; without SOURCE, in the run's own sources.
        moved (--data SOURCE): With --since: where the run's images are now; the same as SOURCE.
        rows (FILE): Write the row numbers of each part, and with --audit of each finding, into this
            .npz file: train, val, test, finding_<kind>.
        cache: Show how much Opsin's cache holds: decoded images, features, fetched sources.
        empty (PART): With --cache: remove sources, datasets, features, models or all; they are made
            again when they are needed.
    """
    expect(cache or not empty, "--cache beside it", "--empty")
    if cache:
        expect(not (source or since or fields), "no source beside it", "--cache")
        _show_cache(empty or [], as_json)
        return
    watcher = for_people(quiet=quiet)
    sources = source or []
    if since is not None:
        alone = not (fields or audit or export or rows or is_elsewhere(on))
        expect(
            alone,
            "no other option that reads or writes images: the run says how they are read",
            "--since",
        )
        _show_changes(changes_since(since, *sources, *(moved or []), watcher=watcher), as_json)
        return
    expect(not moved, "--since RUN beside it", "--data")
    expect(sources, "a source", "SOURCE")
    reading = {name: value for name, value in fields.items() if name in DATA_OPTIONS}
    varying = {name: value for name, value in fields.items() if name not in DATA_OPTIONS}
    # Refuse impossible output before reading for an hour.
    if varying:
        expect(
            draw and not export,
            "neither --export nor --no-draw beside it: it is shown as an image",
            f"--{next(iter(varying))}",
        )
        check_varying(**varying)
    expect(export or not export_as, "--export PATH beside it", "--export-as")
    expect(not (export and (audit or rows)), "neither --audit nor --rows beside it", "--export")
    _check_rows(rows)
    if export is not None:
        check_target(export, export_as)
    if is_elsewhere(on):
        decode(*sources, on=on, watcher=watcher, **reading)
    if export is not None:
        dataset = load(*sources, watcher=watcher, **reading)
        _show_export(export_data(dataset, export, form=export_as, watcher=watcher), as_json)
        return
    overview = _Overview(look_at(*sources, watcher=watcher, **reading))
    if draw:
        from opsin.commands.data import draw_data  # noqa: PLC0415  needs matplotlib

        overview.drawn += draw_data(overview.dataset, out, seed=seed)
    if varying:
        overview.varied = draw_variations(
            overview.dataset, out, seed=seed, watcher=watcher, **varying
        )
        overview.drawn.append(overview.varied.image)
    if audit:
        overview.audit(watcher, page_in=out if draw else None)
    if rows:
        overview.write_rows(rows)
    if as_json:
        print_json(overview.to_json())
    else:
        overview.print_facts()
        overview.print_files()


def _check_rows(target: Path | None) -> None:
    if target is not None and target.suffix.lower() != ".npz":  # NumPy would change the name
        raise RecipeError(f"{target} does not end in .npz")


@dataclass
class _Overview:
    dataset: Dataset
    drawn: list[Path] = field(default_factory=list)
    varied: Variations | None = None
    findings: Audit | None = None
    page: Path | None = None
    rows: Path | None = None

    def audit(self, watcher: Watcher, *, page_in: Path | None) -> None:
        self.findings = find_trouble(self.dataset, watcher=watcher)
        if page_in is not None:
            from opsin.commands.data import write_audit  # noqa: PLC0415  needs matplotlib

            self.page = write_audit(self.findings, page_in)

    def write_rows(self, target: Path) -> None:
        arrays = {part: self.dataset.split.rows(part) for part in ("train", "val", "test")}
        for finding in self.findings.findings if self.findings else ():
            arrays[f"finding_{finding.kind}"] = finding.rows
        with atomic_file(target) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        self.rows = target

    def to_json(self) -> JsonObject:
        content = self.dataset.describe().to_json()
        content["figures"] = [str(path) for path in self.drawn]
        if self.varied is not None:
            content["augment"] = self.varied.to_json()
        if self.findings is not None:
            content["findings"] = self.findings.to_json()
            content["page"] = None if self.page is None else str(self.page)
        if self.rows is not None:
            content["rows"] = str(self.rows)
        return content

    def print_facts(self) -> None:
        dataset, about = self.dataset, self.dataset.describe()
        low, high = about.range
        shape = "×".join(map(str, about.shape))
        console().print(f"[bold]{plain(dataset.recipe.source)}[/]  {dataset.summary()}")
        say(f"Each image is uint8[{shape}] (height, width, channels), values {low} to {high}.")
        say(f"Fingerprint {about.fingerprint[:16]}\n")
        rows = columns("Class", figures=("Train", "Val", "Test", "All"))
        for name, parts in about.counts.items():
            numbers = [*parts.values(), sum(parts.values())]
            rows.add_row(plain(name), *(f"{number:,}" for number in numbers))
        console().print(rows)
        if dataset.repeated:
            say(repeats(dataset.repeated))
        say_unreadable(dataset.unreadable)
        if dataset.left_out:
            say(f"Left out: {left_out_in_words(dataset.left_out)}")
        if dataset.problem is not None and self.findings is None:
            say(f"\nNo classifier can be made of these: {dataset.problem}")

    def print_files(self) -> None:
        if self.findings is not None:
            findings = self.findings.findings
            say("\nFindings, the worst first" if findings else "\nNothing suspicious")
            console().print(findings_table(findings))
        elif any(self.dataset.leaks):
            console().print(f"\n{leaks_in_words(leaks_of(self.dataset))}", markup=False)
        if self.page is not None:
            say(f"\nAudit     {self.page}")
        if self.varied is not None:
            say(f"\nVaried    {self.varied.words} ({self.varied.policy})")
        if self.rows is not None:
            say(f"\nRows      {self.rows}")
        if self.drawn:
            console().print(f"\nImages    {', '.join(map(str, self.drawn))}", markup=False)


def _show_cache(empty: list[str], as_json: bool) -> None:
    removed = empty_cache(*(PARTS if "all" in empty else empty)) if empty else None
    contents = list_cache()
    if as_json:
        gone = None if removed is None else removed.to_json()
        print_json(contents.to_json() | {"removed": gone})
        return
    if removed is not None:
        say(f"Removed {file_size(removed.bytes)}\n")
    console().print(f"[bold]Cache[/]  {plain(str(contents.folder))}")
    rows = columns("Part", figures=("Size",))
    for part, size in contents.sizes.items():
        rows.add_row(part, file_size(size))
    console().print(rows)
    say(f"Made again when needed. To empty: opsin data --cache --empty {'|'.join(PARTS)}|all")


def _show_export(written: Exported, as_json: bool) -> None:
    if as_json:
        print_json(written.to_json())
        return
    say(f"{counted(written.images, 'image')}, {file_size(written.bytes)}  {written.path}")
    say(f"Train on them with: {written.command}")


def _show_changes(changes: Changes, as_json: bool) -> None:
    if as_json:
        print_json(changes.to_json())
        return
    then, now = changes.fingerprint_then[:16], changes.fingerprint_now[:16]
    same = changes.fingerprint_then == changes.fingerprint_now
    console().print(f"[bold]{plain(changes.source)}[/]  since {plain(str(changes.run))}")
    say(f"Fingerprint {then}{', as it was then' if same else f' then, {now} now'}\n")
    kinds = {
        "added": [image.name for image in changes.added],
        "removed": [image.name for image in changes.removed],
        "renamed": [f"{pair.then.name} → {pair.now.name}" for pair in changes.renamed],
        "relabelled": [
            f"{pair.now.name} ({pair.then.label} → {pair.now.label})" for pair in changes.relabelled
        ],
        "changed": [pair.now.name for pair in changes.changed],
    }
    rows = columns("Images", "Count", "Such as")
    rows.columns[1].justify = "right"
    rows.add_row("unchanged", f"{changes.unchanged:,}", "")
    for kind, names in kinds.items():
        more = [f"and {len(names) - _SHOWN:,} more"] if len(names) > _SHOWN else []
        rows.add_row(kind, f"{len(names):,}", plain(" · ".join(names[:_SHOWN] + more)))
    console().print(rows)
    sides = ", ".join(
        f"{count:,} {before} → {after}" for (before, after), count in changes.sides.items()
    )
    many = f"{len(changes.moved):,} images change sides: {sides}" if sides else ""
    say(f"\nTrained again with the same options, {many or 'no image changes sides'}.")
