"""Random access tokens and their files."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from opsin.core.errors import RecipeError, StorageError
from opsin.core.platform import is_private

#: Environment variable that the command line reads a token from.
TOKEN_VARIABLE: Final = "OPSIN_TOKEN"  # noqa: S105  a variable's name

# 22 characters of base64url and 32 hexadecimal digits hold 128 bits or more.
_BASE64_LEAST: Final = 22
_HEX_LEAST: Final = 32
# A file of a token holds one line.
_TOKEN_FILE_MOST: Final = 4096


def check_token(token: str) -> None:
    """Refuse a token that could be guessed."""
    hexadecimal = re.fullmatch(r"[0-9A-Fa-f]+", token)
    least, different = (_HEX_LEAST, 6) if hexadecimal else (_BASE64_LEAST, 9)
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        received = "it holds other characters"
    elif len(token) < least:
        received = f"it has {len(token)}"
    elif len(set(token)) < different:
        # 22 of 64 characters drawn at random hold fewer than 9 different ones, and 32 of 16 fewer
        # than 6, once in more than a million times.
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
    """Read a token from its file, or make both where there is none."""
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
        # Of the open file: the folder's owner could replace it in the meantime.
        found = os.fstat(file.fileno())
        if not is_private(found):
            raise RecipeError(
                "a token file that only its owner can read",
                f"{path} has the mode {stat.S_IMODE(found.st_mode):04o}",
                f"Others may know the token by now: delete the file and let Opsin make another, "
                f"or, if you are the only user here: chmod 600 {path}",
            )
        content = file.read(_TOKEN_FILE_MOST)
    token = content.decode("ascii", "replace").strip()
    check_token(token)
    return token
