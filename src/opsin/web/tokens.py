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

#: Environment variable with the token.
TOKEN_VARIABLE: Final = "OPSIN_TOKEN"  # noqa: S105  a variable's name


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
        reason = error.strerror or type(error).__name__
        raise StorageError(f"The token file {path} cannot be read or made: {reason}") from error
    return token


def _read_token(path: Path) -> str:
    with path.open("rb") as file:
        # Of the open file: the folder's owner could replace it meanwhile.
        state = os.fstat(file.fileno())
        if not is_private(state):
            raise RecipeError(
                f"The token file {path} has the mode {stat.S_IMODE(state.st_mode):04o}: not only "
                "its owner can read it",
                "Others may know the token by now: delete the file and let Opsin make another, "
                f"or, if you are the only user here: chmod 600 {path}",
            )
        token = file.read(4096).decode("ascii", "replace").strip()
    check_token(token)
    return token
