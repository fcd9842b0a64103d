"""Names on the hub: ``owner/name[@revision]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from opsin.core.errors import RecipeError

_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_NAME: Final = re.compile(rf"({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,199}}))?")
#: What stands before such a name where a path could stand, too.
PREFIX: Final = "hf:"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """A repository on the hub, in one of its revisions: a branch, a tag or a commit."""

    repository: str
    revision: str = "main"

    @classmethod
    def read(cls, text: str) -> HubName | None:
        """Return what a text names; ``None`` where it is no such name."""
        text = text.removeprefix(PREFIX)
        found = _NAME.fullmatch(text)
        if found is None or text.endswith(".onnx") or ".." in text or "--" in found[1]:
            return None
        return cls(found[1], found[2] or "main")

    @classmethod
    def prefixed(cls, text: str) -> HubName | None:
        """Return what ``hf:owner/name[@revision]`` names; ``None`` without that beginning."""
        if not text.startswith(PREFIX):
            return None
        # Windows turns the strokes of what it takes for a path.
        found = cls.read(text.replace("\\", "/"))
        if found is None:
            raise RecipeError(
                f"{PREFIX}owner/name, or {PREFIX}owner/name@revision",
                f"got {text!r}",
                "Copy the name from the repository's page.",
            )
        return found

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"

    @property
    def is_pinned(self) -> bool:
        """Whether it means the same bytes for ever."""
        return is_commit(self.revision)


def is_commit(text: str) -> bool:
    """Tell whether a text is a commit, in full."""
    return _COMMIT.fullmatch(text) is not None
