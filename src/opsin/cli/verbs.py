"""The list of verbs."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from opsin._version import __version__
from opsin.core.errors import OpsinError

if TYPE_CHECKING:
    from opsin.training.process_group import Launch


def _version(value: bool) -> None:
    if value:
        typer.echo(f"opsin {__version__}")
        raise typer.Exit


def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn images sorted by label into a classifier you can look inside, trust and ship.

    Start with: opsin train fashion-mnist
    """


#: Every verb of this package's modules, as the help lists them.
VERBS: Final = (
    "data", "label", "find", "embed", "train", "resume", "import", "predict", "merge", "undo",
    "evaluate", "inspect", "explain", "report", "runs", "compare", "export", "serve", "studio",
    "backbones", "bench", "docs",
)  # fmt: skip
# Verbs that are told in another's module.
_TOLD_WITH: Final = {
    "resume": "train", "explain": "inspect", "merge": "predict", "undo": "predict", "find": "label"
}  # fmt: skip
#: Verbs that run distributed under torchrun.
_TOGETHER: Final = ("train", "resume")
# Typer does not export the base of its usage errors.
_UsageError: type[Any] = typer.BadParameter.__bases__[0]


def _application(words: Sequence[str]) -> typer.Typer:
    """Return the application: the requested verb, or the list of all."""
    app = typer.Typer(
        name="opsin",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_about)
    if not words or words[0] not in VERBS:
        for verb in VERBS:
            app.command(verb, help=_summary(verb))(lambda: None)
        return app
    from opsin.cli import options  # noqa: PLC0415  not needed for the list

    if "--help" in words:
        options.describe_sources()
    module, function = _place_of(words[0])
    verb = getattr(importlib.import_module(f"opsin.cli.{module}"), function)
    app.command(words[0], cls=options.GroupedCommand, help=options.describe(verb))(verb)
    return app


def _place_of(verb: str) -> tuple[str, str]:
    """A verb's module and function."""
    function = "import_model" if verb == "import" else verb
    return _TOLD_WITH.get(verb, function), function


def _summary(verb: str) -> str:
    """The first line of a verb's docstring, read as text: loading all modules takes too long."""
    module, function = _place_of(verb)
    text = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    _, _, body = text.partition(f"\ndef {function}(")
    return body.partition('"""')[2].partition("\n")[0]


def run() -> int:
    """Run the requested verb and return the exit status."""
    # Pillow's warnings about tags: unreadable files are reported with a reason anyway.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with Path(os.devnull).open("w") as nothing:
        return _run(sys.argv[1:], sys.stdout if _is_first() else nothing)


def _run(words: Sequence[str], output: TextIO) -> int:
    stopped = OpsinError("Interrupted")
    try:
        if sys.flags.optimize > 1:  # no docstrings, which describe the options
            raise OpsinError("Opsin cannot run under python -OO", "Set PYTHONOPTIMIZE=1 instead.")
        if words and words[0] in VERBS and words[0] not in _TOGETHER and _launch():
            from opsin.training.process_group import refuse_several  # noqa: PLC0415

            refuse_several(f"opsin {words[0]}")
        application = _application(words)
        gc.freeze()
        gc.set_threshold(50_000)  # the usual 700 made it a twentieth of a short training
        gc.enable()
        with contextlib.redirect_stdout(output):
            status: int = application(words, standalone_mode=False) or 0
    except OpsinError as error:
        return _failed(error)
    except (KeyboardInterrupt, typer.Abort):
        return _failed(stopped, status=130)
    except MemoryError:
        return _failed(OpsinError("There is too little memory", "Give a smaller --size."))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        message = f"cannot read or write {error.filename or 'a file'}: {reason}"
        return _failed(OpsinError(message, "Check its rights, and run it again."))
    except _UsageError as error:
        if _is_first():
            if "--json" in sys.argv:
                from opsin.cli.output import print_json_error  # noqa: PLC0415

                print_json_error("UsageError", str(error).rstrip("."), "See --help.")
            error.show()
        return 2
    if status == 130:  # Ctrl-C in Typer, or a stopped verb
        from opsin.cli.output import STOP_SAID  # noqa: PLC0415

        return status if STOP_SAID.is_set() else _failed(stopped, status=130)
    return status


def _launch() -> Launch | None:
    """Return torchrun's settings; ``None`` if it did not start this process."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    from opsin.training.process_group import Launch  # noqa: PLC0415  few are

    return Launch.current()


def _is_first() -> bool:
    launch = _launch()
    return launch is None or launch.rank == 0


def _failed(error: OpsinError, *, status: int = 1) -> int:
    from opsin.cli.output import print_error  # noqa: PLC0415

    is_printed = not _is_first() if error.told is None else error.told
    with contextlib.suppress(OSError):  # the reader may have closed
        if not is_printed:
            print_error(error)
    return status
