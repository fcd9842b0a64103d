"""`opsin backbones`: pretrained networks to build on."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.commands.backbones import (
    KnownBackbone,
    ListedBackbone,
    describe_backbone,
    list_backbones,
)
from opsin.core.format import file_size, short_count
from opsin.report.terminal import for_people


def backbones(
    network: str | None = None,
    *,
    prepare: str | None = None,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """List pretrained networks to build on, or look into one.

    The list needs no network; times are measured where one is on this machine.

    Example: opsin backbones

    Example: opsin backbones efficientnet-lite2

    Options:
        network ([NETWORK]): One network: an ONNX file, a run, a name of the table, or
            owner/name[@revision] on the Hugging Face hub, which is fetched where it is not on this
            machine.
        prepare (PIXELS): The pixels that NETWORK was trained on, where nothing beside it says them.
    """
    watcher = for_people(quiet=quiet)
    if network is None:
        rows = list_backbones(watcher=watcher)
        if as_json:
            print_json({"backbones": [row.model_dump(mode="json") for row in rows]})
        else:
            _tell_rows(rows)
        return
    known = describe_backbone(network, prepare=prepare, offline=offline, watcher=watcher)
    if as_json:
        print_json(known.model_dump(mode="json"))
    else:
        _tell_one(known)


def _tell_rows(rows: list[ListedBackbone]) -> None:
    screen = console()
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("Name", "For"):
        table.add_column(name)
    for name in ("Size", "Input", "Multiply-adds", "An image", "Licence"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Here")
    for row in rows:
        table.add_row(
            row.name,
            row.suits,
            file_size(row.size),
            f"{row.side[0]}×{row.side[1]}",
            short_count(row.multiply_adds),
            _time(row.milliseconds),
            escape(row.licence),
            "no" if row.path is None else "yes",
        )
    screen.print(table)
    screen.print()
    for row in rows:
        at = f"@{row.revision[:12]}" if row.revision else " (a package, installed with Opsin)"
        screen.print(f"{row.name}: {row.repository}{at}", markup=False)
    screen.print(
        "\nTrain with one: opsin train SOURCE --from efficientnet-lite2. Any other: --from FILE, "
        "RUN or owner/name on the Hugging Face hub.",
        markup=False,
    )


def _tell_one(known: KnownBackbone) -> None:
    screen = console()
    colours = "grey" if known.channels == 1 else "colour"
    facts = {
        "Network": known.name,
        "File": str(known.path),
        "Size": file_size(known.size),
        "Input": f"{known.side[0]}×{known.side[1]}, {colours}",
        "Pixels": known.pixels or "unknown: say it by --prepare",
        "Licence": known.licence,
        "Work": f"{short_count(known.multiply_adds)} multiply-adds an image, "
        f"{_time(known.milliseconds)} here",
    }
    grid = Table.grid(padding=(0, 2))
    for name, text in facts.items():
        grid.add_row(name, escape(text))
    screen.print(grid)
    screen.print("\nValues for --at; those with a star are taken by default:\n", markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("", "Value", "Operator"):
        table.add_column(name, overflow="fold")
    table.add_column("Shape", justify="right", no_wrap=True)
    for value in known.values:
        shape = " × ".join(map(str, value.shape))
        star = "*" if value.usual else ""
        table.add_row(star, escape(value.name), escape(value.op), shape)
    screen.print(table)


def _time(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.3g} ms"
