"""What a client wants of ``/predict`` beyond the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from opsin.web.refusals import BadRequest

_SWITCHES: Final = ("all", "embedding", "explain", "as_is")
_YES_NO: Final = {"true": True, "1": True, "false": False, "0": False}
#: Classes that a client may name at most.
MOST_CLASSES: Final = 999_999_999


@dataclass(frozen=True)
class PredictOptions:
    """What a request wants to know beyond the label: the part of its address behind the ``?``.

    Args:
        top: How many classes, the most probable first.
        model: Name of the model; ``None``: the only one.
        all: Whether to return the probability of every class.
        embedding: Whether to return what the last layer sees.
        explain: Whether to return which parts of the image the answer rests on.
        as_is: Whether to leave the background as it is.
    """

    top: int
    model: str | None = None
    all: bool = False
    embedding: bool = False
    explain: bool = False
    as_is: bool = False


def read_query(query: bytes, top: int, *, named: bool = True) -> PredictOptions:
    """Read what a request wants.

    Args:
        query: The address behind the ``?``.
        top: Classes where it does not say.
        named: Whether it may name the model.

    Raises:
        BadRequest: It holds anything else.

    Example:
        >>> read_query(b"top=3&all=true", 5)
        PredictOptions(top=3, model=None, all=True, embedding=False, explain=False, as_is=False)
    """
    if not query:
        return PredictOptions(top)
    known = (*(("model",) if named else ()), "top", *_SWITCHES)
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32
        )
    except ValueError:
        pairs = [("?", "")]
    given = dict(pairs)
    if len(given) != len(pairs):
        raise BadRequest(
            "each option once", "one is there twice", f"Leave it out: {', '.join(known)}."
        )
    for name in given:
        if name not in known:
            raise BadRequest(
                f"options among {', '.join(known)}", f"got {name[:40]!r}", "Choose there."
            )
    return PredictOptions(
        _top(given["top"]) if "top" in given else top,
        given.get("model"),
        **{name: _switch(name, given[name]) for name in _SWITCHES if name in given},
    )


def _top(value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) < 10 and int(value):
        return int(value)
    raise BadRequest("top to be a whole number of at least 1", f"got {value[:40]!r}", "Say top=3.")


def _switch(name: str, value: str) -> bool:
    if value.lower() in _YES_NO:
        return _YES_NO[value.lower()]
    raise BadRequest(f"{name} to be true or false", f"got {value[:40]!r}", f"Say {name}=true.")
