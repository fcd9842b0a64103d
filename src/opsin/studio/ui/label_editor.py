"""Gives images a class: keys, the large view's buttons, a bar for chosen images, decisions."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nicegui import ui

from opsin.core.format import counted
from opsin.studio.ui import kit
from opsin.studio.ui.viewer import ViewerAction
from opsin.studio.words import safe

# The keys of the first classes; u undoes.
_KEYS: Final = "123456789abcdefghijklmnopqrstvwxyz"
# Classes with a button of their own: in the large view, and in the bar of chosen images.
_BUTTONS: Final = 12
_FEW: Final = 9
#: Scripts of places that images of a gallery can be dropped on; files are for others.
DRAG: Final = (
    "(event) => { if (!event.dataTransfer.types.includes('Files')) event.preventDefault(); }"
)
DROP: Final = (
    "(event) => { if (!event.dataTransfer.types.includes('Files')) "
    "{ event.preventDefault(); emit(); } }"
)

Chosen = Callable[[str], Awaitable[object] | object]


def class_of_key(key: str, classes: Sequence[str]) -> str | None:
    """The class that a key stands for, if any."""
    at = _KEYS.find(key.lower()) if len(key) == 1 else -1
    return classes[at] if 0 <= at < len(classes) else None


def key_of_class(at: int) -> str:
    """The key of a class by its place; ``""`` if it has none."""
    return _KEYS[at] if at < len(_KEYS) else ""


def viewer_actions(
    classes: Sequence[str],
    relabel: Callable[[int, str], Awaitable[object] | object],
    remove: Callable[[int], Awaitable[object] | object] | None = None,
    undo: Callable[[int], Awaitable[object] | object] | None = None,
) -> list[ViewerAction]:
    """Buttons and keys of the large view that give an image a class, remove it, or undo."""

    def to(class_: str) -> Callable[[int], Awaitable[object] | object]:
        return lambda at: relabel(at, class_)

    actions = [
        ViewerAction(safe(name, 30), key_of_class(at), to(name), shown=at < _BUTTONS)
        for at, name in enumerate(classes[: len(_KEYS)])
    ]
    if remove:
        actions.append(ViewerAction("Remove", "Delete", remove))
    if undo:
        actions.append(ViewerAction("Undo", "u", undo))
    return actions


def class_select(classes: Sequence[str], on_choose: Chosen, label: str = "Move to") -> ui.select:
    """A field that hands the class on that is chosen, and is empty again."""
    names = {at: safe(name, 60) for at, name in enumerate(classes)}
    field = ui.select(names, label=label, with_input=len(names) > _BUTTONS)
    field.props("options-dense dense").style("min-width: 160px")

    async def choose() -> None:
        at = field.value
        if isinstance(at, int) and at < len(classes):
            field.set_value(None)
            result = on_choose(classes[at])
            if inspect.isawaitable(result):
                await result

    field.on_value_change(choose)
    return field


class ChoiceBar:
    """A bar that says how many images are chosen, and gives them a class.

    Args:
        on_class: Receives the class.
        on_remove: Removes the images.
        on_clear: Chooses none.
    """

    def __init__(self, on_class: Chosen, on_remove: kit.Handler, on_clear: kit.Handler) -> None:
        self._on_class = on_class
        self._classes: tuple[str, ...] = ()
        with ui.element("div").classes("choice-bar") as self.element:
            self.element.props["role"] = "toolbar"
            self.element.props["aria-label"] = "Chosen photographs"
            self._words = ui.label().classes("text-weight-bold").props('role="status"')
            self._place = ui.element("div").classes("line")
            kit.action("Remove", on_remove, icon="delete_outline").props("dense")
            kit.icon_action("close", "Choose none", on_clear)
        self.element.set_visibility(False)

    def show(self, number: int, classes: Sequence[str]) -> None:
        """Show it for some images; hide it for none."""
        self.element.set_visibility(bool(number))
        self._words.set_text(f"{counted(number, 'photo')} chosen")
        if not number or tuple(classes) == self._classes:
            return
        self._classes = tuple(classes)
        self._place.clear()
        with self._place:
            if len(classes) > _FEW:
                class_select(classes, self._on_class)
                return
            for at, name in enumerate(classes):
                text = f"{safe(name, 24)} ({key_of_class(at)})"
                button = kit.action(text, lambda name=name: self._on_class(name)).props("dense")
                button.on("dragover", js_handler=DRAG)
                button.on("drop", lambda name=name: self._on_class(name), js_handler=DROP)


def decisions(
    answers: Sequence[tuple[str, kit.Handler]],
    classes: Sequence[str] = (),
    on_class: Chosen | None = None,
) -> None:
    """Buttons for what can be decided of an image, and a field for another class."""
    with ui.element("div").classes("line"):
        for text, work in answers:
            kit.action(text, work, needs="labeller").props("dense")
        if on_class:
            class_select(classes, on_class, "Another class")
