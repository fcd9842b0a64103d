"""Settings that every server has: where it listens, and whom it lets in."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsin.core.errors import RecipeError
from opsin.web.addresses import check_address


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
