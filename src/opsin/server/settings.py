"""How a server is set up, and checked."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from opsin.errors import RecipeError, StorageError

#: Environment variable that the command line reads a token from.
TOKEN_VARIABLE: Final = "OPSIN_TOKEN"  # noqa: S105  a variable's name

#: Pixels of the largest picture that workers decode; a server may be told to take less.
MAX_PIXELS: Final = 50_000_000

# 22 characters of base64url and 32 hexadecimal digits hold 128 bits or more.
_BASE64_LEAST: Final = 22
_HEX_LEAST: Final = 32
# A token drawn at random repeats few of its characters: 22 of 64 hold fewer than 9 different ones,
# and 32 of 16 fewer than 6, once in more than a million times.
_DIFFERENT_LEAST: Final = {"base64": 9, "hex": 6}
_HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?")
# A file of a token holds one line.
_TOKEN_FILE_MOST: Final = 4096


@dataclass(frozen=True)
class Settings:
    """How a server listens, whom it answers and how much it takes.

    Args:
        host: Address to listen on: ``127.0.0.1`` and ``::1`` are this machine alone.
        port: Port to listen on; 0 takes one that is free.
        token: What clients must show; needed on any address but this machine's own.
        allowed_hosts: Further names by which clients may call this server, such as
            ``pictures.example.org``; the address it listens on is always among them.
        max_bytes: Most bytes of one request's body.
        max_parts: Most pictures or form fields of one request.
        max_pixels: Most pixels of one picture, up to 50 million.
        deadline: Seconds within which a request must be read and answered.
        queue: Most pictures that wait; beyond it, requests are refused with status 503.
        batch: Most pictures computed at once.
        workers: Processes that compute (default: one for each core).
        top: Classes in an answer where the client does not say.
        access_log: Whether to write a line for each request on standard error.

    Raises:
        RecipeError: A value is out of its range, or an address other than this machine's own is
            to be listened on without a token.

    Example:
        >>> Settings(port=9000).loopback
        True
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    max_bytes: int = 20_000_000
    max_parts: int = 1_000
    max_pixels: int = MAX_PIXELS
    deadline: float = 30.0
    queue: int = 256
    batch: int = 16
    workers: int | None = None
    top: int = 5
    access_log: bool = False

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_parts", "queue", "batch", "top"):
            _check_count(name, getattr(self, name), 1)
        _check_count("port", self.port, 0, 65_535)
        _check_count("max_pixels", self.max_pixels, 1, MAX_PIXELS)
        if not 0.001 <= self.deadline <= 86_400:
            raise RecipeError(
                "deadline between 0.001 and 86,400 seconds",
                f"got {self.deadline}",
                "Choose a value there.",
            )
        if self.workers is not None:
            _check_count("workers", self.workers, 1)
        if not self.host:
            raise RecipeError(
                "host to be an address",
                "it is empty",
                "127.0.0.1 is this machine alone, 0.0.0.0 every address it has.",
            )
        for name in self.allowed_hosts:
            _check_host_name(name)
        if self.token is not None:
            check_token(self.token)
        elif not self.loopback:
            raise RecipeError(
                "a token, since other machines can reach this address",
                f"host is {self.host} and no token is given",
                f"Give a token file (it is made if there is none) or set {TOKEN_VARIABLE}, "
                "or listen on 127.0.0.1.",
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def check_token(token: str) -> None:
    """Refuse a token that could be guessed.

    Raises:
        RecipeError: It has fewer than 128 bits, few different characters, or characters that
            cannot stand in a header.
    """
    if re.fullmatch(r"[0-9A-Fa-f]+", token):
        kind, least = "hex", _HEX_LEAST
    else:
        kind, least = "base64", _BASE64_LEAST
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        received = "it holds other characters"
    elif len(token) < least:
        received = f"it has {len(token)}"
    elif len(set(token)) < _DIFFERENT_LEAST[kind]:
        received = "it repeats the same few characters"
    else:
        return
    raise RecipeError(
        f"a token of at least 128 random bits ({_BASE64_LEAST} characters of A-Z, a-z, 0-9, - and "
        f"_, or {_HEX_LEAST} hexadecimal digits)",
        received,
        "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
    )


def token_from_file(path: str | os.PathLike[str]) -> str:
    """Read a token from its file, or make both where there is none.

    A file that is made holds 256 random bits, and only its owner can read it.

    Raises:
        RecipeError: Others can read the file (POSIX), or what it holds is no good token.
        StorageError: It can be neither read nor made.
    """
    path = Path(path)
    try:
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _read_token(path)
        with os.fdopen(number, "w", encoding="ascii") as file:
            token = secrets.token_urlsafe(32)
            file.write(f"{token}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            "a token file that can be read or made",
            f"{path}: {error.strerror or type(error).__name__}",
            "Name a file in a folder of your own.",
        ) from error
    return token


def _read_token(path: Path) -> str:
    with path.open("rb") as file:
        # Of the open file: whoever owns the folder could put another in its place meanwhile.
        mode = os.fstat(file.fileno()).st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise RecipeError(
                "a token file that only its owner can read",
                f"{path} has the mode {stat.S_IMODE(mode):04o}",
                f"Others may know the token by now: delete the file and let Opsin make another, "
                f"or, if nobody else has an account here: chmod 600 {path}",
            )
        content = file.read(_TOKEN_FILE_MOST)
    token = content.decode("ascii", "replace").strip()
    check_token(token)
    return token


def _check_count(name: str, value: int, least: int, most: int | None = None) -> None:
    if isinstance(value, int) and least <= value and (most is None or value <= most):
        return
    limits = f"of at least {least:,}" if most is None else f"between {least:,} and {most:,}"
    raise RecipeError(
        f"{name} to be a whole number {limits}", f"got {value}", "Choose a value there."
    )


def _check_host_name(name: str) -> None:
    bare = name[1:-1] if name[:1] + name[-1:] == "[]" else name
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if not _HOST_NAME.fullmatch(name.lower()):
            raise RecipeError(
                "names of hosts such as pictures.example.org, without a port",
                f"got {name!r}",
                "Leave out https://, port and path; patterns with * are not possible.",
            ) from None
