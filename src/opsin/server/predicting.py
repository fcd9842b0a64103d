"""``POST /predict``: pictures in, labels out.

The route is plain ASGI: of a request that takes a network half a millisecond, FastAPI's own way
with parameters and models would take as much again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from opsin.core.errors import OpsinError
from opsin.data.blank import warning_among
from opsin.runtime.classifier import NONE_OF_THESE
from opsin.server.body import Body, MemoryBudget, read_pictures
from opsin.server.disconnects import CancelOnDisconnect
from opsin.server.engine import Engine
from opsin.server.form import Upload
from opsin.server.http_errors import error_object, error_reply, internal_error, status_of
from opsin.server.predict_requests import (
    Overloaded,
    PredictRequest,
    PredictResult,
    Result,
    UnknownModel,
)
from opsin.server.served_model import Served
from opsin.server.server_settings import ServerSettings
from opsin.web.refusals import BadRequest, json_bytes

_SWITCHES: Final = ("all", "embedding", "explain", "as_is")
_YES_NO: Final = {"true": True, "1": True, "false": False, "0": False}
# Where many pictures find the queue full half-way, seconds until the next try.
_PATIENCE: Final = 0.05
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictOptions:
    """What a request wants to know beyond the label: the part of its address behind the ``?``.

    Args:
        top: How many classes, the most probable first.
        model: Name of the model; ``None``: the only one.
        all: Whether to return the probability of every class.
        embedding: Whether to return what the last layer sees.
        explain: Whether to return which parts of the picture the answer rests on.
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
        Wanted(top=3, model=None, all=True, embedding=False, explain=False, as_is=False)
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


class Predict:
    """An endpoint that answers with labels.

    Args:
        engine: What computes.
        settings: The limits.
        room: The memory of all requests' bodies.
    """

    def __init__(self, engine: Engine, settings: ServerSettings, room: MemoryBudget) -> None:
        self._engine, self._settings, self._room = engine, settings, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not."""
        try:
            content = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        except OpsinError as error:
            if status_of(error) == 500:
                logger.exception("a request failed")
            await error_reply(error)(scope, receive, send)
            return
        except Exception:
            # Only a bug ends here; the client learns that there is one, the log which.
            logger.exception("a request failed")
            await error_reply(internal_error())(scope, receive, send)
            return
        length = str(len(content)).encode("ascii")
        headers = [(b"content-length", length), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        until = asyncio.get_running_loop().time() + self._settings.deadline
        named: str | None = scope.get("path_params", {}).get("model")
        wanted = read_query(scope["query_string"], self._settings.top, named=named is None)
        model = self._find(named or wanted.model)
        scope["path_params"] = {"model": model}  # by which the request is counted
        self._engine.check_room()
        with Body(scope, receive, self._settings, self._room) as body:
            uploads = await read_pictures(body, self._settings)
            asks = [
                PredictRequest(upload.content, wanted.as_is, wanted.embedding, wanted.explain)
                for upload in uploads
            ]
            async with CancelOnDisconnect(receive):
                served, answers = await self._ask(model, asks, until)
        if len(answers) == 1 and not isinstance(answers[0], PredictResult):
            raise answers[0]
        return json_bytes(
            {
                "model": served.name,
                "digest": served.digest,
                "predictions": [
                    entry(upload, result, served, wanted)
                    for upload, result in zip(uploads, answers, strict=True)
                ],
            }
        )

    def _find(self, name: str | None) -> str:
        """Return the name of the model that is meant."""
        served = self._engine.served
        if name is None and len(served) == 1:
            return next(iter(served))
        if name is None:
            raise BadRequest(
                "the name of a model, since several are served",
                "none is given",
                f"Add ?model= and one of {', '.join(served)}.",
            )
        if name not in served:
            raise UnknownModel(
                f"a model among {', '.join(served)}", f"got {name[:80]!r}", "Choose one of them."
            )
        return name

    async def _ask(
        self, model: str, asks: Sequence[PredictRequest], until: float
    ) -> tuple[Served, list[Result]]:
        """Ask the engine, part by part where the pictures are more than its queue should hold.

        Returns:
            The model that answered all of them, and the answers.
        """
        loop = asyncio.get_running_loop()
        most = max(1, self._settings.queue // 2)
        answers: list[Result] = []
        first = self._engine.served[model]
        while True:
            served = self._engine.served[model]
            if served.digest != first.digest:  # replaced meanwhile: one file answers all of it
                first, answers = served, []
            part = asks[len(answers) : len(answers) + most]
            try:
                answers += await self._engine.ask(model, part, deadline=until - loop.time())
            except Overloaded:
                if not answers or loop.time() + _PATIENCE > until:
                    raise
                await asyncio.sleep(_PATIENCE)
            if len(answers) == len(asks):
                return served, answers


class PredictRoute(Route):
    """A route to a `Predict` that leaves its name in the scope, as FastAPI's own routes do."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        scope["route"] = self
        await super().handle(scope, receive, send)


def entry(upload: Upload, result: Result, served: Served, wanted: PredictOptions) -> dict[str, Any]:
    """Return what a reply says about one picture, as plain data."""
    if not isinstance(result, PredictResult):
        return {"name": upload.name, "error": error_object(result)}
    classes = served.metadata.classes
    order = np.argsort(-result.probabilities, kind="stable").tolist()
    shares = _numbers(result.probabilities)
    label = classes[order[0]]
    known = result.familiarity
    found: dict[str, Any] = {
        "name": upload.name,
        "warning": warning_among(result.notes),
        "answer": NONE_OF_THESE if result.rejected else label,
        "label": label,
        "confidence": shares[order[0]],
        "rejected": result.rejected,
        "familiarity": known if known is not None and math.isfinite(known) else None,
        "top": [{"label": classes[place], "score": shares[place]} for place in order[: wanted.top]],
        "notes": list(result.notes),
    }
    if wanted.all:
        found["probabilities"] = dict(zip(classes, shares, strict=True))
    if wanted.embedding:
        found["embedding"] = None if result.embedding is None else _numbers(result.embedding)
    if wanted.explain and result.heat is not None:
        found["explanation"] = explanation(result.heat)
    return found


def explanation(heat: NDArray[np.float32]) -> Mapping[str, Any]:
    """Return an occlusion map as plain data, with the place that matters most.

    Args:
        heat: By how much the answer's probability falls where a part is hidden, ``float32[H, W]``.
    """
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    rounded = np.round(heat.astype(np.float64), 5)
    return {
        "method": "occlusion",
        "heat": rounded.tolist(),
        "strongest": {"row": row, "column": column, "fall": float(rounded[row, column])},
    }


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    """Return numbers as JSON can say them: what is not finite becomes ``null``."""
    listed = values.tolist()
    if np.isfinite(values).all():
        return listed  # type: ignore[no-any-return]
    return [value if math.isfinite(value) else None for value in listed]
