"""People whom the owner shares the studio with: invitations, roles, and what each changed."""

from __future__ import annotations

import contextlib
import hashlib
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, TypeAdapter

from opsin.core.errors import RecipeError
from opsin.core.storage import write_json
from opsin.studio.errors import NotThere, TooMany
from opsin.studio.words import safe
from opsin.web.refusals import RequestError

#: From least to most: looks and tries; also adds and labels photographs; also everything else.
Role = Literal["viewer", "labeller", "owner"]
_ROLES: Final = get_args(Role)
_DAY: Final = 86_400.0
# Wrong links within a minute, of everybody, before all have to wait.
_WRONG_MOST: Final = 20


class NotAllowed(RequestError, status=403):  # noqa: N818
    """The visitor's role does not allow a change."""


class Person(BaseModel):
    """Somebody with an invitation, or with access after it was used; times since 1970."""

    id: str
    name: str
    role: Role
    secret: str = ""  # SHA-256 of the link's code, then of the cookie
    until: float = math.inf  # end of the invitation, then of the access
    days: float = 0.0  # of access, from when the invitation was used
    joined: float = 0.0  # when that was
    _changes: Path | None = None  # the file of who changed what

    @property
    def allowed(self) -> bool:
        """Whether the invitation, or the access, has not ended."""
        return self.until > time.time()


class Change(BaseModel):
    """What somebody changed, and when."""

    when: float
    name: str
    change: str


_STORED: Final = TypeAdapter(list[Person])
_STUDIO: Final = Person(id="", name="Owner", role="owner")
#: Who makes the current request, as they are now; handlers, their tasks and threads inherit it.
visitor: Final[ContextVar[Person]] = ContextVar("visitor", default=_STUDIO)


@contextlib.contextmanager
def acting(who: Person = _STUDIO) -> Iterator[None]:
    """What the block does is done by somebody, or by the studio itself."""
    token = visitor.set(who)
    try:
        yield
    finally:
        visitor.reset(token)


def why_not(role: Role) -> str:
    """Why the current visitor cannot do what needs a role; ``""`` if they can."""
    person = visitor.get()
    if not person.allowed:
        return "Your access has ended. Ask the studio's owner for another link."
    if _ROLES.index(person.role) >= _ROLES.index(role):
        return ""
    wanted = "an owner" if role == "owner" else "a labeller"
    return f"As a {person.role}, you cannot do this. Ask the studio's owner to make you {wanted}."


def allows(role: Role) -> bool:
    """Whether the current visitor has a role, or a higher one."""
    return not why_not(role)


def require(role: Role) -> None:
    """Refuse a change that the current visitor's role does not allow."""
    if reason := why_not(role):
        raise NotAllowed(reason)


def record(change: str) -> None:
    """Write down a change of the current visitor, at best effort."""
    person = visitor.get()
    if person._changes is not None:
        entry = Change(when=time.time(), name=person.name, change=change)
        with contextlib.suppress(OSError), person._changes.open("a", encoding="utf-8") as file:
            file.write(entry.model_dump_json() + "\n")


class People:
    """The invited people, in ``people.json``, and their changes, in ``changes.jsonl``."""

    def __init__(self, home: Path) -> None:
        self._file, self._changes = home / "people.json", home / "changes.jsonl"
        self._guard = threading.Lock()
        self._wrong: deque[float] = deque(maxlen=_WRONG_MOST)
        #: Whoever runs the studio.
        self.owner = self._with_changes(_STUDIO.model_copy())
        self._people: dict[str, Person] = {}
        with contextlib.suppress(OSError, ValueError):
            for person in _STORED.validate_json(self._file.read_bytes()):
                self._people[person.id] = self._with_changes(person)

    def _with_changes(self, person: Person) -> Person:
        person._changes = self._changes
        return person

    def all(self) -> list[Person]:
        """Everybody whose access or invitation has not ended, by name."""
        allowed = [person for person in [*self._people.values()] if person.allowed]
        return sorted(allowed, key=lambda person: person.name)

    def find(self, id_: str) -> Person | None:
        """The person of an id, while their access lasts."""
        person = self._people.get(id_)
        return person if person and person.allowed else None

    def invite(self, name: str, role: Role, days: float = 30.0) -> str:
        """Invite somebody, and return the code of a link that works once."""
        require("owner")
        name = safe(name, 60)
        if not name or role not in _ROLES or not 0 < days <= 3650:
            raise RecipeError("An invitation has a name, a role and a number of days")
        code = secrets.token_urlsafe(32)
        person = Person(id=secrets.token_hex(6), name=name, role=role, days=days)
        self._put(person, secret=_hash(code), until=time.time() + min(days, 7.0) * _DAY)
        record(f"invited {name} as {role}")
        return code

    def redeem(self, code: str) -> str | None:
        """Exchange an invitation's code for a cookie; ``None`` if it is no invitation."""
        now, hashed = time.time(), _hash(code)
        if len(self._wrong) == _WRONG_MOST and now - self._wrong[0] < 60.0:
            raise TooMany("Too many wrong links were tried", "Wait a minute.")
        person = next((p for p in self.all() if not p.joined and p.secret == hashed), None)
        if person is None:
            self._wrong.append(now)
            return None
        secret = secrets.token_urlsafe(32)
        self._put(person, secret=_hash(secret), until=now + person.days * _DAY, joined=now)
        return f"{person.id}.{secret}"

    def of_cookie(self, cookie: str) -> Person | None:
        """The person of a cookie, while their access lasts."""
        id_, _, secret = cookie.partition(".")
        person = self.find(id_)
        right = person and person.joined and secrets.compare_digest(person.secret, _hash(secret))
        return person if right else None

    def change_role(self, id_: str, role: Role) -> None:
        """Give somebody another role, which holds at once."""
        record(f"made {self._change(id_, role=role)} {role}")

    def revoke(self, id_: str) -> None:
        """End somebody's access at once, in open pages, too."""
        record(f"ended the access of {self._change(id_, until=0.0)}")

    def _change(self, id_: str, **fields: Any) -> str:
        require("owner")
        person = self.find(id_)
        if person is None:
            raise NotThere("This person has no access any more", "Invite them again.")
        self._put(person, **fields)
        return person.name

    def _put(self, person: Person, **changed: Any) -> None:
        """Keep a person with other fields, which hold at once, wherever the person is known."""
        with self._guard:
            new = Person.model_validate(person.model_dump() | changed)
            people = {**self._people, person.id: new}.values()
            write_json(self._file, [each.model_dump() for each in people if each.allowed])
            vars(person).update(vars(new))
            self._people[person.id] = self._with_changes(person)

    def changes(self) -> list[Change]:
        """The last changes, the newest first."""
        found: list[Change] = []
        with contextlib.suppress(OSError), self._changes.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 100_000))  # its end
            for line in reversed(file.read().splitlines()[-200:]):
                with contextlib.suppress(ValueError):
                    found.append(Change.model_validate_json(line))
        return found


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()
