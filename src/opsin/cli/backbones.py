"""`opsin backbones`: pretrained networks to build on."""

from __future__ import annotations

from rich.table import Table

from opsin.cli.output import columns, console, plain, print_json, say
from opsin.commands.backbones import (
    KnownBackbone,
    ListedBackbone,
    describe_backbone,
    list_backbones,
)
from opsin.core.format import file_size, grey_or_colour, short_count
from opsin.report.terminal import for_people


def backbones(
    network: str | None = None,
    *,
    prepare: str | None = None,
    offline: bool = False,
    quiet: bool = False,
    as_json: bool = False,
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
            _print_list(rows)
        return
    known = describe_backbone(network, prepare=prepare, offline=offline, watcher=watcher)
    if as_json:
        print_json(known.model_dump(mode="json"))
    else:
        _print_one(known)


def _print_list(rows: list[ListedBackbone]) -> None:
    figures = ("Size", "Input", "Multiply-adds", "An image", "Licence")
    table = columns("Name", "For", figures=figures)
    table.add_column("Here")
    for row in rows:
        table.add_row(
            row.name,
            row.suits,
            file_size(row.size),
            f"{row.side[0]}×{row.side[1]}",
            short_count(row.multiply_adds),
            _time(row.milliseconds),
            plain(row.licence),
            "no" if row.path is None else "yes",
        )
    console().print(table)
    say()
    for row in rows:
        at = f"@{row.revision[:12]}" if row.revision else " (a package, installed with Opsin)"
        say(f"{row.name}: {row.repository}{at}")
    say(
        "\nTrain with one: opsin train SOURCE --from efficientnet-lite2. Any other: --from FILE, "
        "RUN or owner/name on the Hugging Face hub."
    )


def _print_one(known: KnownBackbone) -> None:
    facts = {
        "Network": known.name,
        "File": str(known.path),
        "Size": file_size(known.size),
        "Input": f"{known.side[0]}×{known.side[1]}, {grey_or_colour(known.channels)}",
        "Pixels": known.pixels or "unknown: say it by --prepare",
        "Licence": known.licence,
        "Work": f"{short_count(known.multiply_adds)} multiply-adds an image, "
        f"{_time(known.milliseconds)} here",
    }
    grid = Table.grid(padding=(0, 2))
    for name, text in facts.items():
        grid.add_row(name, plain(text))
    console().print(grid)
    say("\nValues for --at; those with a star are taken by default:\n")
    table = columns("", "Value", "Operator", figures=("Shape",))
    for value in known.values:
        shape = " × ".join(map(str, value.shape))
        table.add_row("*" if value.usual else "", plain(value.name), plain(value.op), shape)
    console().print(table)


def _time(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.3g} ms"
