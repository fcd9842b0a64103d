"""What a client wants of ``/predict`` beyond the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
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
    found: dict[str, Any] = {"top": top}
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32
        )
    except ValueError:
        pairs = [("?", "")]
    if len(dict(pairs)) != len(pairs):
        raise BadRequest(
            "each option once", "one is there twice", f"Leave it out: {', '.join(known)}."
        )
    for name, value in pairs:
        if name not in known:
            raise BadRequest(
                f"options among {', '.join(known)}", f"got {name[:40]!r}", "Choose there."
            )
        if name == "model":
            found[name] = value
        elif name == "top":
            if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value)):
                raise BadRequest(
                    "top to be a whole number of at least 1", f"got {value[:40]!r}", "Say top=3."
                )
            found[name] = int(value)
        elif value.lower() in _YES_NO:
            found[name] = _YES_NO[value.lower()]
        else:
            raise BadRequest(
                f"{name} to be true or false", f"got {value[:40]!r}", f"Say {name}=true."
            )
    return PredictOptions(**found)
