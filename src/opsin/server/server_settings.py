"""How a server is set up, and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from opsin.core.errors import RecipeError
from opsin.web.addresses import check_address, is_loopback

#: Pixels of the largest picture that workers decode; a server may be set to take less.
MAX_PIXELS: Final = 50_000_000


@dataclass(frozen=True)
class ServerSettings:
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
        >>> ServerSettings(port=9000).loopback
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
        check_address(self.host, self.token, self.allowed_hosts)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def _check_count(name: str, value: int, least: int, most: int | None = None) -> None:
    if isinstance(value, int) and least <= value and (most is None or value <= most):
        return
    limits = f"of at least {least:,}" if most is None else f"between {least:,} and {most:,}"
    raise RecipeError(
        f"{name} to be a whole number {limits}", f"got {value}", "Choose a value there."
    )
