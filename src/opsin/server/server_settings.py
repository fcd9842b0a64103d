"""How a server is set up, and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from opsin.core.defaults import DEVICE_WORDS, DEVICES
from opsin.core.errors import RecipeError
from opsin.web.addresses import ALLOWED_HOSTS_HELP, HOST_HELP, check_address, is_loopback
from opsin.web.settings import check_settings, setting

#: Pixels of the largest image that workers decode; a server may be set to take less.
MAX_PIXELS: Final = 50_000_000


@dataclass(frozen=True)
class ServerSettings:
    """How a server listens, whom it answers and how much it takes.

    Each field is an option of ``opsin serve`` as well, whose help says what it means; `max_parts`,
    the images or form fields of one request at most, is set here alone.

    Raises:
        RecipeError: A value is out of its range, or an address other than this machine's own is
            to be listened on without a token.

    Example:
        >>> ServerSettings(port=9000).loopback
        True
    """

    host: str = setting("127.0.0.1", HOST_HELP, flag="--host")
    port: int = setting(
        8000, "Port; 0 takes one that is free.", flag="--port", least=0, most=65_535
    )
    token: str | None = setting(
        None, "What clients must show; needed on any address but this machine's own.", repr=False
    )
    allowed_hosts: tuple[str, ...] = setting(
        (), ALLOWED_HOSTS_HELP, flag="--allow-host", metavar="NAME"
    )
    workers: int | None = setting(
        None, "Processes that compute (default: one a core).", flag="--workers", least=1
    )
    device: str = setting(
        "auto",
        f"Where to compute: {DEVICE_WORDS}.",
        flag="--device",
        metavar="DEVICE",
    )
    queue: int = setting(
        256, "Images that may wait; beyond them, requests are refused.", flag="--queue", least=1
    )
    batch: int = setting(16, "Images that are computed together at most.", flag="--batch", least=1)
    deadline: float = setting(
        30.0,
        "Time for a request to be read and answered.",
        flag="--deadline",
        metavar="SECONDS",
        least=0.001,
        most=86_400,
    )
    max_bytes: int = setting(
        20_000_000,
        "Most of one request's body.",
        flag="--max-megabytes",
        metavar="MB",
        least=1,
        unit=1_000_000,
    )
    max_parts: int = setting(1_000, "Most images or form fields of one request.", least=1)
    max_pixels: int = setting(
        MAX_PIXELS,
        "Most million pixels of an image.",
        flag="--max-megapixels",
        metavar="MP",
        least=1,
        most=MAX_PIXELS,
        unit=1_000_000,
    )
    top: int = setting(5, "Classes in an answer by default.", flag="--top", least=1)
    page: str | None = setting(
        None, "HTML file of your own to show at / in place of Opsin's page.", flag="--page",
        metavar="FILE",
    )  # fmt: skip
    access_log: bool = setting(False, "Write a line for each request.", flag="--access-log")

    def __post_init__(self) -> None:
        check_settings(self)
        if not re.fullmatch(DEVICES, self.device):
            raise RecipeError(
                f"as device {DEVICE_WORDS}", f"got {self.device!r}", "Choose one of them."
            )
        check_address(self.host, self.token, self.allowed_hosts)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)
