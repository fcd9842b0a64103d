"""Sorting a heap with few clicks: groups to name, questions, and how good it is by now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from nicegui import background_tasks, events, ui

from opsin.core.errors import OpsinError, SourceError
from opsin.core.format import count, counted
from opsin.studio.context import Studio
from opsin.studio.datasets.album import OUT, UNSORTED, Album
from opsin.studio.errors import NotThere
from opsin.studio.pages.page import Page
from opsin.studio.people import require, visitor
from opsin.studio.projects import Project
from opsin.studio.ui import gallery, kit
from opsin.studio.ui.charts import map_chart
from opsin.studio.ui.kit import Waiting
from opsin.studio.ui.layout import Frame, address, offer_training, page
from opsin.studio.words import safe

#: A photograph: the names of its file, and of its copies'.
Photo = Sequence[str]
#: The photograph's ``names``, ``why`` it is asked, and the ``guess`` with its ``probability``.
Question = Mapping[str, Any]
# What is said of a photograph instead of a class, by its key; and keys where one is named.
_ASIDE: Final = {"x": "none of the classes", "m": "unclear"}
_KEYS: Final = (
    ("1, 2, …", "class"),
    *((key.upper(), answer) for key, answer in _ASIDE.items()),
    ("F", "find like this"),
)

# Groups in sight, those of them that nobody else is asked about, and photographs of each.
_CARDS, _RESERVED, _THUMBNAILS = 12, 3, 12
# Questions that are fetched, and how few are left then.
_FETCHED, _LEFT = 20, 10
# Classes up to which each has a button, and photographs of each that are enough to train on.
_BUTTONS, _ENOUGH = 12, 10
_WHY: Final = {
    "typical": "typical of many",
    "doubtful": "between two classes",
    "random": "drawn at random, to measure by",
}
# Focuses an element, so that it is in sight, and says whether it was.
_SHOW: Final = """const card = getHtmlElement(%d), {top, bottom} = card.getBoundingClientRect();
card.focus(); return bottom > 0 && top < innerHeight"""
_GRIDS: Final = {
    "doubts": ("Look again", "The other labels speak against the labels of these."),
    "map": ("Map", "Like photographs are close. Draw around some, then name them."),
    "aside": ("Set aside", "Unclear, or of none of the classes: these are not asked again."),
    "thought": ("Probably", "The least sure come first. Choose those that are right."),
    "like": ("Find like this", "Those most like it come first."),
}


@Page("/projects/{project}/sort")
async def sort(studio: Studio, project: str, view: str = "groups", of: str = "") -> None:
    """Build the page with one of its views; ``of`` is the class or photograph that it is about.

    Groups are of the tray, or of a class to split.
    """
    known = studio.projects.get(project)
    with page(studio, known.name, project=known, here="photos") as frame:
        require("labeller")
        if known.dataset is None or not known.dataset.made_here:
            raise SourceError(
                "These photographs belong to their source, which is never changed",
                "Make a project here and add them to it.",
            )
        content = _Sort(studio, known, frame, view, of)
        await ui.context.client.connected()
        await content.start()


class _Sort:
    """The page of one window, kept up to date with all others."""

    album: Album

    def __init__(self, studio: Studio, project: Project, frame: Frame, view: str, of: str) -> None:
        self._studio, self.id, self._frame, self._here = studio, project.id, frame, view
        self.splits = of if view == "groups" else ""  # a class; else the tray is sorted
        self._window = f"{visitor.get().id}/{ui.context.client.id}"
        self.tokens, self.waiting = dict[str, str](), set[str]()
        # How to take back what was done here, and the photographs that it was about.
        self._done: list[tuple[Callable[[], Awaitable[object]], Sequence[Photo]]] = []
        self._saving, self._busy = asyncio.Lock(), Waiting("Looking at the photographs …")
        self._nav = ui.element("nav").classes("views").props('aria-label="Ways to sort"')
        self._figure, self._status = kit.StatusLine(), kit.StatusLine()
        with ui.element("div").classes("stack sorting") as self._body:
            self._view: _Groups | _Questions | _Grid
            if view in ("groups", "questions"):
                self._view = _Groups(self) if view == "groups" else _Questions(self)
            else:
                self._view = _Grid(self, view, of)
            self._show_keys = kit.key_list([*self._view.keys, ("U", "undo")])
        ui.keyboard(self._key, ignore=["input", "select", "textarea"])
        studio.changed.subscribe(self._refresh, f"set:{self.id}")
        self._leave = partial(studio.sorting.leave, self.id, self._window)
        ui.context.client.on_delete(self._leave)  # a lost connection may come back

    async def start(self) -> None:
        # Space is a key here, and does not scroll.
        ui.run_javascript(
            "addEventListener('keydown', (event) => event.key === ' ' && "
            "event.target.matches('body, .card') && event.preventDefault())"
        )
        await self._look()
        with self._status.errors():
            with self._busy:
                await self._view.show()
            await self.judge()

    async def ask(self, do: str, *, who: str = "", **asked: object) -> Any:
        tell, who = self._busy.tell, who or self._window
        return await self._studio.sorting.ask(self.id, do, who, on_progress=tell, **asked)

    async def _look(self) -> None:
        """Take in the files and classes as they are now."""
        album = await self._studio.albums.open(self.id, at_once=True)
        if self._body.is_deleted:
            return
        self.album, names = album, album.contents.names
        self.tokens = dict(zip(names, album.contents.tokens, strict=True))
        label = album.classes.index(self.splits) if self.splits in album.classes else OUT
        label = label if self.splits else UNSORTED
        self.waiting = {names[at] for at in album.of(label).tolist()}
        enough = len(album.classes) > 1 and min(album.counts.values()) >= _ENOUGH
        offer_training(self._frame, self.id, album.why_not_trainable(), main=enough)
        self._nav.clear()
        with self._nav:
            for view in ("groups", "questions"):
                link = ui.link(view.capitalize(), address(self.id, "sort", view=view))
                here = view == self._here and not self.splits
                link.props('aria-current="page"' if here else "").on("click", self._leave)
            with (
                kit.action("More views", None, kind="quiet").props("icon-right=expand_more"),
                ui.menu(),
            ):
                for view in ("doubts", "map", "aside"):
                    ui.menu_item(_GRIDS[view][0], partial(self.go, view))
                for name in album.classes[:_BUTTONS]:
                    ui.menu_item(f"Probably {safe(name, 40)}", partial(self.go, "thought", name))
            to = f"of {safe(self.splits, 40)}" if self.splits else "to sort"
            kit.note(f"{counted(len(self.waiting), 'photograph')} {to}")

    def go(self, view: str, of: str = "") -> None:
        """Go to another view, of a class or a photograph; it may ask what this one did."""
        background_tasks.create(self._leave(), name="leave")
        ui.navigate.to(address(self.id, "sort", view=view, of=self.tokens.get(of, of)))

    async def judge(self) -> None:
        """Say how good what the labels teach is by now, and what more would bring."""
        words = (await self.ask("state"))["words"]
        self._figure.say(words or "Name a few groups, or answer questions.")

    def image(self, photo: Photo, words: str = "") -> gallery.GalleryImage:
        """A photograph, with words about it."""
        title, source = photo[0].rpartition("/")[2], f"{self.id}/{self.tokens.get(photo[0], '')}"
        return gallery.GalleryImage(
            f"/thumbnails/{source}",
            ", ".join(filter(None, [title, words])),
            words or title,
            large=f"/originals/{source}",
            title=title,
        )

    async def give(self, photos: Sequence[Photo], answer: str, how: str) -> None:
        """Move photographs to a class, a new one too; or set them aside, where they are."""
        names = [name for photo in photos for name in photo if name in self.tokens]
        if not names:
            return
        ask = partial(self.ask, "label", names=names, how=how, who=visitor.get().name)
        undo: Callable[[], Awaitable[object]] = partial(ask, answer="")
        albums, is_aside = self._studio.albums, answer in _ASIDE.values()
        try:
            async with self._saving:
                are_waiting = self.waiting.issuperset(names)
                if not is_aside:
                    album = await albums.open(self.id, at_once=are_waiting and not self.splits)
                    place = {name: at for at, name in enumerate(album.contents.names)}
                    chosen = [place[name] for name in names if name in place]
                    text, when = await albums.move(album, chosen, answer)
                    undo = partial(albums.undo, self.id, when, earlier=True)
                elif are_waiting:
                    await ask(answer=answer)
                    text = f"{counted(len(photos), 'photograph')}: {answer}"
                else:  # the folders are the truth
                    raise SourceError(
                        "A photograph of a class cannot be set aside",
                        "Remove it on the page of the photographs.",
                    )
        except OpsinError as error:
            self._status.fail(error)
            await self._view.back(photos)
            return
        self._done.append((undo, photos))
        # Who said it, before the change is heard of; the photographs have moved already.
        said = None if is_aside else asyncio.ensure_future(ask(answer=answer))
        if self._here != "questions":  # which have a button for it, and more buttons below
            self._frame.undo.offer(text, self.undo)
        self._studio.changed.emit(f"set:{self.id}")
        with self._status.errors():
            if said is not None:
                await said

    async def add_class(self, name: str) -> bool:
        """Make a class if there is none of this name; return whether it is there now."""
        with self._status.errors():
            if name not in self.album.classes:
                await self._studio.albums.add_class(self.id, name)
                await self._look()
        return name in self.album.classes

    async def undo(self) -> None:
        """Take back the last answer of this window."""
        self._frame.undo.clear()
        async with self._saving:
            with self._status.errors():
                if not self._done:
                    self._status.say("There is nothing to undo.")
                    return
                take_back, photos = self._done.pop()
                try:
                    await take_back()
                except OpsinError as error:
                    if not isinstance(error, SourceError):  # that was taken back elsewhere
                        self._done.append((take_back, photos))
                    raise
                await self._look()
                await self._view.back(photos)
        self._studio.changed.emit(f"set:{self.id}")

    async def _key(self, event: events.KeyEventArguments) -> None:
        held = event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt
        if event.action.keydown and not held:
            key = event.key.name.lower() if len(event.key.name) == 1 else event.key.name
            if key == "?":
                self._show_keys()
            else:
                await (self.undo() if key == "u" else self._view.key(key))

    async def _refresh(self) -> None:
        if not self._body.is_deleted:
            await self._look()
            await self._view.refresh()


def _unfocused(button: ui.button) -> ui.button:
    """Let a button that is clicked not take the focus: Enter means the guess, not it again."""
    return button.on("mousedown", js_handler="(event) => event.preventDefault()")


class _ClassButtons:
    """A button for each class, that of the guess first, and a field for a new one."""

    def __init__(self, page: _Sort, on_choose: Callable[[str], Any]) -> None:
        self._page, self._on_choose, self.guess = page, on_choose, ""
        self._shown: object = None
        with ui.element("div").classes("line"):
            self._buttons = ui.element("div").style("display: contents")
            # What is typed stays, whatever changes meanwhile.
            field = ui.input(placeholder="New class").props("maxlength=120 dense")
        field.classes("new-class").props["aria-label"] = "New class"

        async def add(event: events.GenericEventArguments) -> None:
            name = str(event.args or "").strip()
            if name and await page.add_class(name):
                field.set_value("")
                await kit.finished(on_choose(name))

        field.on("keydown.enter", add, js_handler="(event) => emit(event.target.value)")

    def show(self, guess: str = "", words: str = "") -> None:
        """Show the classes there are, and the guess, with words, if it is one of them."""
        classes = self._page.album.classes
        self.guess = guess if guess in classes else ""
        if self._shown == (shown := (self.guess, words, classes)):
            return
        self._shown = shown
        self._buttons.clear()
        with self._buttons:
            others = [name for name in classes[:_BUTTONS] if name != self.guess]
            for name in filter(None, [self.guess, *others]):
                kind: kit.Kind = "primary" if name == self.guess else "plain"
                text = safe(name, 30) + (words if name == self.guess else "")
                with _unfocused(kit.action(text, partial(self._on_choose, name), kind=kind)):
                    key = gallery.key_of_class(classes.index(name))
                    ui.label(key.upper()).classes("key").props('aria-hidden="true"')
            if len(classes) > _BUTTONS:
                gallery.class_select(classes, self._on_choose, "Another class")


class _Card:
    """A group of like photographs, to be named together."""

    def __init__(self, view: _Groups, photos: Sequence[Photo], guess: str) -> None:
        self._view, self._page, self.photos = view, view.page, [*photos]
        self._shown = _THUMBNAILS
        with ui.element("div").classes("card stack") as self.element:
            self.element.props("tabindex=-1 role=group")
            with ui.element("h2"):
                self._title = ui.label()
            self._gallery = gallery.ImageGallery(
                "Photographs that are alike: a click takes one out",
                (),
                self._page.image,
                on_open=lambda _, at: self._take_out(at),
                on_key=self._press,
                captions=False,
                side=88,
            )
            self._more = kit.action("", self._show_all, kind="quiet").props("dense")
            self.buttons = _ClassButtons(self._page, self.name)
        self.element.on("focusin", lambda: view.activate(self))
        self.buttons.show(guess)
        self.show()

    def show(self) -> None:
        self.photos = [photo for photo in self.photos if photo[0] in self._page.waiting]
        self._title.set_text(f"{counted(len(self.photos), 'photograph')} alike")
        self.element.props["aria-label"] = self._title.text
        self._gallery.show(self.photos[: self._shown])
        more = len(self.photos) - self._shown
        self._more.set_text(f"and {count(more)} more")
        self._more.set_visibility(more > 0)
        self.buttons.show(self.buttons.guess)

    async def name(self, class_: str) -> None:
        self._view.remove(self)
        if class_ != self._page.splits:  # which they have
            await self._page.give(self.photos, class_, "group")
            await self._page.judge()

    def _take_out(self, at: int) -> None:
        del self.photos[at]
        self.show()

    def _press(self, key: str, at: int) -> None:
        if key == "f":
            self._page.go("like", self.photos[at][0])

    def _show_all(self) -> None:
        self._shown = len(self.photos)
        self.show()


class _Groups:
    """Groups of like photographs, the purest first; keys name the one that is outlined."""

    keys: Final = (("1, 2, …", "class of the outlined group"), ("Space", "next group"), _KEYS[-1])

    def __init__(self, page: _Sort) -> None:
        self.page, self._cards = page, list[_Card]()
        self._number: int | None = None
        self._active: _Card | None = None
        if page.splits:
            kit.heading(f"Split {safe(page.splits, 40)}")
        kit.note(
            "A click on a class, or its key, names a group; a click on a photograph takes it out."
        )
        with ui.element("div").classes("line no-wrap"):
            kit.note("Fewer groups")
            self._slider = ui.slider(min=2, max=60, value=15).on("change", self._cut)
            self._slider.props["aria-label"] = "Number of groups"
            kit.note("More groups")
        self._place = ui.element("div").classes("cards groups")
        self._end = kit.note("")

    async def show(self) -> None:
        """Fetch groups, and show as many as are in sight."""
        class_ = self.page.splits
        reserved = 0 if class_ else _RESERVED
        answer = await self.page.ask(
            "groups", number=self._number, reserved=reserved, class_=class_
        )
        if self._number is None:
            self._number = answer["number"]
            self._slider.props["max"] = max(4, min(4 * self._number, 240))
            self._slider.set_value(self._number)
        card_of = {photo[0]: card for card in self._cards for photo in card.photos}
        for group in answer["groups"]:
            card = next((card_of[one[0]] for one in group["photos"] if one[0] in card_of), None)
            if card is not None:
                card.buttons.show(group["guess"])
            elif len(self._cards) < _CARDS:
                self._add(group["photos"], group["guess"])
        more = answer["all"] - len(self._cards)
        text = f"{counted(more, 'more group')} after these." if more > 0 else ""
        self._end.set_text(text if self._cards else "All photographs are sorted, or set aside.")
        if self._active is None:
            self.activate(next(iter(self._cards), None))

    async def refresh(self) -> None:
        for card in list(self._cards):
            here = sum(photo[0] in self.page.waiting for photo in card.photos)
            if not here:
                self.remove(card)
            elif here < len(card.photos):
                card.show()
        await self.show()

    async def back(self, photos: Sequence[Photo]) -> None:
        self._add(photos, "", 0)

    async def key(self, key: str) -> None:
        class_ = gallery.class_of_key(key, self.page.album.classes)
        if self._active is None or (class_ is None and key != " "):
            return
        at = (self._cards.index(self._active) + (key == " ")) % len(self._cards)
        # A group that was scrolled away is shown first, and named by the next key.
        seen = await ui.run_javascript(_SHOW % self._cards[at].element.id)
        if class_ is not None and seen and self._active is not None:
            await self._active.name(class_)

    def activate(self, card: _Card | None) -> None:
        """Let keys name a group."""
        if self._active is not None:
            self._active.element.classes(remove="active")
        self._active = card
        if card is not None:
            card.element.classes("active")

    def remove(self, card: _Card) -> None:
        at = self._cards.index(card)
        self._cards.remove(card)
        if self._active is card:
            self.activate(self._cards[min(at, len(self._cards) - 1)] if self._cards else None)
        card.element.delete()

    def _add(self, photos: Sequence[Photo], guess: str, at: int = -1) -> None:
        with self._place:
            card = _Card(self, photos, guess)
        card.element.move(target_index=at)
        self._cards.insert(len(self._cards) if at < 0 else at, card)

    async def _cut(self) -> None:
        self._number, self._active = int(self._slider.value), None
        self._cards.clear()
        self._place.clear()
        await self.show()


class _Questions:
    """One photograph after another, each with the guess on a button."""

    keys: Final = (("Enter", "agree"), *_KEYS, ("Space", "skip"), ("Arrows", "another photograph"))

    def __init__(self, page: _Sort) -> None:
        self.page, self._queue, self._at = page, list[Question](), 0
        self._past, self._skipped = dict[str, Question](), set[str]()  # by their first names
        self._fetching = asyncio.Lock()
        self._end = kit.note("")
        with ui.element("div").classes("try") as self._place:
            self._image = ui.element("img").classes("photo")
            kit.sharpen(self._image)
            self._next = [ui.element("img").classes("ahead").props('alt=""') for _ in range(2)]
            with ui.element("div").classes("stack answers"):
                self._why = kit.note("")
                self._buttons = _ClassButtons(page, self._answer)
                with ui.element("div").classes("line"):
                    for key, words in self.keys[2:-1]:
                        press = partial(self.key, key.lower().replace("space", " "))
                        text = f"{words.capitalize()} ({key})"
                        _unfocused(kit.action(text, press, kind="quiet"))
                    _unfocused(kit.action("Undo (U)", page.undo, kind="quiet"))
        self._place.set_visibility(False)

    async def show(self) -> None:
        """Fetch questions, and keep the one in sight."""
        async with self._fetching:
            unsaved = len(self._past.keys() & self.page.waiting)
            fetched = await self.page.ask("next", count=_FETCHED + unsaved)
            kept = self._queue[self._at : self._at + 1]
            held = {*self._past, *(one["names"][0] for one in kept)}
            new = [one for one in fetched if one["names"][0] not in held]
            # Those at random come again: without them nothing is measured.
            new.sort(key=lambda one: one["why"] != "random" and one["names"][0] in self._skipped)
            self._queue, self._at = kept + new, 0
        self._show()

    async def refresh(self) -> None:
        before = self._queue[: self._at]
        self._queue = [one for one in self._queue if one["names"][0] in self.page.waiting]
        self._at = sum(one["names"][0] in self.page.waiting for one in before)
        self._show()

    async def back(self, photos: Sequence[Photo]) -> None:
        again = [self._past.pop(photo[0]) for photo in photos if photo[0] in self._past]
        self._queue[self._at : self._at] = again
        self._show()

    async def key(self, key: str) -> None:
        class_ = gallery.class_of_key(key, self.page.album.classes)
        if not self._queue:
            return
        one = self._queue[self._at]
        if key in ("ArrowLeft", "ArrowRight"):
            self._at += 1 if key == "ArrowRight" else -1
            self._show()
        elif key == "f":
            self.page.go("like", one["names"][0])
        elif answer := class_ or (self._buttons.guess if key == "Enter" else _ASIDE.get(key)):
            await self._answer(answer)
        elif key == " ":
            self._skipped.add(one["names"][0])
            self._queue.append(self._queue.pop(self._at))
            self._show()

    async def _answer(self, answer: str) -> None:
        """Go on at once, then keep the answer."""
        one = self._queue.pop(self._at)
        self._past[one["names"][0]] = one
        self._show()
        await self.page.give([one["names"]], answer, one["why"])
        if len(self._queue) <= _LEFT and not self._fetching.locked():
            await self.show()
            await self.page.judge()

    def _show(self) -> None:
        self._at = max(0, min(self._at, len(self._queue) - 1))
        shown = self._queue[self._at : self._at + 3]
        for element, one in zip((self._image, *self._next), shown, strict=False):
            image = self.page.image(one["names"])
            element.props.update({"src": kit.rooted(image.large)})
        self._place.set_visibility(bool(shown))
        nothing = "There is nothing to ask."
        if self._fetching.locked():
            nothing = "Looking for questions …"
        elif self.page.waiting:
            nothing += " The rest was set aside, or is sorted in another window."
        self._end.set_text("" if shown else nothing)
        if shown:
            one, title = shown[0], shown[0]["names"][0].rpartition("/")[2]
            self._image.props["alt"] = title
            self._why.set_text(f"{title}: {_WHY[one['why']]}")
            share = f", {100 * one['probability']:.0f}%" if one["probability"] else ""
            self._buttons.show(one["guess"], f"{share} (Enter)")


class _Grid:
    """Photographs to choose from, and to name together: those thought to be of a class, say."""

    keys: Final = (*gallery.GALLERY_KEYS, *_KEYS)

    def __init__(self, page: _Sort, kind: str, of: str) -> None:
        if kind not in _GRIDS:
            raise NotThere("There is no such view", "Go back to the photographs.")
        self._page, self._kind, self._of = page, kind, of
        self._photos, self._words, self._found = list[Photo](), dict[str, str](), False
        title, words = _GRIDS[kind]
        kit.heading(f"{title} {safe(of, 40)}" if kind == "thought" else title)
        kit.note(words)
        self._place = ui.element("div")
        self._none = kit.note("")
        with ui.element("div").classes("line answers") as self._bar:
            self._count = ui.label().props('role="status"')
            kit.action("Choose all", lambda: self._put(self._photos, every=True))
            with ui.element("div").style("display: contents") as self._answers:
                self._buttons = _ClassButtons(page, self._give)
                for answer in _ASIDE.values() if kind not in ("aside", "doubts") else ():
                    kit.action(answer.capitalize(), partial(self._give, answer), kind="quiet")
            self._like = kit.action("Find like this", self._find_like, kind="quiet")
        self._bar.set_visibility(False)
        self._gallery = gallery.ImageGallery(
            "Photographs to name",
            (),
            lambda photo: page.image(photo, self._words[photo[0]]),
            on_choose=self._show_bar,
            on_open=self._enlarge,
            on_key=self._press,
            captions=kind == "doubts",
        )

    async def show(self) -> None:
        page, of = self._page, self._of
        name = next((name for name, token in page.tokens.items() if token == of), "")
        about = {"thought": {"class_": of}, "like": {"name": name}}.get(self._kind, {})
        found = await page.ask(self._kind, **about)
        self._words = {one["names"][0]: one["words"] for one in found}
        photos, self._found = [one["names"] for one in found], True
        if self._kind != "map":
            self._put(photos)
            return
        self._place.clear()
        with self._place:
            points = [(*one["at"], one["words"]) for one in found]
            map_chart(points, lambda chosen: self._put([photos[at] for at in chosen], every=True))

    async def refresh(self) -> None:
        if self._found:
            self._put(self._photos)

    async def back(self, photos: Sequence[Photo]) -> None:
        self._put([*photos, *(photo for photo in self._photos if photo not in photos)])
        if self._kind == "map":
            await self.show()  # in their old colour

    async def key(self, key: str) -> None:
        """Keys are pressed on photographs."""

    def _put(self, photos: Sequence[Photo], *, every: bool = False) -> None:
        here = self._page.tokens if self._kind in ("doubts", "map") else self._page.waiting
        self._photos = [photo for photo in photos if photo[0] in here]
        self._gallery.show(self._photos)
        self._gallery.choose(range(len(self._photos)) if every else ())
        self._show_bar()

    def _show_bar(self) -> None:
        chosen = len(self._gallery.chosen)
        nothing = not self._photos and self._kind != "map"
        self._none.set_text("Nothing is here now." if nothing else "")
        self._bar.set_visibility(bool(self._photos))
        self._count.set_text(f"{counted(chosen, 'photograph')} chosen")
        self._answers.set_visibility(chosen > 0)
        self._like.set_visibility(chosen == 1)
        self._buttons.show(self._of if self._kind == "thought" else "")

    def _find_like(self) -> None:
        self._page.go("like", self._photos[self._gallery.chosen[0]][0])

    async def _give(self, answer: str, photos: Sequence[Photo] = ()) -> None:
        photos = photos or [self._photos[at] for at in self._gallery.chosen]
        self._put([photo for photo in self._photos if photo not in photos])
        await self._page.give(photos, answer, self._kind)
        if self._kind == "map":
            await self.show()  # in their new colour
        await self._page.judge()

    async def _press(self, key: str, at: int) -> None:
        class_ = gallery.class_of_key(key, self._page.album.classes)
        if key == "f":
            self._page.go("like", self._photos[at][0])
        elif answer := class_ or _ASIDE.get(key):
            if at not in self._gallery.chosen:
                self._gallery.choose([at])
            await self._give(answer)

    def _enlarge(self, shown: gallery.ImageGallery, at: int) -> None:
        def give(photo: Photo, class_: str | None) -> Awaitable[None]:
            return self._give(class_ or _ASIDE["x"], [photo])

        # The page's own key undoes.
        classes, remove = self._page.album.classes, "None of the classes"
        gallery.ImageViewer(shown, at, classes, give, remove=remove)
