"""Files that let a classifier run where there is no Opsin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from opsin.core.metadata import Metadata
from opsin.core.stored_json import json_text

#: File of checksums.
SUMS: Final = "SHA256SUMS"


def client(name: str) -> bytes:
    """Return a program that classifies images, or what belongs to it."""
    return (resources.files("opsin.commands.export") / "clients" / name).read_bytes()


def classes_json(metadata: Metadata) -> bytes:
    """Return what clients read: the classes in their order, and how images are prepared."""
    like = metadata.preparation
    about = {
        "classes": list(metadata.classes),
        "height": like.height,
        "width": like.width,
        "channels": like.channels,
        "resize": like.resize,
        **({} if like.bits is None else {"bits": like.bits}),
        "reject": None if metadata.reject is None else metadata.reject.max_ood_score,
    }
    return json_bytes(about)


def json_bytes(content: Any) -> bytes:
    """Return plain data as a file that people can read."""
    return (json_text(content, indent=1) + "\n").encode("utf-8", "backslashreplace")


def checksums(files: Mapping[str, bytes]) -> bytes:
    """Return the lines that ``sha256sum --check`` reads, in the order of the names."""
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return "".join(lines).encode()


def sums_in(text: str) -> dict[str, str]:
    """Return the checksum of each name that such lines hold."""
    return {line[66:]: line[:64] for line in text.splitlines() if line[64:66] == "  "}
