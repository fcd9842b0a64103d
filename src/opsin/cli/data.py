"""`opsin data`: what a source holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsin.cli import options, recipe_flags
from opsin.cli.output import columns, console, plain, print_json, say, say_unreadable
from opsin.commands.decoding import decode
from opsin.commands.test_set_usage import leaks_of
from opsin.core.format import counted, file_size, repeats
from opsin.core.recipe import DATA_OPTIONS
from opsin.data.audit import Audit, audit as find_trouble
from opsin.data.cache_contents import PARTS, empty_cache, list_cache
from opsin.data.dataset import Dataset, look_at
from opsin.data.image_tree import left_out_in_words
from opsin.report.terminal import findings_table, for_people, leaks_in_words
from opsin.runtime.cluster import is_elsewhere

if TYPE_CHECKING:
    from opsin.commands.classes import ClassChange


@recipe_flags.takes(*DATA_OPTIONS, after="empty")
def data(
    source: options.AnySources = None,
    *,
    out: Path = Path("data-figures"),
    draw: bool = True,
    seed: options.Seed = 0,
    audit: bool = False,
    merge: list[str] | None = None,
    rename: list[str] | None = None,
    remove: list[str] | None = None,
    split: str | None = None,
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

    Example: opsin data photos --audit --on ray

    Example: opsin data photos --labels labels.csv --merge tins,foil=metal

    Example: opsin data --cache --empty features

    Options:
        out: Folder for the images that are drawn.
        draw: Draw images.
        audit: Look for what is wrong: duplicates, leaks, odd images, doubtful classes; write
            audit.html and audit.json.
        merge (A,B=C): Make classes one. This and the next three change classes in the table that
            --labels names, never images; training with --labels takes them so, and opsin undo
            takes the last change back. Of a run, its sources and corrections are taken.
        rename (OLD=NEW): Call a class another name.
        remove (A,B): Leave the images of classes out.
        split (CLASS[=A,B,C,D]): Show the groups of images inside a class; with names, the largest
            first, each becomes a class.
        cache: Show how much Opsin's cache holds: decoded images, features, fetched sources.
        empty (PART): With --cache: remove sources, datasets, features, models or all; they are made
            again when they are needed.
    """
    options.expect(cache or not empty, "--cache beside it", "--empty")
    if cache:
        options.expect(not (source or fields), "no source beside it", "--cache")
        _show_cache(empty or [], as_json)
        return
    sources, watcher = source or [], for_people(quiet=quiet)
    options.expect(sources, "a source", "SOURCE")
    if merge or rename or remove or split:
        from opsin.commands.classes import change_classes  # noqa: PLC0415  few change classes

        class_, _, names = (split or "").partition("=")
        done = change_classes(
            *sources,
            call=_new_names(merge, rename, remove),
            split=class_ or None,
            names=names.split(",") if names else (),
            out=out if draw and split else None,
            watcher=watcher,
            **fields,
        )
        if as_json:
            print_json(done.model_dump(mode="json"))
        else:
            _print_change(done, class_)
        return
    if is_elsewhere(on):
        decode(*sources, on=on, watcher=watcher, **fields)
    dataset = look_at(*sources, watcher=watcher, **fields)
    trouble = find_trouble(dataset, watcher=watcher) if audit else None
    _show(dataset, trouble, out if draw else None, seed=seed, as_json=as_json)


def _new_names(
    merge: list[str] | None, rename: list[str] | None, remove: list[str] | None
) -> dict[str, str | None]:
    """The new names of classes by the present ones; ``None`` for those that are left out."""
    asked = list[tuple[str, str | None]]()
    for option, texts in (("--merge", merge), ("--rename", rename)):
        for text in texts or ():
            olds, equals, new = text.partition("=")
            options.expect(equals and olds and new, "names such as old=new", option)
            asked += dict.fromkeys(olds.split(",") if option == "--merge" else [olds], new).items()
    asked += [(name, None) for text in remove or () for name in text.split(",")]
    call = dict(asked)
    options.expect(
        len(call) == len(asked), "each class once: merge, rename or remove it", "--rename"
    )
    return call


def _print_change(done: ClassChange, split: str) -> None:
    for number, group in enumerate(done.groups, start=1):
        say(f"Group {number}   {counted(len(group), 'image')}, such as {group[0]}")
    if done.sheet is not None:
        say(f"Sheet     {done.sheet}")
    if done.labels is None and split:
        names = ",".join("ABCD"[: len(done.groups)])
        say(f"Name them opsin data … --labels labels.csv --split {split}={names}")
    elif done.labels is not None:
        say(f"Classes   {', '.join(done.classes)}")
        say(f"Train     {done.command}")
        say(f"Undo      opsin undo {done.labels}")


def _show(
    dataset: Dataset, trouble: Audit | None, out: Path | None, *, seed: int, as_json: bool
) -> None:
    drawn: list[Path] = []
    page = None
    if out:
        from opsin.commands import data as figures  # noqa: PLC0415  needs matplotlib

        drawn += figures.draw_data(dataset, out, seed=seed)
        page = figures.write_audit(trouble, out) if trouble else None
    if as_json:
        content = dataset.describe().model_dump(mode="json", exclude_unset=True)
        content["figures"] = [str(path) for path in drawn]
        if trouble is not None:
            content["findings"] = trouble.records()
            content["page"] = None if page is None else str(page)
        print_json(content)
        return
    _print_facts(dataset)
    if trouble is not None:
        say("\nFindings, the worst first" if trouble.findings else "\nNothing suspicious")
        console().print(findings_table(trouble.findings))
    else:
        if dataset.problem is not None:
            say(f"\nNo classifier can be made of these: {dataset.problem}")
        if any(dataset.leaks):
            console().print(f"\n{leaks_in_words(leaks_of(dataset))}", markup=False)
    if page is not None:
        say(f"\nAudit     {page}")
    if drawn:
        console().print(f"\nImages    {', '.join(map(str, drawn))}", markup=False)


def _print_facts(dataset: Dataset) -> None:
    about = dataset.describe()
    low, high = about.range
    shape = "×".join(map(str, about.shape))
    console().print(f"[bold]{plain(dataset.recipe.source)}[/]  {plain(dataset.summary())}")
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


def _show_cache(empty: list[str], as_json: bool) -> None:
    removed = empty_cache(*(PARTS if "all" in empty else empty)) if empty else None
    contents = list_cache()
    if as_json:
        gone = None if removed is None else removed.model_dump(mode="json")
        print_json(contents.model_dump(mode="json") | {"removed": gone})
        return
    if removed is not None:
        say(f"Removed {file_size(removed.bytes)}\n")
    console().print(f"[bold]Cache[/]  {plain(str(contents.folder))}")
    rows = columns("Part", figures=("Size",))
    for part, size in contents.sizes.items():
        rows.add_row(part, file_size(size))
    console().print(rows)
    say(f"Made again when needed. To empty: opsin data --cache --empty {'|'.join(PARTS)}|all")
