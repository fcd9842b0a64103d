"""How it works: the path from photographs to the inside of a network, in six pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nicegui import ui

from opsin.studio.context import Studio
from opsin.studio.image_routes import HELP
from opsin.studio.pages.page import Page
from opsin.studio.ui import kit
from opsin.studio.ui.layout import page

#: The steps: key of the picture, what it shows, heading, explanation.
STEPS: Final = (
    ("drop", "Photographs fall into a box with a dashed border.", "Bring photographs",
     ("Drop a folder, a zip or loose photographs on the first page, or take them with the camera. "
      "About 40 of each kind are a good start. They stay on this machine.")),
    ("photos", "Three columns of photographs: cup, can and box.", "Sort them into classes",
     ("A class is a kind of thing that you want told apart. Each has a column. Folders become "
      "classes by themselves, loose photographs are dragged into one.")),
    ("train", "A bar that is two thirds full, and small squares, most of them blue, two red.",
     "Train",
     ("The computer learns from your photographs and is tested on ones that it has not seen: blue "
      "is right, red is wrong. This takes well under a minute.")),
    ("results", "Right for 113 of 120, with a photograph that was mistaken.", "See how good it is",
     ("The first line says how often it is right. Below are its mistakes as pictures. Often a "
      "photograph is in the wrong class, or a few more photographs of the weakest class help.")),
    ("try", "A can, and two bars: can 91%, cup 8%.", "Try it",
     ("Hold something in front of the camera, or drop a new photograph. If the answer is wrong, "
      "say what it is: it joins your project, and training again takes seconds.")),
    ("inside", "Blocks that become smaller, with a photograph at the end.", "Look inside",
     ("The classifier is a network of layers. See what each layer makes of a photograph, from "
      "edges to whole shapes, and which part of it decided.")),
)  # fmt: skip
# Read once, before there are windows.
_PICTURES: Final = Path(__file__).with_suffix(".svg").read_text(encoding="utf-8")


@Page("/how-it-works", more="How it works")
def how_it_works(studio: Studio) -> None:
    """Build the page."""
    with page(studio, "How it works") as frame:
        with frame.actions:
            kit.link_button("Begin", "/", kind="primary")
        ui.html(_PICTURES, sanitize=False)
        with ui.element("ol").classes("steps"):
            for key, picture, title, text in STEPS:
                with ui.element("li").classes("card stack"):
                    drawing = f'<svg viewBox="0 0 240 150"><use href="#step-{key}"/></svg>'
                    drawn = ui.html(drawing, sanitize=False).props('role="img"')
                    drawn.props["aria-label"] = picture
                    kit.heading(title)
                    kit.note(text)
        ui.link("The whole guide", f"{HELP}/how-to/studio.html", new_tab=True)
