"""The command line: parse, one call, print."""

from __future__ import annotations

import sys

import click

from opsin.cli.output import print_error
from opsin.errors import OpsinError


def main() -> None:
    """Run the command line and end the process with its exit status.

    0: done; 1: could not; 2: wrong usage; 130: stopped by Ctrl-C.
    """
    from opsin.cli.app import app  # noqa: PLC0415  so that Ctrl-C is caught during imports too

    try:
        status = app(standalone_mode=False)
    except click.exceptions.ClickException as error:
        error.show()
        status = error.exit_code
    except click.exceptions.Abort:
        status = 130
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has seen enough.
        sys.stderr.close()
        status = 1
    except OpsinError as error:
        print_error(error)
        status = 1
    sys.exit(status or 0)
