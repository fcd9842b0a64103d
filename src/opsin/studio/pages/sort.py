"""Sorting a heap with few clicks: groups to name, questions, and how good it is by now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from nicegui import events, ui

from opsin.core.errors import SourceError
from opsin.core.format import count, counted
from opsin.studio.child import OnProgress
from opsin.studio.context import Studio
from opsin.studio.datasets.album import UNSORTED, Album
from opsin.studio.errors import NotThere
from opsin.studio.pages.page import Page
from opsin.studio.people import allows, visitor
from opsin.studio.ui import kit
from opsin.studio.ui.charts import map_chart
from opsin.studio.ui.gallery import (
    GalleryImage,
    ImageGallery,
    ImageViewer,
    class_of_key,
    class_select,
    key_of_class,
)
from opsin.studio.ui.layout import Frame, address, offer_training, page
from opsin.studio.ui.waiting import Waiting
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.projects import Project

#: A photograph: the names of its file, and of its copies'.
Photo = Sequence[str]
#: What is said of a photograph instead of a class.
ASIDE: Final = ("none of the classes", "unclear")

# Groups in sight, and photographs of each; questions that are fetched, and left when more are.
_CARDS, _THUMBNAILS = 12, 12
# Groups in sight that others are not asked about.
_RESERVED: Final = 3
_FETCHED, _LEFT = 12, 6
# Classes up to which each has a button, and photographs of each that are enough to train on.
_BUTTONS, _ENOUGH = 12, 10
_FOLLOWED: Final = ("groups", "questions")
_OTHERS: Final = {
    "doubts": ("Look again", "What the other labels say speaks against these."),
    "map": ("Map", "Photographs that are alike lie together. Draw around some to name them."),
    "aside": ("Set aside", "Unclear, or of none of the classes: these are not asked again."),
    "thought": ("Probably", "The least sure come first. Choose those that are right."),
    "like": ("Like this", "Those most like the first come first."),
}  # fmt: skip


async def sort(studio: Studio, project: str, view: str = "groups", of: str = "") -> None:
    """Build the page with one of its views; ``of`` is the class or photograph that it is about."""
    known = studio.projects.get(project)
    with page(studio, known.name, project=known, here="photos") as frame:
        if known.dataset is None or not known.dataset.made_here:
            raise SourceError("These photographs have their classes from their source", "Go back.")
        if not allows("labeller"):
            raise SourceError("Only labellers and owners sort photographs", "Ask the owner.")
        content = _Sort(studio, known, frame, view, of)
    await ui.context.client.connected()
    await content.start()


PAGE = Page("/projects/{project}/sort", sort)


class _View(Protocol):
    async def show(self) -> None: ...

    async def refresh(self) -> None: ...

    async def key(self, key: str) -> None: ...

    async def undone(self, photos: Sequence[Photo]) -> None: ...


class _Sort:
    """The page of one window, kept up to date with all others."""

    album: Album

    def __init__(self, studio: Studio, project: Project, frame: Frame, view: str, of: str) -> None:
        self._studio, self.id, self._frame = studio, project.id, frame
        self._who = (
            f"{visitor.get().id}/{ui.context.client.id}"  # no two windows are asked the same
        )
        self.tokens, self.waiting = dict[str, str](), set[str]()
        # What takes back what was done here, with the photographs; the last is the newest.
        self._done: list[tuple[Callable[[], Any], Sequence[Photo]]] = []
        self._waiting: Waiting | None = None
        self._saving = asyncio.Lock()
        self._nav = ui.element("nav").classes("views").props('aria-label="Ways to sort"')
        self._figure, self._status = kit.StatusLine(), kit.StatusLine()
        self._here, self._of = view, of
        self.body = ui.element("div").classes("stack sorting")
        views: dict[str, Callable[[], _View]] = {
            "groups": lambda: _Groups(self), "questions": lambda: _Questions(self),
            "map": lambda: _Map(self),
        }  # fmt: skip
        self._view = views.get(view, lambda: _Grid(self, view, of))()
        ui.keyboard(self._key, ignore=["input", "select", "textarea"])
        studio.changed.subscribe(self._heard)
        ui.context.client.on_disconnect(lambda: self.ask("leave"))

    async def ask(self, do: str, **options: object) -> Any:
        """Ask the project's process."""
        tell: OnProgress = self._waiting.tell if self._waiting else lambda *_: None
        asked = {"who": self._who} | options
        return await self._studio.sorting.ask(self.id, do, on_progress=tell, **asked)

    async def start(self) -> None:
        """Show the view as soon as the photographs were looked at."""
        await self._look()
        with self.body:
            self._waiting = Waiting("Looking at the photographs …")
        try:
            with self._status.errors():
                await self._view.show()
        finally:
            self._waiting.delete()
            self._waiting = None
        await self.judge()

    async def _look(self) -> None:
        """Take in the files and classes as they are now."""
        self.album = album = await self._studio.albums.open(self.id, at_once=True)
        if self.body.is_deleted:
            return
        names = album.contents.names
        self.tokens = dict(zip(names, album.contents.tokens, strict=True))
        self.waiting = {names[at] for at in album.of(UNSORTED).tolist()}
        enough = len(album.classes) > 1 and min(album.counts.values()) >= _ENOUGH
        offer_training(self._frame, self.id, album.why_not_trainable(), main=enough)
        self._nav.clear()
        with self._nav:
            for key in _FOLLOWED:
                self._link(key.capitalize(), key)
            with kit.action("More views", None, kind="quiet", icon="expand_more"), ui.menu():
                for key in ("doubts", "map", "aside"):
                    ui.menu_item(_OTHERS[key][0], partial(self.go, key))
                for name in album.classes[:_BUTTONS]:
                    ui.menu_item(f"Probably {safe(name, 40)}", partial(self.go, "thought", name))
            kit.note(f"{counted(len(self.waiting), 'photograph')} to sort")

    def _link(self, text: str, view: str) -> None:
        link = ui.link(text, address(self.id, "sort", view=view))
        if view == self._here:
            link.props('aria-current="page"')

    def go(self, view: str, of: str = "") -> None:
        """Go to another view."""
        ui.navigate.to(address(self.id, "sort", view=view, of=of))

    async def judge(self) -> None:
        """Say how good the labels' classifier is by now, and what more would bring."""
        state = await self.ask("state")
        lines = []
        if (right := state["accuracy"]) is not None:
            low, high = (round(100 * end) for end in state["interval"])
            lines.append(
                f"About {100 * right:.0f}% right ({low}–{high}%), judged on {state['judged']} "
                "random photographs, each without its own label."
            )
        elif state["labelled"]:
            missing = counted(state["missing"], "more random photograph")
            lines.append(f"Answer {missing} to see how good the labels' classifier is.")
        if state["more"]:
            low, high = (max(0, round(100 * end)) for end in state["gain_interval"])
            lines.append(f"About {state['more']} more labels for {100 * state['gain']:.0f} points "
                         f"({low}–{high}).")  # fmt: skip
        if state["unreadable"]:
            lines.append(f"{counted(state['unreadable'], 'file')} cannot be read as photographs.")
        self._figure.say(" ".join(lines) or "Name a few groups, or answer questions.")

    def image(self, photo: Photo, *, large: bool = False, caption: str = "") -> GalleryImage:
        """A photograph by its names."""
        token, kind = self.tokens.get(photo[0], ""), "originals" if large else "thumbnails"
        title = photo[0].rpartition("/")[2]
        return GalleryImage(f"/{kind}/{self.id}/{token}", f"{title}, {caption}", caption or title)

    async def give(self, photos: Sequence[Photo], answer: str, how: str) -> None:
        """Move photographs to a class, a new one too; or set them aside, where they are."""
        names = [name for photo in photos for name in photo if name in self.tokens]
        if not names or not answer.strip():
            return
        async with self._saving:
            with self._status.errors():
                if answer in ASIDE:
                    text, back = f"{counted(len(photos), 'photograph')}: {answer}", self._reopen
                    take_back: Callable[[], Any] = partial(back, names)
                else:
                    text, when = await self._move(names, answer)
                    take_back = partial(self._studio.albums.undo, self.id, when)
                self._done.append((take_back, photos))
                self._frame.undo.offer(text, self.undo)
                self._studio.changed.emit(f"set:{self.id}")
        with self._status.errors():
            person = visitor.get().name
            await self.ask("label", names=names, answer=answer, how=how, who=person)

    async def _move(self, names: Sequence[str], class_: str) -> tuple[str, float]:
        albums = self._studio.albums
        album = await albums.open(self.id, at_once=self.waiting.issuperset(names))
        if class_ not in album.classes:
            await albums.add_class(self.id, class_)
            album = await albums.open(self.id, at_once=True)
        place = {name: at for at, name in enumerate(album.contents.names)}
        here = [place[name] for name in names if name in place]
        return await albums.move(album, here, class_)

    async def _reopen(self, names: Sequence[str]) -> None:
        await self.ask("label", names=names, answer="", how="undo")

    async def undo(self) -> None:
        """Take back the last answer of this window."""
        if not self._done:
            self._status.say("There is nothing to undo.")
            return
        self._frame.undo.clear()
        async with self._saving:
            with self._status.errors():
                take_back, photos = self._done.pop()
                await take_back()
                self._status.say("Undone.")
                await self._look()
                await self._view.undone(photos)
        self._studio.changed.emit(f"set:{self.id}")

    def class_buttons(
        self, on_choose: Callable[[str], Any], guess: str = "", words: str = ""
    ) -> None:
        """A button for each class, that of the guess first, and a field for a new one."""
        classes, first = self.album.classes, [guess] if guess else []
        for name in first + [name for name in classes if name != guess][:_BUTTONS]:
            key = key_of_class(classes.index(name)) if name in classes else ""
            text = f"{safe(name, 30)}{words if name == guess else ''}"
            button = kit.action(text, partial(on_choose, name),
                                kind="primary" if name == guess else "plain")  # fmt: skip
            # The keys go on after a click: Enter means the guess, not the button again.
            button.on("mousedown", js_handler="(event) => event.preventDefault()")
            with button:
                ui.label(key.upper()).classes("key").props('aria-hidden="true"')
        if len(classes) > _BUTTONS:
            class_select(classes, on_choose, "Another class")
        field = ui.input(placeholder="New class").props("maxlength=120 dense").classes("new-class")
        field.props["aria-label"] = "New class"

        async def add(event: events.GenericEventArguments) -> None:
            if name := str(event.args or "").strip():
                field.set_value("")
                await kit.finished(on_choose(name))

        field.on("keydown.enter", add, js_handler="(event) => emit(event.target.value)")

    async def _key(self, event: events.KeyEventArguments) -> None:
        held = event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt
        if not event.action.keydown or held:
            return
        if event.key == "u":
            await self.undo()
        else:
            await self._view.key(event.key.name)

    async def _heard(self, topic: str) -> None:
        if topic != f"set:{self.id}" or self.body.is_deleted:
            return
        try:
            await self._look()
            await self._view.refresh()
        except NotThere:  # another window removed the project
            ui.navigate.reload()


class _Card:
    """A group of like photographs, to be named together."""

    def __init__(self, view: _Groups, photos: list[Photo], guess: str) -> None:
        self._view, self._page, self.photos, self.guess = view, view.page, photos, guess
        self._shown = _THUMBNAILS
        with ui.element("section").classes("card stack").props("tabindex=-1") as self.element:
            with ui.element("h2"):
                self._title = ui.label()
            self._gallery = ImageGallery(
                "Photographs that are alike: a click takes one out", (), self._page.image,
                on_open=self._take_out, on_key=self._press, captions=False, side=88,
            )  # fmt: skip
            self._more = kit.action("", self._show_all, kind="quiet").props("dense align=left")
            self._buttons = ui.element("div").classes("line")
        self.element.on("focusin", lambda: view.activate(self))
        self.show()

    def show(self) -> None:
        """Show the photographs that are in it now, and the classes."""
        page = self._page
        self.photos = [photo for photo in self.photos if photo[0] in page.waiting]
        self._title.set_text(f"{counted(len(self.photos), 'photograph')} alike")
        self.element.props["aria-label"] = self._title.text
        self._gallery.show(self.photos[: self._shown])
        more = len(self.photos) - self._shown
        self._more.set_text(f"and {count(more)} more")
        self._more.set_visibility(more > 0)
        self.show_classes()

    def show_classes(self) -> None:
        """Show a button for each class."""
        self._buttons.clear()
        with self._buttons:
            self._page.class_buttons(self.name, self.guess)

    async def name(self, class_: str) -> None:
        """Give all photographs in it a class."""
        self._view.remove(self)
        await self._page.give(self.photos, class_, "group")
        await self._page.judge()

    def _take_out(self, at: int) -> None:
        del self.photos[at]
        self.show()

    def _press(self, key: str, at: int) -> None:
        if key == "f":
            self._page.go("like", self.photos[at][0])
        elif key == "Delete":
            self._take_out(at)

    def _show_all(self) -> None:
        self._shown = len(self.photos)
        self.show()


class _Groups:
    """Groups of like photographs, the purest first; keys name the one that is outlined."""

    def __init__(self, page: _Sort) -> None:
        self.page, self._cards = page, list[_Card]()
        self._number: int | None = None
        self._classes: Sequence[str] = ()  # those that have buttons
        self._active: _Card | None = None
        with page.body:
            kit.note("Name each group by a click or its class's key; a click on a photograph "
                     "takes it out. Space goes to the next group, U undoes.")  # fmt: skip
            with ui.element("div").classes("line no-wrap"):
                ui.label("Fewer groups").classes("note")
                self._slider = ui.slider(min=2, max=60, value=15).props("label")
                self._slider.props["aria-label"] = "Number of groups"
                self._slider.on("change", self._cut)
                ui.label("More groups").classes("note")
            self._place = ui.element("div").classes("cards groups")
            self._empty = ui.element("div")

    async def show(self) -> None:
        """Fetch the groups, and show those that are not in sight yet."""
        answer = await self.page.ask("groups", number=self._number, reserved=_RESERVED)
        if self._number is None:
            self._number = answer["number"]
            self._slider.props["max"] = max(4, min(4 * self._number, 240))
            self._slider.set_value(self._number)
        here = {name for card in self._cards for photo in card.photos for name in photo}
        for group in answer["groups"]:
            if len(self._cards) < _CARDS and group["photos"][0][0] not in here:
                self._cards.append(self._built(group["photos"], group["guess"]))
        if self._active not in self._cards:
            self.activate(self._cards[0] if self._cards else None)
        self._empty.clear()
        if not self._cards:
            with self._empty:
                kit.empty("All photographs are sorted, or set aside.")

    async def refresh(self) -> None:
        """Drop what was sorted, here or in another window, and fill up."""
        for card in list(self._cards):
            here = sum(photo[0] in self.page.waiting for photo in card.photos)
            if not here:
                self.remove(card)
            elif here < len(card.photos):
                card.show()
            elif self._classes != self.page.album.classes:
                card.show_classes()
        self._classes = self.page.album.classes
        await self.show()

    async def undone(self, photos: Sequence[Photo]) -> None:
        """Show the group again, the first."""
        self._cards.insert(0, self._built(photos, "", 0))

    async def key(self, key: str) -> None:
        """Name the outlined group, or go to the next."""
        card, class_ = self._active, class_of_key(key, self.page.album.classes)
        if card is not None and class_ is not None:
            await card.name(class_)
        elif card is not None and key == " ":
            at = self._cards.index(card) + 1
            self.activate(self._cards[at % len(self._cards)], seen=True)

    def activate(self, card: _Card | None, *, seen: bool = False) -> None:
        """Outline the group that keys name; bring it into sight."""
        if self._active is not None:
            self._active.element.classes(remove="active")
        self._active = card
        if card is not None:
            card.element.classes("active")
            if seen:
                ui.run_javascript(f"getHtmlElement({card.element.id}).focus()")

    def remove(self, card: _Card) -> None:
        """Take a group away that was named."""
        at = self._cards.index(card)
        self._cards.remove(card)
        card.element.delete()
        if self._active is card:
            self._active = None
            self.activate(self._cards[min(at, len(self._cards) - 1)] if self._cards else None)

    def _built(self, photos: Sequence[Photo], guess: str, at: int = -1) -> _Card:
        with self._place:
            card = _Card(self, [*photos], guess)
        card.element.move(target_index=at)
        return card

    async def _cut(self) -> None:
        self._number = int(self._slider.value)
        for card in self._cards:
            card.element.delete()
        self._cards.clear()
        self._active = None
        await self.show()


class _Asked(NamedTuple):
    """A question: a photograph, the guess, and why it is asked."""

    names: Photo
    why: str
    probability: float | None
    guess: str


class _Questions:
    """One photograph after another, each with the guess on a button."""

    def __init__(self, page: _Sort) -> None:
        self.page, self._queue, self._at = page, list[_Asked](), 0
        self._past = dict[str, _Asked]()  # answered or skipped here
        self._fetching = asyncio.Lock()
        with page.body, ui.element("div").classes("try"):
            self._image = ui.element("img").classes("photo")
            self._next = [ui.element("img").classes("ahead").props('alt=""') for _ in range(2)]
            with ui.element("div").classes("stack") as self._side:
                self._why = kit.note("")
                self._buttons = ui.element("div").classes("line answers")
                with ui.element("div").classes("line"):
                    for text, work in (
                        ("None of the classes (X)", partial(self._answer, ASIDE[0])),
                        ("Unclear (M)", partial(self._answer, ASIDE[1])),
                        ("Skip (Space)", self._skip), ("Undo (U)", page.undo),
                        ("Find like this (F)", self._like),
                    ):  # fmt: skip
                        button = kit.action(text, work, kind="quiet").props("dense")
                        button.on("mousedown", js_handler="(event) => event.preventDefault()")
        self._side.set_visibility(False)

    async def show(self) -> None:
        """Fetch questions, keeping the one in sight."""
        async with self._fetching:
            number = _FETCHED + len(self._past)
            fetched = [_Asked(**one) for one in await self.page.ask("next", count=number)]
            kept = self._queue[self._at : self._at + 1]
            held = {*self._past, *(one.names[0] for one in kept)}
            self._queue = kept + [one for one in fetched if one.names[0] not in held]
            self._at = 0
        self._show()

    async def refresh(self) -> None:
        """Drop what was sorted meanwhile; the classes may be others."""
        here = self._queue[self._at : self._at + 1]
        self._queue = [one for one in self._queue if one.names[0] in self.page.waiting]
        self._at = self._queue.index(here[0]) if here and here[0] in self._queue else 0
        self._show()

    async def key(self, key: str) -> None:
        """Answer, or move."""
        class_ = class_of_key(key, self.page.album.classes)
        if class_ is not None:
            await self._answer(class_)
        elif key in ("ArrowLeft", "ArrowRight"):
            self._at = max(0, min(self._at + (1 if key == "ArrowRight" else -1),
                                  len(self._queue) - 1))  # fmt: skip
            self._show()
        elif key in ("Enter", " ", "x", "m", "f") and self._queue:
            guess = self._queue[self._at].guess
            answers = {"Enter": guess, "x": ASIDE[0], "m": ASIDE[1]}
            if key in answers:
                await self._answer(answers[key])
            elif key == " ":
                await self._skip()
            else:
                self._like()

    async def undone(self, photos: Sequence[Photo]) -> None:
        """Ask about it again."""
        back = [self._past.pop(photo[0]) for photo in photos if photo[0] in self._past]
        self._queue[self._at : self._at] = back
        self._show()

    def _show(self) -> None:
        if self._side.is_deleted:
            return
        self._side.set_visibility(bool(self._queue))
        for element, one in zip(
            (self._image, *self._next), [*self._queue[self._at : self._at + 3], None, None, None],
            strict=False,
        ):  # fmt: skip
            element.set_visibility(one is not None)
            if one is not None:
                image = self.page.image(one.names, large=True)
                element.props["src"] = kit.rooted(image.src)
        if not self._queue:
            self._buttons.clear()
            return
        one = self._queue[self._at]
        self._image.props["alt"] = one.names[0].rpartition("/")[2]
        why = {"typical": "typical of many", "doubtful": "between two classes",
               "random": "drawn at random, to judge by"}[one.why]  # fmt: skip
        self._why.set_text(f"{one.names[0].rpartition('/')[2]}: {why}")
        self._buttons.clear()
        with self._buttons:
            share = f", {100 * one.probability:.0f}%" if one.probability else ""
            self.page.class_buttons(self._answer, one.guess, f"{share} (Enter)")

    def _pass(self) -> _Asked | None:
        """Take the photograph in sight away; the next is there at once."""
        if not self._queue:
            return None
        one = self._queue.pop(self._at)
        self._past[one.names[0]] = one
        self._at = min(self._at, max(0, len(self._queue) - 1))
        self._show()
        return one

    async def _answer(self, answer: str) -> None:
        if answer and (one := self._pass()):
            await self.page.give([one.names], answer, one.why)
            await self._fill()

    async def _skip(self) -> None:
        self._pass()
        await self._fill()

    async def _fill(self) -> None:
        if len(self._queue) <= _LEFT and not self._fetching.locked():
            await self.show()
            await self.page.judge()

    def _like(self) -> None:
        if self._queue:
            self.page.go("like", self._queue[self._at].names[0])


class _Grid:
    """Photographs to choose from, and to name together: those thought to be of a class, say."""

    def __init__(self, page: _Sort, kind: str, of: str = "") -> None:
        if kind not in _OTHERS:
            raise NotThere("There is no such view", "Choose another one.")
        self.page, self._kind, self._of = page, kind, of
        self._photos, self._captions = list[Photo](), dict[str, str]()
        title, words = _OTHERS[kind]
        with page.body:
            kit.heading(f"{title} {safe(of, 40)}" if kind == "thought" else title)
            kit.note(words)
            self.place = ui.element("div")
            self._bar = ui.element("div").classes("line answers")
            self._gallery = ImageGallery(
                "Photographs to name", (), self._described, on_choose=self._show_bar,
                on_open=self._open, on_key=self._press, captions=kind == "doubts",
            )  # fmt: skip
            self._large = ui.element("div")

    async def show(self) -> None:
        """Fetch the photographs."""
        about = {"thought": {"class_": self._of}, "like": {"name": self._of}}
        found = await self.page.ask(self._kind, **about.get(self._kind, {}))
        if self._kind == "doubts":
            self._captions = {one["names"][0]: f"{one['label']}; probably {one['guess']}"
                              for one in found}  # fmt: skip
            found = [one["names"] for one in found]
        self.put(found)

    async def refresh(self) -> None:
        """Drop what is not there any more, under the name that it had."""
        self.put(self._photos)

    def put(self, photos: Sequence[Photo]) -> None:
        """Show photographs."""
        page = self.page
        here = page.tokens if self._kind in ("doubts", "map") else page.waiting
        self._photos = [photo for photo in photos if photo[0] in here]
        self._gallery.show(self._photos)
        self._show_bar()

    async def undone(self, photos: Sequence[Photo]) -> None:
        """Show them again, first."""
        self.put([*photos, *(photo for photo in self._photos if photo not in photos)])

    async def key(self, key: str) -> None:
        """Keys are pressed on photographs."""

    def _described(self, photo: Photo) -> GalleryImage:
        return self.page.image(photo, caption=self._captions.get(photo[0], ""))

    def _show_bar(self) -> None:
        chosen = len(self._gallery.chosen)
        self._bar.clear()
        with self._bar:
            if not self._photos:
                kit.empty("Nothing to see here now.")
                return
            ui.label(f"{counted(chosen, 'photograph')} chosen").props('role="status"')
            kit.action("Choose all", self._choose_all).props("dense")
            if chosen:
                self.page.class_buttons(self._give, self._of if self._kind == "thought" else "")
                for answer in ASIDE if self._kind != "aside" else ():
                    kit.action(answer.capitalize(), partial(self._give, answer), kind="quiet")
            if chosen == 1:
                kit.action("Find like this", self._like, kind="quiet")

    def _choose_all(self) -> None:
        self._gallery.choose(range(len(self._photos)))
        self._show_bar()

    async def _give(self, answer: str) -> None:
        photos = [self._photos[at] for at in self._gallery.chosen]
        self.put([photo for photo in self._photos if photo not in photos])
        await self.page.give(photos, answer, self._kind)
        await self.page.judge()

    def _like(self) -> None:
        self.page.go("like", self._photos[self._gallery.chosen[0]][0])

    async def _press(self, key: str, at: int) -> None:
        class_ = class_of_key(key, self.page.album.classes)
        if key == "f":
            self.page.go("like", self._photos[at][0])
        elif class_ is not None or key in ("x", "m"):
            if not self._gallery.chosen:
                self._gallery.choose([at])
            await self._give(class_ or ASIDE[key == "m"])

    def _open(self, at: int) -> None:
        async def give(at: int, class_: str | None) -> None:
            self._gallery.choose([at])
            await self._give(class_ or ASIDE[0])

        self._large.clear()
        with self._large:
            ImageViewer(
                lambda: len(self._photos), lambda at: self.page.image(self._photos[at], large=True),
                self.page.album.classes, give, remove=ASIDE[0].capitalize(), undo=self.page.undo,
            ).open(at)  # fmt: skip


class _Map:
    """A map on which like photographs are close; those that are drawn around are named together."""

    def __init__(self, page: _Sort) -> None:
        self._grid, self._found = _Grid(page, "map"), list[Photo]()

    async def show(self) -> None:
        """Draw the map."""
        places = await self._grid.page.ask("map")
        self._found = [one["names"] for one in places]
        self._grid.put([])
        with self._grid.place:
            chart = map_chart([(*one["at"], one["class"]) for one in places], self._choose)
        chart.run_chart_method("dispatchAction", {
            "type": "takeGlobalCursor", "key": "brush",
            "brushOption": {"brushType": "polygon", "brushMode": "single"},
        })  # fmt: skip

    async def refresh(self) -> None:
        """Draw it with the classes now."""
        await self._grid.refresh()

    async def undone(self, photos: Sequence[Photo]) -> None:
        """Show them again, first."""
        await self._grid.undone(photos)

    async def key(self, key: str) -> None:
        """Keys are pressed on photographs."""

    def _choose(self, chosen: Sequence[int]) -> None:
        self._grid.put([self._found[at] for at in chosen if at < len(self._found)])
