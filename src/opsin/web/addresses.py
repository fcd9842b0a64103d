"""Addresses to listen on, and who can reach them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsin.core.errors import RecipeError
from opsin.web.tokens import TOKEN_VARIABLE, check_token

#: Addresses that stand for all of the machine's.
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  compared, not bound to
#: Advice for an address that cannot be bound.
ADDRESS_ADVICE: Final = "127.0.0.1 is this machine alone, 0.0.0.0 every address it has."

_HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def url_of(host: str, port: int) -> str:
    """The URL of an address for a browser on this machine."""
    host = "127.0.0.1" if host in EVERYWHERE else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_address(host: str, token: str | None, allowed_hosts: Sequence[str]) -> None:
    """Refuse unsafe settings."""
    if not host:
        raise RecipeError("The address to listen on (--host) is empty", ADDRESS_ADVICE)
    for name in allowed_hosts:
        try:
            ipaddress.ip_address(name[1:-1] if name[:1] + name[-1:] == "[]" else name)
        except ValueError:
            if not _HOST_NAME.fullmatch(name.lower()):
                raise RecipeError(
                    f"{name!r} is no host name such as images.example.org",
                    "Leave out https://, port and path; patterns with * are not possible.",
                ) from None
    if token is not None:
        check_token(token)
    elif not is_loopback(host):
        raise RecipeError(
            f"Other machines can reach {host}, and no token is given",
            f"Give a token file (it is made if there is none) or set {TOKEN_VARIABLE}, "
            "or listen on 127.0.0.1.",
        )


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
            first = error.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"]))
            shown = "" if name == "token" else f" (got {first['input']!r:.80})"
            raise RecipeError(f"{name}: {first['msg'].lower()}{shown}") from None

    def model_post_init(self, _: object) -> None:
        """Check the address."""
        check_address(self.host, self.token, self.allowed_hosts)
