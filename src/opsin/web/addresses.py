"""Addresses to listen on, and who reaches them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsin.core.errors import RecipeError
from opsin.web.tokens import TOKEN_VARIABLE, check_token

#: Addresses that stand for all that the machine has.
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  compared, not bound to

_HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def url_of(host: str, port: int) -> str:
    """Return where a browser on this machine finds what listens there."""
    host = "127.0.0.1" if host in EVERYWHERE else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_address(host: str, token: str | None, allowed_hosts: Sequence[str]) -> None:
    """Refuse to be reached in an unsafe way."""
    if not host:
        raise RecipeError(
            "host to be an address",
            "it is empty",
            "127.0.0.1 is this machine alone, 0.0.0.0 every address it has.",
        )
    for name in allowed_hosts:
        _check_host_name(name)
    if token is not None:
        check_token(token)
    elif not is_loopback(host):
        raise RecipeError(
            "a token, since other machines can reach this address",
            f"host is {host} and no token is given",
            f"Give a token file (it is made if there is none) or set {TOKEN_VARIABLE}, "
            "or listen on 127.0.0.1.",
        )


def _check_host_name(name: str) -> None:
    bare = name[1:-1] if name[:1] + name[-1:] == "[]" else name
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if not _HOST_NAME.fullmatch(name.lower()):
            raise RecipeError(
                "names of hosts such as images.example.org, without a port",
                f"got {name!r}",
                "Leave out https://, port and path; patterns with * are not possible.",
            ) from None


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
            shown = "another value" if name == "token" else repr(first["input"])[:80]
            raise RecipeError(
                f"{name} to be right ({first['msg'].lower()})", f"got {shown}", "Choose another."
            ) from None

    def model_post_init(self, _: object) -> None:
        """Check the address."""
        check_address(self.host, self.token, self.allowed_hosts)
