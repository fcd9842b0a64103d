"""Options that several verbs share, described once."""

from __future__ import annotations

import copy
import inspect
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import typer
from typer.core import TyperCommand

from opsin.core.platform import DEVICE_WORDS, DEVICES


def flag(name: str, text: str, **more: Any) -> Any:
    """Declare an option such as ``--out FILE``; its default is shown with ``show_default=True``."""
    name, _, metavar = name.partition(" ")
    declared = {"help": text, "metavar": metavar or None, "show_default": False, **more}
    return typer.Option(name, **declared)


def argument(metavar: str, text: str, **more: Any) -> Any:
    """Declare an argument, whose default is not shown."""
    return typer.Argument(metavar=metavar, help=text, show_default=False, **more)


def parser_of(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a reader whose complaints Typer shows with the name of the flag."""

    def parse(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


def expect(met: object, expected: str, option: str) -> None:
    """Refuse a command line that lacks what an option needs."""
    if not met:
        raise typer.BadParameter(f"expected {expected}", param_hint=option)


_SOURCES = typer.Argument(metavar="SOURCE", show_default=False)


def describe_sources() -> None:
    """Write the kinds of source into the help, which loads them all: only for who asks for it."""
    from opsin.data.sources import kinds_in_words  # noqa: PLC0415  all kinds

    _SOURCES.help = (
        f"Images with labels: {kinds_in_words()}; several are joined. A folder holds a sub-folder "
        "for each class."
    )


Sources = Annotated[list[str], _SOURCES]
#: Sources that may be left out, since something else can say which they are.
AnySources = Annotated[list[str] | None, _SOURCES]
Model = Annotated[
    Path,
    argument(
        "MODEL",
        "A run directory, a classifier.onnx, or hf:owner/name[@revision] for one on the "
        "Hugging Face hub.",
    ),
]
Data = Annotated[
    list[str] | None,
    flag("--data SOURCE", "Images with labels to do it with (default: those of its run)."),
]
Moved = Annotated[
    list[str] | None,
    flag(
        "--data SOURCE",
        "Where the run's images are now, if they were moved; they must be the same.",
    ),
]
AsJson = Annotated[bool, flag("--json", "Print one JSON object and nothing else.")]
Examples = Annotated[
    int,
    flag(
        "--seed",
        "Which images are drawn as examples, at random; another number draws others.",
        min=0,
        show_default=True,
    ),
]
Tta = Annotated[
    bool,
    flag(
        "--tta",
        "Average the answers to small variations of each image, if these helped on the "
        "validation images of the training.",
    ),
]
ShardToMake = Annotated[
    str | None,
    flag(
        "--shard I/N",
        "Only the I-th of N equal parts of the source, into a file of its own; any machine "
        "can make it, and opsin merge joins them.",
    ),
]
WhereToWork = Annotated[
    str,
    flag(
        "--on PLACE",
        "Where images are worked on: local, or a Ray cluster, ray (the one this machine is "
        "part of) or ray://HOST:PORT.",
        show_default=True,
    ),
]


def _device(text: str) -> str:
    if not re.fullmatch(DEVICES, text):
        raise ValueError(f"expected {DEVICE_WORDS}; received {text!r}.")
    return text


Device = Annotated[
    str,
    flag(
        "--device DEVICE",
        f"Where to compute: {DEVICE_WORDS}. auto takes a GPU if the installed ONNX Runtime "
        "can use one.",
        parser=parser_of(_device),
        show_default=True,
    ),
]
OpenPage = Annotated[bool, flag("--open", "Show the page in the web browser.")]
Quiet = Annotated[bool, flag("--quiet", "Show no progress and no notes.")]
Offline = Annotated[
    bool, flag("--offline", "Fetch no pretrained network: use what is on this machine.")
]
Runs = Annotated[
    Path, flag("--runs", "Folder of the run directories.", envvar="OPSIN_RUNS", show_default=True)
]


Host = Annotated[
    str,
    flag(
        "--host",
        "Address to listen on; any but this machine's own needs a token.",
        show_default=True,
    ),
]
TokenFile = Annotated[
    Path | None,
    flag(
        "--token-file",
        "File with the token that clients must show; made if there is none. The variable "
        "OPSIN_TOKEN does as well.",
    ),
]
AllowHost = Annotated[
    list[str] | None, flag("--allow-host NAME", "A further name by which clients may call it.")
]


def token_of(file: Path | None) -> str | None:
    """The token of a file, or of the environment, or none."""
    from opsin.web.tokens import TOKEN_VARIABLE, token_from_file  # noqa: PLC0415  few verbs listen

    return token_from_file(file) if file else os.environ.get(TOKEN_VARIABLE) or None


Verb = Callable[..., None]
#: The heading of the options that most people use, which the help shows first.
MOST_USED: Final = "Most used"


class GroupedCommand(TyperCommand):
    """A verb whose help shows its options under their headings.

    Typer groups them too, but in boxes that leave 20 of 80 columns to the text.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options; the most used come first, the others as declared."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], MOST_USED: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                heading = getattr(parameter, "rich_help_panel", None) or usual
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def add_parameters(call: Verb, verb: Verb, added: Sequence[inspect.Parameter], after: str) -> None:
    """Give a call a verb's parameters and, behind one of them, more in place of its ``**``."""
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(verb, eval_str=True).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters.append(parameter)
        if name == after:
            parameters += added
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}


_ENTRY: Final = re.compile(r"^    (\w+)(?: \(([^)]*)\))?: (.*(?:\n {8}.*)*)", re.MULTILINE)


def describe(verb: Verb) -> str:
    """Give a verb's options the texts of its docstring, and return the rest of that.

    A section, ``Options:`` or `MOST_USED`, has an entry for each: ``out (FILE): Text.``, or
    ``moved (--data SOURCE): Text.`` where the flag has another name than the parameter.
    """
    about, *sections = re.split(
        rf"\n(Options|{MOST_USED}):\n", inspect.getdoc(verb) or "", flags=re.MULTILINE
    )
    parameters = dict(inspect.signature(verb, eval_str=True).parameters)
    for heading, section in zip(sections[::2], sections[1::2], strict=True):
        for name, metavar, text in _ENTRY.findall(section):
            parameter = parameters[name]
            annotation, default = parameter.annotation, parameter.default
            kind, info = annotation, None
            if get_origin(annotation) is Annotated:  # with limits, or with what reads it
                kind, info = get_args(annotation)
            if parameter.kind is parameter.KEYWORD_ONLY:
                flag, word = f"--{name.replace('_', '-')}", metavar
                if metavar.startswith("--"):
                    flag, _, word = metavar.partition(" ")
                info = copy.copy(info) if info else typer.Option()
                info.param_decls = (f"{flag}/--no-{flag[2:]}" if default is True else flag,)
                info.rich_help_panel = None if heading == "Options" else heading
                info.show_default = default not in (None, "") and default is not False
            else:
                info, word = typer.Argument(show_default=False), metavar
            info.metavar, info.help = word or None, " ".join(text.split())
            parameters[name] = parameter.replace(annotation=Annotated[kind, info])
    verb.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    verb.__annotations__ = {name: each.annotation for name, each in parameters.items()}
    return about.strip()
