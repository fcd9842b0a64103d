"""Inside: what layers make of an image."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, counted, percent
from opsin.core.glossary import find_term, term_of_layer
from opsin.inspection.lessons.lesson_terms import SENTENCES
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.pages.moved_images import tell_moved
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout, terms
from opsin.studio.parts.embedded_page import framed
from opsin.studio.parts.gallery import GalleryImage, ImageGallery
from opsin.studio.parts.intake import IMAGES, Intake
from opsin.studio.parts.network_graph import NetworkGraph, in_words
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.parts.waiting_line import WaitingLine
from opsin.studio.runs.inspection_sessions import InspectionAnswer
from opsin.studio.runs.run_index import RunResults, read_judged
from opsin.studio.state import Studio
from opsin.studio.threads import UPLOADS
from opsin.studio.words import safe

# Views in their order: key, and the words of the tab.
_VIEWS: Final = (
    ("image", "What each layer sees"),
    ("lesson", "What does this layer do?"),
    ("why", "Why this answer"),
    ("units", "What activates the units"),
    ("network", "Layers and weights"),
)
_WORDS: Final = {"test": "test set", "val": "validation set", "out_of_fold": "held-out images"}
# Views of one image.
_OF_IMAGE: Final = ("image", "lesson", "why")
# A click on a layer should show it: the browser looks for the place before it is there.
_LOOK: Final = "#look"
_SCROLL: Final = "location.hash && document.getElementById('look')?.scrollIntoView()"
_KNOWN: Final = re.compile(r"(test|val)/(\d{1,9})")
_KEPT: Final = re.compile(r"kept/([0-9a-f]{16})")
# Training images that a first look at a layer's units takes; all of them may take a minute.
_FIRST: Final = 3000
# Mistakes that are offered, the surest.
_MISTAKES: Final = 60


@dataclass(frozen=True)
class _InsideRequest:
    """What the address asks for.

    Args:
        run: The run.
        image: ``test/17``, ``val/17`` or ``kept/<key>``.
        layer: Name of a layer, or ``""`` for all.
        view: One of the views.
        term: The lesson about the layer, or ``""`` for the first that there is.
        all: Whether the units are looked at with all training images.
    """

    run: str
    image: str
    layer: str = ""
    view: str = "image"
    term: str = ""
    all: bool = False

    def address(self, **changed: Any) -> str:
        """Return the address of something else of this run."""
        new = replace(self, **changed)
        query = {"image": new.image, "layer": new.layer, "view": new.view, "term": new.term}
        query |= {"all": "1"} if new.all else {}
        return (
            f"/runs/{new.run}/inside?{urlencode({k: v for k, v in query.items() if v}, safe='/')}"
        )

    @property
    def question(self) -> tuple[str, dict[str, str | int]]:
        """What the worker is asked."""
        kept = _KEPT.fullmatch(self.image)
        image = {"kept": kept[1]} if kept else {"image": self.image}
        if self.view == "network":
            return "network", {}
        if self.view == "units":
            return "layer", {"layer": self.layer, **({} if self.all else {"limit": _FIRST})}
        if self.view == "why":
            return "explain", dict(image)
        if self.view == "lesson" and self.term:
            image["term"] = self.term
        if self.layer:
            image["layer"] = self.layer
        return self.view, dict(image)


async def inside(
    studio: Studio,
    *,
    run: str,
    layer: str = "",
    image: str = "",
    view: str = "image",
    term: str = "",
    all: str = "",  # noqa: A002
) -> None:
    """Build it."""
    (row, directory), body = await asyncio.to_thread(studio.runs.opened, run), None
    with layout.page(studio, f"Inside {row.name}", "/", guide="how-to/inspect.html"):
        with ui.element("p"):
            ui.link("Back to the run", f"/runs/{quote(run)}")
        await tell_moved(directory)
        found = await asyncio.to_thread(read_judged, directory)
        asked = _checked(found, _InsideRequest(run, image, layer, view, term, bool(all)))
        body = _InsideBody(studio, found, asked)
        body.build()
    if body is not None:  # else an error is shown in its place
        await ui.context.client.connected()
        if await body.fill():
            ui.run_javascript(_SCROLL)


PAGE = Page("/runs/{run}/inside", inside)


def _checked(found: RunResults, asked: _InsideRequest) -> _InsideRequest:
    """Return what was asked for, with what is left out or means nothing put right."""
    names = [layer.name for layer in found.layers]
    layer = asked.layer if asked.layer in names else ""
    view = asked.view if asked.view in dict(_VIEWS) else "image"
    image = asked.image or f"{found.part}/0"
    known = _KNOWN.fullmatch(image)
    if known and known[1] == found.part:
        image = f"{found.part}/{min(int(known[2]), max(0, len(found.answers.rows) - 1))}"
    elif not _KEPT.fullmatch(image):
        image = f"{found.part}/0"
    if view == "units" and not layer:
        weights = [each.name for each in found.layers if each.parameters]
        layer = next(iter([*weights, *names]), "input")
    term = asked.term if view == "lesson" and asked.term in SENTENCES else ""
    return replace(asked, layer=layer, view=view, term=term, image=image)


class _InsideBody:
    """The page below its heading."""

    def __init__(self, studio: Studio, found: RunResults, asked: _InsideRequest) -> None:
        self._studio = studio
        self._found = found
        self._asked = asked
        self._opened: DecodedDataset | None = None

    def build(self) -> None:
        """Show what takes no time: the graph, the choice of an image, the views."""
        asked = self._asked
        with layout.panel("Network"):
            self._graph()
        if asked.view in _OF_IMAGE:
            with layout.panel("Image"):
                self._chosen_image()
        with ui.element("nav").classes("op-tabs").props('aria-label="Views" id="look"'):
            for key, words in _VIEWS:
                link = ui.link(words, asked.address(view=key, term="", all=False))
                if key == asked.view:
                    link.props('aria-current="page"')
                    if term := find_term(words):
                        terms.ask(term)
        self._holder = ui.element("div")
        with self._holder:
            self._waiting = WaitingLine("Computing")

    def _graph(self) -> None:
        found, asked = self._found, self._asked
        view = asked.view if asked.view in {"image", "lesson", "units"} else "image"
        graph_view = {"view": view, "term": "", "all": False}
        NetworkGraph(
            found.layers,
            lambda name: asked.address(layer=name, **graph_view) + _LOOK,
            chosen=asked.layer,
        )
        with ui.element("p").classes("op-row op-muted"):
            chosen = next((each for each in found.layers if each.name == asked.layer), None)
            if chosen is not None:
                terms.word(in_words(chosen), term_of_layer(chosen.kind))
                if asked.view != "units":
                    ui.link("All layers", asked.address(layer="", term=""))
            else:
                parameters = sum(each.parameters for each in found.layers)
                weights = f", {count(parameters)} parameters" if parameters else ""
                words = f"{len(found.layers)} layers{weights}."
                if not self._studio.runs.row(asked.run).in_steps:
                    words = f"A model without layers: these are its {len(found.layers)} steps."
                ui.label(f"{words} Choose one to see it alone.")

    def _chosen_image(self) -> None:
        """Show which image is looked at, and offer others."""
        asked, found = self._asked, self._found
        with ui.element("div").classes("op-looked"):
            self._image = ui.element("img").classes("op-pixel")
            self._image._props["alt"] = "Image"
            kept = _KEPT.fullmatch(asked.image)
            if kept:
                self._image._props["src"] = f"/kept/{kept[1]}.png"
            with ui.element("div"):
                self._said = ui.label(asked.image)
                self._numbers(kept is not None)
        with ui.expansion(f"Mistakes on the {_WORDS[found.part]}") as mistakes:
            gallery = ui.element("div").style("width: 100%")
        mistakes.on_value_change(lambda event: self._mistakes(gallery) if event.value else None)
        with ui.expansion("An image of your own"), ui.element("div").style("width: 100%"):
            Intake(
                "Choose, drop, paste or take an image",
                multiple=False,
                accept=IMAGES,
                batch=secrets.token_hex(8),
                on_all=self._own,
            )
            self._status = StatusLine()

    def _numbers(self, own: bool) -> None:
        asked, found = self._asked, self._found
        at = -1 if own else int(asked.image.partition("/")[2])
        last = len(found.answers.rows) - 1

        def go(place: float | None) -> None:
            if place is not None:
                where = min(max(int(place), 0), last)
                ui.navigate.to(asked.address(image=f"{found.part}/{where}"))

        with ui.element("div").classes("op-actions"):
            if at > 0:
                ui.link("Previous", asked.address(image=f"{found.part}/{at - 1}"))
            if at < last:
                ui.link("Next", asked.address(image=f"{found.part}/{at + 1}"))
            number = ui.number(
                f"Number in the {_WORDS[found.part]}, 0 to {count(last)}",
                value=None if own else at,
                min=0,
                max=last,
                precision=0,
            ).style("width: 15rem")
            number.on("keydown.enter", lambda: go(number.value))
            layout.action("Show", lambda: go(number.value))

    async def _own(self, files: list[SentFile]) -> None:
        """Look at an image that was sent."""
        with self._status.errors():
            content = await UPLOADS.run(self._studio.uploads.take, files[0]["key"])
            key = self._studio.tried.put(content, files[0]["name"])
            await self._studio.tried.answer(self._asked.run, key)  # or it is refused here
            ui.navigate.to(self._asked.address(image=f"kept/{key}"))

    async def _mistakes(self, into: ui.element) -> None:
        into.clear()
        found, opened = self._found, await self._open()
        if into.is_deleted:
            return
        if opened is None:
            with into:
                ui.label("Its images are not in the cache any more.").classes("op-muted")
            return
        answers, shown = found.answers, []
        for place in found.mistakes[:_MISTAKES]:
            row, said = int(answers.rows[place]), opened.classes[answers.answers[place]]
            actual = opened.classes[answers.labels[place]]
            shown.append(
                GalleryImage(
                    f"{found.part}/{place}",
                    opened.address(row),
                    f"{found.part}/{place}: {actual}, classified as {said}",
                    f"{actual} → {said} {percent(answers.confidence[place])}",
                    "wrong",
                )
            )

        def go(ids: list[str]) -> None:
            if ids:
                ui.navigate.to(self._asked.address(image=ids[0]))

        with into:
            if not shown:
                ui.label("There are none.").classes("op-muted")
                return
            ImageGallery(shown, "Mistakes, most confident first", multiple=False, on_choose=go)

    async def _open(self) -> DecodedDataset | None:
        if self._opened is None:
            try:
                self._opened = await self._studio.opened.of_run(self._asked.run)
            except OpsinError:
                return None
        return self._opened

    async def fill(self) -> bool:
        """Show what takes a while; return whether the page is still there then."""
        asked = self._asked
        if asked.view in _OF_IMAGE and not _KEPT.fullmatch(asked.image):
            await self._name_image()
        do, with_ = asked.question
        if asked.view == "why" and not await self._studio.inside.known(asked.run, do, **with_):
            self._offer()
        else:
            await self._show()
        return not self._holder.is_deleted

    async def _name_image(self) -> None:
        """Say what a known image is, and what it was taken for."""
        found, opened = self._found, await self._open()
        place = int(self._asked.image.partition("/")[2])
        answers = found.answers
        if opened is None or place >= len(answers.rows) or self._image.is_deleted:
            return
        said, actual = (opened.classes[each[place]] for each in (answers.answers, answers.labels))
        right = bool(answers.right[place])
        self._image._props["src"] = opened.address(int(answers.rows[place]))
        self._image.update()
        verdict = f"{said}, {percent(float(answers.confidence[place]))}"
        wrong = "" if right else f"; it is labelled {safe(actual, 60)}"
        self._said.set_text(f"{self._asked.image}: {safe(verdict, 80)}{wrong}")
        self._said.classes("op-right" if right else "op-wrong")

    def _offer(self) -> None:
        """Say what the explanation is, and that it takes a minute."""
        if self._holder.is_deleted:
            return
        self._holder.clear()
        with self._holder:
            ui.label(
                "Heat maps by up to four methods, each checked whether it may be trusted, the "
                "smallest part of the image that decides, and the nearest training images. "
                "It takes about a minute; the page can be left meanwhile."
            ).classes("op-muted")
            layout.action("Explain this answer", self._explain, primary=True)

    async def _explain(self) -> None:
        self._holder.clear()
        with self._holder:
            self._waiting = WaitingLine("Explaining")
        await self._show()

    async def _show(self) -> None:
        """Ask the worker and show the page that it wrote."""
        asked, holder = self._asked, self._holder
        do, with_ = asked.question
        if do == "explain" or asked.all:
            with holder:
                layout.action("Stop", lambda: self._studio.inside.cancel(asked.run, do, **with_))
        error, said = None, None
        try:
            said = await self._studio.inside.ask(
                asked.run, do, on_progress=self._waiting.tell, **with_
            )
        except OpsinError as failed:
            error = failed
        if holder.is_deleted:
            return
        holder.clear()
        with holder:
            if asked.view == "lesson" and said is not None:
                self._lessons(said)
                if said.address is None:
                    return
            if said is None or said.address is None:
                layout.error_line(error or "There is no page. Ask again.")
                return
            if asked.view == "units":
                self._how_many(said)
            place = {"image": "layers", "lesson": "lesson", "why": "decision"}.get(asked.view, "")
            framed(said.address, dict(_VIEWS)[asked.view], place)
        if _KEPT.fullmatch(asked.image) and (answer := said.answer) is not None:
            name, label = safe(answer.image, 60), safe(answer.answer, 60)
            self._said.set_text(f"{name}: {label}, {percent(answer.confidence)}")

    def _lessons(self, said: InspectionAnswer) -> None:
        """Offer the lessons that there are about this network, and the layers of the one shown."""
        asked = self._asked
        with ui.element("nav").classes("op-row op-lessons").props('aria-label="Lessons"'):
            for term, layers in said.terms.items():
                words = term.replace("-", " ").capitalize()
                link = ui.link(words, asked.address(term=term, layer=layers[0]) + _LOOK)
                if term == said.term:
                    link.props('aria-current="page"')
        missing = [term.replace("-", " ") for term in SENTENCES if term not in said.terms]
        words = f"This network has no {' and no '.join(missing)}." if missing else ""
        if not said.term:
            words = f"There is no lesson about {safe(asked.layer)}. {words}"
        if words:
            ui.label(words).classes("op-muted")

    def _how_many(self, said: InspectionAnswer) -> None:
        """Say how many training images the units were looked at with."""
        with ui.element("p").classes("op-row op-muted"):
            units = counted(said.units, "unit")
            ui.label(f"{units} over {counted(said.images, 'training image')}.")
            if said.images == _FIRST:
                ui.link("Use all training images", self._asked.address(all=True))
