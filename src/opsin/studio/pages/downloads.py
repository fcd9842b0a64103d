"""Download: a classifier as a file, with ready code, for a container, and its papers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.studio.image_routes import HELP
from opsin.studio.jobs.job import JobAnswer, command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui import kit

if TYPE_CHECKING:
    from opsin.studio.context import Studio

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
_DOCKERFILE: Final = """\
FROM python:3.12-slim
RUN pip install --no-cache-dir 'opsin[serve]' && useradd --create-home opsin
USER opsin
COPY classifier.onnx /srv/classifier.onnx
EXPOSE 8000
CMD ["opsin", "serve", "/srv/classifier.onnx", "--host", "0.0.0.0"]
"""
_CONTAINER: Final = """\
docker build -t classifier .
docker run --rm -p 127.0.0.1:8000:8000 -e OPSIN_TOKEN=$(openssl rand -hex 32) classifier
"""


def download_menu(studio: Studio, row: RunRow, title: str, files: Collection[str]) -> None:
    """A button with the forms in which a classifier can be taken away; ``files`` are its own."""
    folder = f"/files/{row.id}"
    forms: list[tuple[str, str, str, Callable[[], object]]] = [
        ("One file", "classifier.onnx: for Python, and for whatever reads ONNX", "",
         lambda: _one_file(folder)),
        ("Zip with ready code", "Python, JavaScript, REST, and sample photographs", "",
         lambda: _zip(studio, row, title)),
        ("Container", "a server in a box", "", lambda: _container(folder)),
        ("Model card", "what it can do and what not, as a text", "README.md",
         lambda: ui.download.from_url(f"{folder}/README.md", "README.md")),
        ("Report page", "all figures and pictures in one page", "report.html",
         lambda: ui.navigate.to(f"{folder}/report.html", new_tab=True)),
    ]  # fmt: skip
    with kit.action("Download", lambda: None, icon="download"), ui.menu(), ui.list():
        for name, what, file, work in forms:
            if not file or file in files:
                with ui.menu_item(on_click=work), ui.item_section():
                    ui.item_label(name)
                    ui.item_label(what).props("caption")


@contextmanager
def _dialog(title: str, text: str) -> Iterator[ui.dialog]:
    """A dialog with a heading and a sentence; it closes with its button or Escape."""
    with ui.dialog(value=True) as dialog, ui.card().classes("stack") as card:
        dialog.props["aria-label"] = title
        dialog.on("hide", dialog.delete)
        card.style("width: min(100%, 640px); max-width: 100%")
        with ui.element("div").classes("line no-wrap"):
            kit.heading(title).classes("col")
            kit.icon_action("close", "Close", dialog.close)
        ui.label(text)
        yield dialog


def _snippet(title: str, text: str) -> None:
    """Code to copy."""
    with ui.element("div").classes("line no-wrap"):
        kit.heading(title, 3).classes("col")
        kit.icon_action("content_copy", f"Copy: {title}", lambda: ui.clipboard.write(text))
    with ui.element("pre").classes("mono card").props('tabindex="0"').style("margin: 0") as code:
        ui.label(text)
    code.props["aria-label"] = title


def _save(what: str, address: str, name: str) -> None:
    kit.action(f"Download {what}", lambda: ui.download.from_url(address, name), kind="primary",
               icon="download")  # fmt: skip


def _one_file(folder: str) -> None:
    with _dialog("One file", "The classifier with its classes and everything it needs."):
        _save("classifier.onnx", f"{folder}/classifier.onnx", "classifier.onnx")
        _snippet("In Python", _PYTHON)


def _container(folder: str) -> None:
    with _dialog("Container", "Put these two files into one folder, then build and run it."):
        with ui.element("div").classes("line"):
            _save("classifier.onnx", f"{folder}/classifier.onnx", "classifier.onnx")
            kit.action(
                "Download Dockerfile",
                lambda: ui.download.content(
                    _DOCKERFILE.encode(), "Dockerfile", "application/octet-stream"
                ), icon="download",
            )  # fmt: skip
        _snippet("Build and run", _CONTAINER)
        ui.link("More about containers", f"{HELP}/how-to/container.html", new_tab=True)


async def _zip(studio: Studio, row: RunRow, title: str) -> None:
    """Write the zip in a job, while the code to use it is shown."""
    with _dialog("Zip with ready code", "Unpack it, and run one of these lines in it.") as dialog:
        with ui.element("div").classes("stack") as work:
            status = kit.StatusLine()
            status.say("The zip is being made …")
            bar = ui.linear_progress(show_value=False).props("indeterminate")
            bar.props["aria-label"] = "Making the zip"
        _snippet("Python, JavaScript, REST", _ZIP)
    try:
        folder: Path = await asyncio.to_thread(new_output_folder, studio.jobs)
        out = folder.absolute() / "classifier.zip"
        run = (await asyncio.to_thread(studio.runs.get, row.id)).path.absolute()
        argv = command("export", run, "--to", "bundle", "--out", out)
        asked = await JobAction.ask(studio.jobs, "export", f"Zip of {title}", argv)
        studio.changed.emit("jobs")
        if not await asked.over(status.say, lambda: dialog.is_deleted):
            return
        answer, cause = await asked.answer(JobAnswer)
        if answer is None:
            raise OpsinError(kit.without_commands(studio.sets.in_names(cause)).rstrip("."))
    except OpsinError as error:
        if not dialog.is_deleted:
            bar.delete()
        status.fail(error)
        return
    if not work.is_deleted:
        work.clear()
        with work:
            _save("the zip", f"/answers/{asked.job.id}.zip", "classifier.zip")
