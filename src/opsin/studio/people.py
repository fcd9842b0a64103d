"""People whom the owner shares the studio with: invitations, roles, and what each changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from pydantic import BaseModel, TypeAdapter

from opsin.core.errors import RecipeError
from opsin.core.storage import write_json
from opsin.studio.errors import NotThere
from opsin.web.refusals import RequestError

#: From least to most: looks and tries; also adds and labels photographs; also everything else.
Role = Literal["viewer", "labeller", "owner"]
_ROLES: Final = get_args(Role)
_DAY: Final = 86_400.0
#: Seconds that an invitation can be used.
INVITED: Final = 7 * _DAY
# Wrong links within a minute, of everybody, before all have to wait.
_WRONG_MOST: Final = 20
_WRONG_WITHIN: Final = 60.0
_NAME_MOST: Final = 60
# Changes that are shown, and bytes of their file that are read for them.
_CHANGES_MOST: Final = 200
_CHANGES_BYTES: Final = 100_000


class NotAllowed(RequestError, status=403):  # noqa: N818
    """The visitor's role does not allow a change."""


class TooManyTries(RequestError, status=429):  # noqa: N818
    """Too many wrong links."""


class Person(BaseModel):
    """Somebody with a link; ``invitation`` and ``cookie`` are SHA-256 hashes."""

    id: str
    name: str
    role: Role
    until: float  # end of the access, seconds since 1970
    invited_until: float
    invitation: str = ""
    cookie: str = ""
    seen: float = 0.0

    @property
    def joined(self) -> bool:
        """Whether the invitation was used."""
        return bool(self.cookie)


class Change(BaseModel):
    """One change, for the list of who changed what."""

    when: float
    name: str
    change: str


_STORED: Final = TypeAdapter(list[Person])
#: Whoever runs the studio.
OWNER: Final = Person(id="", name="Owner", role="owner", until=0.0, invited_until=0.0)


class Visitor(NamedTuple):
    """Who makes the current request, and where their changes are written down."""

    person: Person = OWNER
    people: People | None = None


_UNGUARDED: Final = Visitor()  # the studio itself, and what runs without its door
#: The current visitor; handlers, their tasks and threads inherit it.
visitor: Final[ContextVar[Visitor]] = ContextVar("visitor", default=_UNGUARDED)


def current_person() -> Person | None:
    """The current visitor as they are now; ``None`` if their access has ended meanwhile."""
    person, people = visitor.get()
    return person if people is None or not person.id else people.find(person.id)


def allows(role: Role) -> bool:
    """Whether the current visitor has a role, or a higher one."""
    person = current_person()
    return person is not None and _ROLES.index(person.role) >= _ROLES.index(role)


def why_not(role: Role) -> str:
    """Why the current visitor cannot do what needs a role; ``""`` if they can."""
    if allows(role):
        return ""
    return f"You are a {visitor.get().person.role} here: ask the studio's owner."


@contextlib.contextmanager
def by_studio() -> Iterator[None]:
    """What the block changes is done by the studio itself, whoever caused it."""
    token = visitor.set(_UNGUARDED)
    try:
        yield
    finally:
        visitor.reset(token)


def record(change: str) -> None:
    """Write down a change of the current visitor."""
    person, people = visitor.get()
    if people is not None:
        people.write_change(person, change)


def require(role: Role) -> None:
    """Refuse a change that the current visitor's role does not allow."""
    person = current_person()
    if person is None:
        raise NotAllowed("Your access has ended", "Ask the studio's owner for another link.")
    if not allows(role):
        wanted = "an owner" if role == "owner" else "a labeller"
        raise NotAllowed(
            f"As a {person.role}, you cannot do this",
            f"Ask the studio's owner to make you {wanted}.",
        )


class People:
    """The invited people, in ``people.json``, and their changes, in ``changes.jsonl``."""

    def __init__(self, home: Path) -> None:
        self._file, self._changes = home / "people.json", home / "changes.jsonl"
        self._guard = threading.Lock()
        self._wrong: deque[float] = deque(maxlen=_WRONG_MOST)
        #: Called with the id of a person whose access has ended, to close their pages.
        self.on_revoked: Callable[[str], object] = str
        self._people: dict[str, Person] = {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            content = json.loads(self._file.read_text(encoding="utf-8"))
            self._people = {person.id: person for person in _STORED.validate_python(content)}

    def all(self) -> list[Person]:
        """Everybody whose access or invitation has not ended, by name."""
        return sorted(filter(_is_current, self._people.values()), key=lambda person: person.name)

    def invite(self, name: str, role: Role, days: float = 30.0) -> str:
        """Invite somebody, and return the code of a link that works once."""
        require("owner")
        name = " ".join(name.split())[:_NAME_MOST]
        if not name or role not in _ROLES or not 0 < days <= 3650:
            raise RecipeError("An invitation has a name, a role and a number of days")
        code, now = secrets.token_urlsafe(32), time.time()
        person = Person(
            id=secrets.token_hex(6), name=name, role=role, until=now + days * _DAY,
            invited_until=now + min(days * _DAY, INVITED), invitation=_hash(code),
        )  # fmt: skip
        self._put(person)
        record(f"invited {name} as {role}")
        return code

    def redeem(self, code: str) -> str | None:
        """Exchange an invitation's code for a cookie; ``None`` if it is no invitation."""
        now = time.time()
        if len(self._wrong) == _WRONG_MOST and now - self._wrong[0] < _WRONG_WITHIN:
            raise TooManyTries("Too many wrong links were tried", "Wait a minute.")
        with self._guard:
            known = (p for p in self._people.values() if p.invitation)
            person = next((p for p in known if p.invitation == _hash(code)), None)
        if person is None or person.invited_until < now or person.until < now:
            self._wrong.append(now)
            return None
        secret = secrets.token_urlsafe(32)
        update = {"invitation": "", "cookie": _hash(secret), "seen": now}
        self._put(person.model_copy(update=update))
        return f"{person.id}.{secret}"

    def of_cookie(self, cookie: str) -> Person | None:
        """The person of a cookie, while their access lasts."""
        id_, _, secret = cookie.partition(".")
        person = self._people.get(id_)
        if person is None or not person.cookie or not _is_current(person):
            return None
        return person if secrets.compare_digest(person.cookie, _hash(secret)) else None

    def find(self, id_: str) -> Person | None:
        """The person of an id, while their access lasts."""
        person = self._people.get(id_)
        return person if person is not None and _is_current(person) else None

    def change_role(self, id_: str, role: Role) -> None:
        """Give somebody another role, which holds at once."""
        require("owner")
        person = self._get(id_)
        self._put(person.model_copy(update={"role": role}))
        record(f"made {person.name} {role}")

    def revoke(self, id_: str) -> None:
        """End somebody's access at once, in open pages, too."""
        require("owner")
        person = self._get(id_)
        with self._guard:
            people = {key: other for key, other in self._people.items() if key != id_}
            self._write(people)
        record(f"ended the access of {person.name}")
        self.on_revoked(id_)

    def write_change(self, person: Person, change: str) -> None:
        """Write down a change, at best effort."""
        entry = Change(when=time.time(), name=person.name, change=change)
        with contextlib.suppress(OSError), self._changes.open("a", encoding="utf-8") as file:
            file.write(entry.model_dump_json() + "\n")

    def changes(self) -> list[Change]:
        """The last changes, the newest first."""
        with contextlib.suppress(OSError), self._changes.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _CHANGES_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()[-_CHANGES_MOST:]
            found = []
            for line in reversed(lines):
                with contextlib.suppress(ValueError):
                    found.append(Change.model_validate_json(line))
            return found
        return []

    def _get(self, id_: str) -> Person:
        person = self._people.get(id_)
        if person is None:
            raise NotThere("This person has no access any more", "Invite them again.")
        return person

    def _put(self, person: Person) -> None:
        with self._guard:
            self._write({**self._people, person.id: person})

    def _write(self, people: dict[str, Person]) -> None:
        current = {key: person for key, person in people.items() if _is_current(person)}
        write_json(self._file, [person.model_dump() for person in current.values()])
        self._people = current


def _is_current(person: Person) -> bool:
    now = time.time()
    return person.until > now and (person.joined or person.invited_until > now)


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()
