"""Download: a classifier as a file, with ready code, for a container, and its papers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.studio.context import Studio
from opsin.studio.jobs.job import JobAnswer, command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui import kit
from opsin.studio.ui.training_cards import cause_in_words

_PYTHON: Final = """\
pip install opsin
python -c "
import opsin
print(opsin.Classifier('classifier.onnx').predict('photo.jpg'))"
"""
_ZIP: Final = """\
# Python, without Opsin
pip install numpy pillow onnxruntime
python predict.py samples/*.png

# JavaScript
npm install --ignore-scripts
node predict.mjs samples/*.png

# REST
pip install 'opsin[serve]'
opsin serve classifier.onnx
curl -F image=@photo.jpg http://127.0.0.1:8000/predict
"""
_DOCKERFILE: Final = b"""\
FROM python:3.12-slim
RUN pip install --no-cache-dir 'opsin[serve]' && useradd --create-home opsin
USER opsin
COPY classifier.onnx /srv/classifier.onnx
EXPOSE 8000
CMD ["opsin", "serve", "/srv/classifier.onnx", "--host", "0.0.0.0"]
"""
_BYTES: Final = "application/octet-stream"
_CONTAINER: Final = """\
docker build -t classifier .
docker run --rm -p 127.0.0.1:8000:8000 -e OPSIN_TOKEN=$(openssl rand -hex 32) classifier
"""


def download_menu(studio: Studio, row: RunRow, title: str, files: Collection[str]) -> None:
    """A button with the forms in which a classifier can be taken away; ``files`` are its own."""
    folder, onnx = f"/files/{row.id}", "classifier.onnx"
    file = onnx, lambda: ui.download.from_url(f"{folder}/{onnx}", onnx)
    docker = "Dockerfile", lambda: ui.download.content(_DOCKERFILE, "Dockerfile", _BYTES)
    text = "The classifier with its classes and everything it needs."
    two = "Put these two files into one folder, then build and run it."

    def form(name: str, what: str, work: Callable[[], object], needed: str = onnx) -> None:
        if needed in files:
            with ui.menu_item(on_click=work), ui.item_section():
                ui.item_label(name)
                ui.item_label(what).props("caption")

    zipped = partial(_zip, studio, row, title)
    one_file = partial(_dialog, "One file", text, "In Python", _PYTHON, file)
    container = partial(_dialog, "Container", two, "Build and run", _CONTAINER, file, docker)
    card = partial(ui.download.from_url, f"{folder}/README.md", "README.md")
    report = partial(ui.navigate.to, f"{folder}/report.html", new_tab=True)
    with kit.action("Download", lambda: None, icon="download"), ui.menu():
        form("One file", "classifier.onnx: for Python, and for whatever reads ONNX", one_file)
        form("Zip with ready code", "Python, JavaScript, REST, and sample photographs", zipped)
        form("Container", "a server in a box", container)
        form("Model card", "what it can do and what not, as a text", card, "README.md")
        form("Report page", "all figures and pictures in one page", report, "report.html")


def _dialog(
    title: str, text: str, snippet: str, code: str, *files: tuple[str, Callable[[], object]]
) -> ui.element:
    """A dialog with buttons for files, in a line that it returns, and with code to copy."""
    with ui.dialog(value=True) as dialog, ui.card().classes("stack") as card:
        dialog.props["aria-label"] = title
        dialog.on("hide", dialog.delete)
        card.style("width: min(100%, 640px); max-width: 100%")
        with ui.element("div").classes("line no-wrap"):
            kit.heading(title).classes("col")
            kit.icon_action("close", "Close", dialog.close)
        ui.label(text)
        with ui.element("div").classes("line") as place:
            for name, save in files:
                kit.action(f"Download {name}", save, kind="primary", icon="download")
        with ui.element("div").classes("line no-wrap"):
            kit.heading(snippet, 3).classes("col")
            kit.icon_action("content_copy", f"Copy: {snippet}", lambda: ui.clipboard.write(code))
        with ui.element("pre").classes("mono card").props('tabindex="0"') as shown:
            ui.label(code)
        shown.style("margin: 0").props["aria-label"] = snippet
    return place


async def _zip(studio: Studio, row: RunRow, title: str) -> None:
    """Write the zip in a job, while the code to use it is shown."""
    place = _dialog(
        "Zip with ready code",
        "Unpack it, and run one of these lines in it.",
        "Python, JavaScript, REST",
        _ZIP,
    )
    with place:
        status = kit.StatusLine()
    with status.errors():
        status.say("The zip is being made …")
        folder = await asyncio.to_thread(new_output_folder, studio.jobs)
        run = (await asyncio.to_thread(studio.runs.get, row.id)).path.absolute()
        out = folder.absolute() / "classifier.zip"
        argv = command("export", run, "--to", "bundle", "--out", out)
        asked = await JobAction.ask(studio.jobs, "export", f"Zip of {title}", argv)
        studio.changed.emit("jobs")
        if not await asked.over(status.say, lambda: place.is_deleted):
            return
        answer, cause = await asked.answer(JobAnswer)
        if answer is None:
            raise OpsinError(cause_in_words(studio, cause).rstrip("."))
        status.clear()
        if not place.is_deleted:
            with place:
                kit.action(
                    "Download the zip",
                    lambda: ui.download.from_url(f"/answers/{asked.job.id}.zip", "classifier.zip"),
                    kind="primary",
                    icon="download",
                )
