"""The list of verbs."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from opsin._version import __version__
from opsin.cli.options import GroupedCommand, describe_sources
from opsin.cli.output import STOP_SAID, print_error, print_json_error
from opsin.core.errors import OpsinError
from opsin.training.process_group import Launch, refuse_several


def _version(value: bool) -> None:
    if value:
        typer.echo(f"opsin {__version__}")
        raise typer.Exit


def _about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Turn images sorted by label into a classifier you can look inside, trust and ship.

    Start with: opsin train fashion-mnist
    """


#: Every verb, a module of this package each, in the order of the help.
VERBS: Final = (
    "data", "embed", "train", "resume", "import", "predict", "merge", "undo", "evaluate",
    "inspect", "explain", "report", "runs", "compare", "export", "serve", "studio", "backbones",
    "bench", "docs",
)  # fmt: skip
#: Those in which processes that torchrun started work together.
_TOGETHER: Final = ("train", "resume")
# What Python's own words are called instead.
_NAMES: Final = {"import": "import_model"}
# Words of before, which are still understood.
_FORMER: Final = {"unsort": "undo"}


def _application(words: Sequence[str]) -> typer.Typer:
    """Return the command line, with no more verbs loaded than are needed.

    Loading all of them takes longer than to answer an image.
    """
    app = typer.Typer(
        name="opsin",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_about)
    if "--help" in words:
        describe_sources()
    for verb in words[:1] if words and words[0] in VERBS else VERBS:
        name = _NAMES.get(verb, verb)
        module = importlib.import_module(f"opsin.cli.{name}")
        app.command(verb, cls=GroupedCommand)(getattr(module, name))
    return app


# Typer keeps the parent of its usage errors to itself.
_UsageError: type[Any] = typer.BadParameter.__bases__[0]


def run() -> int:
    """Run the verb that was asked for and return the exit status.

    Of the processes that torchrun started, the first one prints.
    """
    # Pillow's doubts about a file's tags: what cannot be read is reported with its reason anyway.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    if _is_first():
        return _run(sys.argv[1:])
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        return _run(sys.argv[1:])


def _run(words: Sequence[str]) -> int:
    words = [*(_FORMER.get(word, word) for word in words[:1]), *words[1:]]
    try:
        if words and words[0] in VERBS and words[0] not in _TOGETHER:
            refuse_several(f"opsin {words[0]}")
        status: int = _application(words)(words, standalone_mode=False) or 0
        # Typer turns Ctrl-C into this status and says nothing.
        if status == 130 and not STOP_SAID.is_set():
            return _said(OpsinError("to finish", "Ctrl-C stopped it", "Run it again."), status=130)
    except OpsinError as error:
        return _said(error)
    except (KeyboardInterrupt, typer.Abort):
        return _said(OpsinError("to finish", "Ctrl-C stopped it", "Run it again."), status=130)
    except MemoryError:
        return _said(OpsinError("enough memory", "there was too little", "Give a smaller --size."))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        what = f"{error.filename}: {reason}" if error.filename else reason
        return _said(OpsinError("the system to do its part", what, "See to it and run it again."))
    except _UsageError as error:
        if "--json" in sys.argv:
            print_json_error("UsageError", "another command line", str(error), "See --help.")
        if _is_first():
            error.show()
        return 2
    return status


def _is_first() -> bool:
    launch = Launch.current()
    return launch is None or launch.rank == 0


def _said(error: OpsinError, *, status: int = 1) -> int:
    told = not _is_first() if error.told is None else error.told
    with contextlib.suppress(OSError):  # the reader may have gone
        if not told:
            print_error(error)
    return status
