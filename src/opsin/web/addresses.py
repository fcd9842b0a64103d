"""Addresses to listen on, who can reach them, and the tokens that clients must show."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsin.core.errors import RecipeError, StorageError
from opsin.core.platform import is_private, sync
from opsin.core.stored_json import first_fault

#: Environment variable with the token.
TOKEN_VARIABLE: Final = "OPSIN_TOKEN"  # noqa: S105  a variable's name
#: Addresses that stand for all of the machine's.
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  compared, not bound to
#: Advice for an address that cannot be bound.
ADDRESS_ADVICE: Final = "127.0.0.1 is this machine alone, 0.0.0.0 every address it has."

_HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?")


def ip_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a text is, maybe in brackets; ``None`` for a name."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host[1:-1] if host[:1] + host[-1:] == "[]" else host)
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    address = ip_of(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def url_of(host: str, port: int) -> str:
    """The URL of an address for a browser on this machine."""
    host = "127.0.0.1" if host in EVERYWHERE else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class AddressSettings(BaseModel):
    """An address, a token and further names, checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65_535)
    token: str | None = Field(None, repr=False)
    allowed_hosts: tuple[str, ...] = ()

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            name, rule = first_fault(error)
            shown = "" if name == "token" else f" (got {error.errors()[0]['input']!r:.80})"
            raise RecipeError(f"{name}: {rule}{shown}") from None

    def model_post_init(self, _: object) -> None:
        """Refuse what is unsafe."""
        if not self.host:
            raise RecipeError("The address to listen on (--host) is empty", ADDRESS_ADVICE)
        for name in self.allowed_hosts:
            if not ip_of(name) and not _HOST_NAME.fullmatch(name.lower()):
                raise RecipeError(
                    f"{name!r} is no host name such as images.example.org",
                    "Leave out https://, port and path; patterns with * are not possible.",
                )
        if self.token is not None:
            check_token(self.token)
        elif not is_loopback(self.host):
            raise RecipeError(
                f"Other machines can reach {self.host}, and no token is given",
                f"Give a token file (it is made if there is none) or set {TOKEN_VARIABLE}, "
                "or listen on 127.0.0.1.",
            )


def check_token(token: str) -> None:
    """Refuse a guessable token."""
    # 22 characters of base64url and 32 hexadecimal digits hold 128 bits or more. Drawn at random,
    # fewer than 9 and 6 different ones occur less than once in a million times.
    hexadecimal = re.fullmatch(r"[0-9A-Fa-f]+", token)
    least, different = (32, 6) if hexadecimal else (22, 9)
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        reason = "holds other characters than A-Z, a-z, 0-9, - and _"
    elif len(token) < least:
        reason = f"has {len(token)} characters, fewer than {least}"
    elif len(set(token)) < different:
        reason = "repeats the same few characters"
    else:
        return
    raise RecipeError(
        f"The token {reason}; at least 128 random bits are expected",
        "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
    )


def token_from_file(path: str | os.PathLike[str]) -> str:
    """Read a token from its file, or create both."""
    path, token = Path(path), secrets.token_urlsafe(32)
    try:
        with contextlib.suppress(FileExistsError):
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w", encoding="ascii") as new:
                new.write(f"{token}\n")
            sync(path)
            return token
        with path.open("rb") as file:
            # Of the open file: the folder's owner could replace it meanwhile.
            state = os.fstat(file.fileno())
            token = file.read(4096).decode("ascii", "replace").strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(f"The token file {path} cannot be read or made: {reason}") from error
    if not is_private(state):
        raise RecipeError(
            f"The token file {path} has the mode {stat.S_IMODE(state.st_mode):04o}: not only "
            "its owner can read it",
            "Others may know the token by now: delete the file and let Opsin make another, "
            f"or, if you are the only user here: chmod 600 {path}",
        )
    check_token(token)
    return token
