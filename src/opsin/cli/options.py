"""Options that several verbs share, described once."""

from __future__ import annotations

import copy
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import typer
from typer.core import TyperCommand

from opsin.core.platform import DEVICE_WORDS, known_device


def parser_of(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser whose errors Typer shows with the flag's name."""

    def parse(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


def expect(met: object, words: str, option: str) -> None:
    """Refuse an option whose requirement is not met."""
    if not met:
        raise typer.BadParameter(f"takes {words}", param_hint=option)


_SOURCES = typer.Argument(metavar="SOURCE", show_default=False)


def describe_sources() -> None:
    """Write the kinds of source into the help; loads them all, so only for ``--help``."""
    from opsin.data.sources import kinds_in_words  # noqa: PLC0415  all kinds

    _SOURCES.help = (
        f"Images with labels: {kinds_in_words()}; several are joined. A folder holds a sub-folder "
        "for each class."
    )


Sources = Annotated[list[str], _SOURCES]
#: Sources that may be omitted.
AnySources = Annotated[list[str] | None, _SOURCES]
#: A folder of runs, and the seed that selects example images.
Runs = Annotated[Path, typer.Option(envvar="OPSIN_RUNS")]
Seed = Annotated[int, typer.Option(min=0)]


Device = Annotated[str, typer.Option(parser=parser_of(known_device))]
# Options with the same meaning in every verb.
_SHARED: Final = f"""
Options:
    model (MODEL): A run directory, a classifier.onnx, or hf:owner/name[@revision] for one on the
        Hugging Face hub.
    run (RUN): A run directory.
    data (SOURCE): Images with labels to do it with (default: those of its run).
    seed: Which images are drawn as examples, at random; another number draws others.
    tta: Average the answers to small variations of each image, if these helped on the validation
        images of the training.
    shard (I/N): Only the I-th of N equal parts of the source, into a file of its own; any machine
        can make it, and opsin merge joins them.
    on (PLACE): Where images are worked on: local, or a Ray cluster, ray (the one this machine is
        part of) or ray://HOST:PORT.
    device (DEVICE): Where to compute: {DEVICE_WORDS}. auto takes a GPU if the installed ONNX
        Runtime can use one.
    offline: Fetch no pretrained network: use what is on this machine.
    runs: Folder of the run directories.
    host: Address to listen on; any but this machine's own needs a token.
    token_file: File with the token that clients must show; made if there is none. The variable
        OPSIN_TOKEN does as well.
    allowed_hosts (--allow-host NAME): A further name by which clients may call it.
    open_page (--open): Show the page in the web browser.
    quiet: Show no progress and no notes.
    as_json (--json): Print one JSON object and nothing else.
"""


def token_of(file: Path | None) -> str | None:
    """The token of a file or of the environment, if any."""
    from opsin.web.addresses import TOKEN_VARIABLE, token_from_file  # noqa: PLC0415  few verbs listen

    return token_from_file(file) if file else os.environ.get(TOKEN_VARIABLE) or None


Verb = Callable[..., None]
#: Heading of the most used options, which the help shows first.
MOST_USED: Final = "Most used"


class GroupedCommand(TyperCommand):
    """A verb whose help has headings, not Typer's boxes, which leave 20 of 80 columns for text."""

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


_ENTRY: Final = re.compile(r"^    (\w+)(?: \(([^)]*)\))?: (.*(?:\n {8}.*)*)", re.MULTILINE)


def _described(docstring: str) -> tuple[str, dict[str, tuple[str, str, str]]]:
    """Return a docstring's text, and its options' headings, metavars and texts."""
    about, *sections = re.split(rf"\n(Options|{MOST_USED}):\n", docstring)
    texts = {
        name: (heading, metavar, " ".join(text.split()))
        for heading, section in zip(sections[::2], sections[1::2], strict=True)
        for name, metavar, text in _ENTRY.findall(section)
    }
    return about.strip(), texts


def describe(verb: Verb) -> str:
    """Give a verb's options the texts of its docstring, written like `_SHARED`; return the rest."""
    about, texts = _described(inspect.getdoc(inspect.unwrap(verb)) or "")
    texts = _described(_SHARED)[1] | texts
    parameters = dict(inspect.signature(verb, eval_str=True).parameters)
    for name, parameter in parameters.items():
        kind, info = parameter.annotation, None
        if get_origin(kind) is Annotated:  # with limits or a parser
            kind, info = get_args(kind)
        if name not in texts or (info is not None and info.help):
            continue
        heading, word, text = texts[name]
        if parameter.kind is parameter.KEYWORD_ONLY:
            flag, default = f"--{name.replace('_', '-')}", parameter.default
            if word.startswith("--"):
                flag, _, word = word.partition(" ")
            info = copy.copy(info) if info else typer.Option()
            info.param_decls = (f"{flag}/--no-{flag[2:]}" if default is True else flag,)
            info.rich_help_panel = None if heading == "Options" else heading
            info.show_default = default not in (None, "") and default is not False
        else:
            info = typer.Argument(show_default=False)
        info.metavar, info.help = word or None, text
        parameters[name] = parameter.replace(annotation=Annotated[kind, info])
    verb.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    verb.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return about
