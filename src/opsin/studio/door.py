"""The door of a studio: its owner, and the people invited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsin.studio.pages.sign_in import KeptSignIn
from opsin.studio.people import OWNER, People, Visitor, visitor
from opsin.studio.settings import StudioSettings


class StudioSignIn(KeptSignIn):
    """The sign-in of the owner, which outlives restarts, and of the people invited."""

    def __init__(self, settings: StudioSettings, port: int, people: People) -> None:
        alone = settings.token is None and not settings.allowed_hosts and not settings.share
        name = f"opsin-studio-{port}"  # two studios differ by port
        super().__init__(name, settings.home / "sign-in.key", settings.token, own_only=alone)
        self._people = people
        # What closes each person's windows, from any thread.
        self._windows: dict[str, set[Callable[[], object]]] = {}
        people.on_revoked = self._close_windows

    def knows(self, scope: Scope) -> bool:
        """Whether a request carries a cookie; if so, note whose."""
        person = OWNER if super().knows(scope) else self._people.of_cookie(self.cookie_of(scope))
        # Of nobody, too: a request may inherit the context of the one before on its connection.
        visitor.set(Visitor(person or OWNER, self._people))
        return person is not None

    def cookie_for(self, shown: str, token: bytes | None) -> str | None:
        """Also exchange an invitation."""
        return super().cookie_for(shown, token) or self._people.redeem(shown)

    def closing(self, app: ASGIApp) -> ASGIApp:
        """Close the windows of people whose access ends."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            person = visitor.get().person
            if scope["type"] != "websocket" or not person.id:
                await app(scope, receive, send)
                return
            ended = asyncio.Event()
            close = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
            windows = self._windows.setdefault(person.id, set())
            windows.add(close)
            waiting = asyncio.create_task(ended.wait())

            async def receive_or_end() -> Message:
                message = asyncio.ensure_future(receive())
                await asyncio.wait((message, waiting), return_when=asyncio.FIRST_COMPLETED)
                if ended.is_set():
                    message.cancel()
                    return {"type": "websocket.disconnect", "code": 1008}
                return await message

            try:
                await app(scope, receive_or_end, send)
            finally:
                windows.discard(close)
                waiting.cancel()

        return call

    def _close_windows(self, person_id: str) -> None:
        for close in tuple(self._windows.get(person_id, ())):
            close()
