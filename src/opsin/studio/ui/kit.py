"""Buttons, messages, questions, progress and figures, the same on every page."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal

from nicegui import Client, Event, events, ui

from opsin.core.errors import MovedError, OpsinError, StorageError
from opsin.core.format import about
from opsin.core.glossary import Term, find_term
from opsin.studio.errors import DiskFull
from opsin.studio.image_routes import HELP
from opsin.studio.people import Role, why_not
from opsin.studio.words import safe

Handler = Callable[..., Awaitable[object] | object]
#: The page's main button, an ordinary one, one without a border, and one that removes something.
Kind = Literal["primary", "plain", "quiet", "danger"]

#: What an unexpected error is called, without paths or traceback.
FAULT: Final = "Something went wrong in the studio. Reload the page; its terminal has the details."
_MESSAGE_MOST: Final = 600


def action(
    text: str,
    on_click: Handler | None,
    *,
    kind: Kind = "plain",
    icon: str | None = None,
    off: str = "",
    needs: Role = "viewer",
) -> ui.button:
    """A button for who has a role; ``off`` is another reason why it cannot be used now."""
    off = off or why_not(needs)
    button = ui.button(safe(text, 120), on_click=on_click, color=None, icon=icon)
    button.props("unelevated" if kind in ("primary", "plain") else "flat").classes(kind)
    if off:
        with button.props("disable"):
            ui.tooltip(safe(off))
    return button


def icon_action(icon: str, label: str, on_click: Handler | None = None) -> ui.button:
    """A round button with an icon alone; the label is read out and shown on hover."""
    button = ui.button(on_click=on_click, color=None, icon=icon).props("flat round dense")
    button.props["aria-label"] = safe(label)
    with button.classes("quiet"):
        ui.tooltip(safe(label))
    return button


def rooted(path: str) -> str:
    """An address for what does not add the studio's sub-path itself, as ui.link and ui.image do."""
    client = next(iter(Client.instances.values()))  # the sub-path is the same for all
    root = client.request.scope.get("root_path", "")
    return f"{root}{path}" if path.startswith("/") else path


def link_button(
    text: str, address: str, *, kind: Kind = "plain", icon: str | None = None
) -> ui.button:
    """A link that looks like a button, for the next page."""
    button = action(text, None, kind=kind, icon=icon)
    button.props["href"] = rooted(address)
    return button


def sharpen(image: ui.element, below: int = 200) -> None:
    """Enlarge an image without smoothing, if its longer side has fewer pixels than ``below``."""
    image.on(
        "load",
        js_handler="({target}) => target.classList.toggle('pixel', "
        f"Math.max(target.naturalWidth, target.naturalHeight) < {below})",
    )


def word(text: str, term: Term | None = None) -> ui.element:
    """A word, with a card where the glossary explains it (default: what it has under the text)."""
    term = term or find_term(text)
    if term is None:
        return ui.label(safe(text))
    with ui.element("button").classes("term").props('type="button"') as button:
        ui.label(safe(text))
        with ui.menu().props('max-width="360px" role=dialog').classes("term-card") as card:
            card.props["aria-label"] = term.title
            ui.label(term.title).classes("text-weight-bold")
            ui.label(term.text)
            ui.link("More", f"{HELP}/reference/glossary.html#{term.key}", new_tab=True)
    return button


def heading(text: str, level: Literal[1, 2, 3] = 2) -> ui.element:
    """A heading, with a card where the glossary explains its words."""
    with ui.element(f"h{level}") as element:
        word(text)
    return element


def rename_in_place(
    label: ui.label, name: Callable[[], str], rename: Callable[[str], Awaitable[object]]
) -> None:
    """Let a click on a label edit the name: Enter keeps it, Escape does not."""
    assert label.parent_slot is not None
    with label.parent_slot:
        field = ui.input().props("dense maxlength=200").style("width: 240px; max-width: 100%")
    field.props("aria-label=Name").set_visibility(False)
    label.classes("in-place").props('role="button" tabindex="0" title="Rename"')
    label.bind_visibility_from(field, "visible", backward=lambda is_edited: not is_edited)

    def edit() -> None:
        field.set_value(name())
        field.set_visibility(True)
        field.run_method("focus")

    async def keep(event: events.GenericEventArguments) -> None:
        text, key = event.args
        field.set_visibility(False)
        if key:  # a click has the focus where it was
            label.run_method("focus")
        if key != "Escape" and (text := text.strip()) and text != name():
            await rename(text)

    for key in ("click", "keydown.enter", "keydown.space.prevent"):
        label.on(key, edit)
    # The value at that moment: what was typed last may still be on its way.
    field.on(
        "blur",
        keep,
        js_handler="({target}) => { emit([target.value, target.dataset.key ?? ''"
        "]); delete target.dataset.key }",
    )
    for key in ("keydown.enter", "keydown.escape"):
        field.on(key, js_handler="({target, key}) => { target.dataset.key = key; target.blur() }")


def note(text: str) -> ui.label:
    """A line of secondary text."""
    return ui.label(safe(text, _MESSAGE_MOST)).classes("note prose")


def facts(items: Iterable[tuple[str, str]], style: str = "facts") -> None:
    """Names with their values, in columns, or one below another (``"sums"``)."""
    with ui.element("dl").classes(style):
        for name, value in items:
            with ui.element("div"):
                with ui.element("dt"):
                    word(name)
                with ui.element("dd"):
                    ui.label(safe(value))


def empty(text: str, button: str = "", address: str = "") -> None:
    """What would be here, and the way to get it."""
    with ui.element("div").classes("empty"):
        ui.label(text)
        if button:
            link_button(button, address)


def question(title: str, build: Handler, *, is_open: bool = False) -> ui.expansion:
    """A question that unfolds; its answer is built when it is first opened."""
    with ui.expansion(safe(title), value=is_open).classes("question full-width") as fold:
        content = ui.element("div").classes("stack full-width")

    async def fill() -> None:
        if fold.value and not content.default_slot.children:
            with content:
                await guarded(build)

    fold.on_value_change(fill)
    if is_open:
        ui.timer(0, fill, once=True)
    return fold


def key_list(keys: Iterable[tuple[str, str]]) -> Callable[[], None]:
    """The keys of a page, folded, and what unfolds them."""
    fold = question("Keys", lambda: facts([*keys, ("?", "these keys")]))

    def unfold() -> None:
        fold.set_value(True)
        ui.run_javascript(f"document.getElementById('{fold.html_id}').scrollIntoView()")

    return unfold


async def guarded(work: Handler) -> None:
    """Do some work, and show an `OpsinError` of it where it happens."""
    try:
        await finished(work())
    except OpsinError as error:
        error_line(error)


async def finished(result: Awaitable[object] | object) -> None:
    """Wait for what a handler returned, if it is to be awaited."""
    if inspect.isawaitable(result):
        await result


def error_line(error: OpsinError | str) -> ui.element:
    """An error where it happened: what happened, then what to do."""
    with ui.element("p").classes("error").props('role="alert"') as line:
        ui.label(explained(error))
    return line


def explained(error: OpsinError | str) -> str:
    """An error in the user's world: without places on the disk and words of the command line."""
    if isinstance(error, MovedError):
        names = ", ".join(Path(path).name or path for path in error.gone)
        return safe(f"The photographs of this classifier were moved: {names}. Move them back.")
    if isinstance(error, StorageError):  # which names a path
        error = DiskFull()
    sentences = re.split(r"(?<=[.!?]) +", str(error))
    kept = [item for item in sentences if not re.search(r"(^|\W)(--[a-z]|opsin [a-z])", item)]
    return safe(" ".join(kept or sentences[:1]), _MESSAGE_MOST)


class StatusLine:
    """The last message or error of what was started beside it; screen readers read it out."""

    def __init__(self) -> None:
        # There from the start: screen readers tell only what changes inside.
        self.element = ui.element("div").props('role="status"')

    def clear(self) -> None:
        """Show nothing."""
        self._show(lambda: None)

    def say(self, text: str) -> None:
        """Show a message in place of the last one."""
        self._show(partial(note, text))

    def fail(self, error: OpsinError | str) -> None:
        """Show an error in place of the last message."""
        self._show(partial(error_line, error))

    def _show(self, build: Callable[[], object]) -> None:
        if not self.element.is_deleted:  # the page may have been left meanwhile
            self.element.clear()
            with self.element:
                build()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Clear the line, and show an `OpsinError` of the block, which ends there."""
        self.clear()
        try:
            yield
        except OpsinError as error:
            self.fail(error)


class UndoBar(StatusLine):
    """A bar that names the last change and takes it back in one click."""

    def __init__(self, changed: Event[str]) -> None:
        super().__init__()
        self._changed = changed

    def offer(self, text: str, undo: Handler, *topics: str) -> None:
        """Offer to take back a change until another one, or *Close*; tell all windows of both."""

        def tell() -> None:
            for topic in topics:
                self._changed.emit(topic)

        async def take_back() -> None:
            button.set_visibility(False)  # a second click would undo what is undone
            try:
                await finished(undo())
                self.clear()
                tell()
            except OpsinError as error:
                label.set_text(explained(error))

        tell()
        if self.element.is_deleted:
            return
        self.element.clear()
        with self.element, ui.element("div").classes("undo-bar"):
            label = ui.label(safe(text))
            button = action("Undo", take_back, kind="quiet").props("dense")
            icon_action("close", "Close", self.clear)


class Waiting(AbstractContextManager["Waiting"]):
    """Work that takes a while: how far, how long still; ``on_stop`` gives it a button."""

    def __init__(self, text: str, on_stop: Handler | None = None) -> None:
        self._what, self._since = "", 0.0
        with ui.element("div").classes("waiting").props('role="status"') as self.element:
            self._label = ui.label(safe(text))
            self._bar = ui.linear_progress(show_value=False).props("indeterminate")
            self._bar.props["aria-label"] = safe(text)
            if on_stop:
                action("Stop", on_stop).props("dense")

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """Show the progress; a total of 0 is unknown."""
        if self.element.is_deleted:
            return
        if what != self._what:
            self._what, self._since = what, time.monotonic()
        spent, left = time.monotonic() - self._since, ""
        if done and total and spent > 1:
            left = f" · {about(spent * (total - done) / done)} left"
        self._bar.props["indeterminate"] = not total
        self._bar.set_value(min(1.0, done / total) if total else 0.0)
        self._label.set_text(safe(what[:1].upper() + what[1:] + left))

    def __exit__(self, *_: object) -> None:
        if not self.element.is_deleted:
            self.element.delete()


@contextmanager
def dialog(title: str) -> Iterator[ui.dialog]:
    """A dialog that is read out by its title, which it shows."""
    with ui.dialog() as made, ui.card().classes("stack").style("min-width: min(100%, 360px)"):
        made.props["aria-label"] = title
        heading(title)
        yield made


async def submitted(asked: ui.dialog, button: str, kind: Kind = "primary") -> object:
    """End a dialog with *Cancel* and a button, and return whether, or what, was submitted."""
    with ui.element("div").classes("line"):
        action("Cancel", lambda: asked.submit(None))
        action(button, lambda: asked.submit(True), kind=kind)
    answer = await asked
    asked.delete()
    return answer


async def ask_text(title: str, label: str, value: str = "", *, most: int = 200) -> str | None:
    """Ask for a line of text, such as a new name; ``None`` if it is not given."""
    with dialog(title) as asked:
        field = ui.input(label, value=value).props(f"autofocus maxlength={most}")
        # The value at that moment: what was typed last may still be on its way.
        field.on(
            "keydown.enter",
            lambda event: asked.submit(event.args),
            js_handler="(event) => emit(event.target.value)",
        )
        answer = await submitted(asked, "OK")
    text = field.value if answer is True else answer or ""
    return str(text).strip()[:most] or None
