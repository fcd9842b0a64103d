"""Addresses taken, and their errors explained."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final

from opsin.core.errors import RecipeError
from opsin.core.platform import allow_open_files, reuse_address

# Files, sockets included, that a server wants to hold open.
_FILES: Final = 65_536
#: Connections that may wait to be accepted; systems cut it to what they allow.
BACKLOG: Final = 4096
_LAST_PORT: Final = 65_535


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Hold an address for as long as the block lasts, without taking connections yet."""
    name = "127.0.0.1" if host.lower() == "localhost" else host
    with contextlib.ExitStack() as stack:
        with _explained(host, port):
            family, kind, protocol, _, address = socket.getaddrinfo(
                name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            held = stack.enter_context(socket.socket(family, kind, protocol))
            reuse_address(held)
            held.bind(address)
        yield held


def listen(held: socket.socket, host: str, port: int) -> None:
    """Take connections on an address that is held; they wait until they are accepted."""
    with _explained(host, port):
        held.listen(BACKLOG)


@contextlib.contextmanager
def listening(host: str, port: int, *, further: int = 0) -> Iterator[socket.socket]:
    """Take connections on an address, or on the next free port after one that is in use."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                held = stack.enter_context(bound(host, port))
                listen(held, host, port)
                break
            except RecipeError as error:
                cause = error.__cause__
                in_use = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
                if not (in_use and further and port < _LAST_PORT):
                    raise
                port, further = port + 1, further - 1
        yield held


def allow_many_files() -> None:
    """Raise the number of open files to what the system grants: each connection is one."""
    allow_open_files(_FILES)


@contextlib.contextmanager
def _explained(host: str, port: int) -> Iterator[None]:
    """Turn what the system says about an address into one line."""
    try:
        yield
    except OSError as error:
        where = f"{host}, port {port}"
        if error.errno == errno.EADDRINUSE:
            raise RecipeError(
                "a port that is free",
                f"{where} is in use",
                "Choose another one, or 0 for any that is free.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise RecipeError(
                "a port that this user may open", f"{where} is not", "Choose one above 1023."
            ) from error
        raise RecipeError(
            "an address of this machine",
            f"{where}: {(error.strerror or str(error)).lower()}",
            "127.0.0.1 is this machine alone, 0.0.0.0 every address it has.",
        ) from error
