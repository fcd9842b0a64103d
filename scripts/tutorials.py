"""Run the tutorials and write their pages, or write their notebooks.

    python scripts/tutorials.py basic-classification
    python scripts/tutorials.py --data cifar10=FOLDER
    python scripts/tutorials.py --text
    python scripts/tutorials.py --notebooks FOLDER

A tutorial has one source, a script in docs/learn: cells of Markdown and of Python, in jupytext's
percent format. It runs here as a notebook in an empty folder. Its page shows the cells with what
they printed and drew. A comment ``# alt:`` at the top of a cell describes a figure that the cell
draws, for those who cannot see it; the page has it as the image's alternative text. With --text,
nothing runs: where only Markdown has changed, the pages keep their outputs.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

LEARN: Final = Path(__file__).parents[1] / "docs" / "learn"
IMAGES: Final = LEARN.parent / "images" / "learn"
#: Dots an inch of a figure, and bytes from which its colours are reduced to 256.
_DPI: Final = 120
_LARGE: Final = 100_000
# A description of a figure; further lines of it are indented.
_ALT: Final = re.compile(r"^# alt: (.+(?:\n#  +.+)*)\n", re.MULTILINE)
# A link to another page: in a notebook it would lead nowhere.
_LINK: Final = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]+\)")
# A screenshot, likewise.
_SCREENSHOT: Final = re.compile(r"!\[[^\]]*\]\(\.\./[^)]+\)\n*")
_OUTPUT: Final = re.compile(
    r"```text\n.*?```\n\n?|!\[[^\]]*\]\(\.\./images/learn/\S+\)\n\n?", re.DOTALL
)
# A cell of code in a page, and what it printed and drew.
_SHOWN: Final = re.compile(
    r"```python\n(.*?)\n```\n\n?(?:```text\n(.*?)\n```\n\n?)?"
    r"((?:!\[[^\]]*\]\(\.\./images/learn/\S+\)\n\n?)*)",
    re.DOTALL,
)
# Bold and colours of a terminal.
_ESCAPES: Final = re.compile(r"\x1b\[[\d;]*m")
#: What a tutorial reads that no name fetches. Where it is not given, the tutorial is left out.
_NEEDS: Final = {"your-own-photographs": ("photos", "heap")}
_DRAWING: Final = f"import matplotlib\nmatplotlib.rcParams['figure.dpi'] = {_DPI}"


@dataclass(frozen=True)
class Cell:
    """A cell of a tutorial.

    Args:
        text: Markdown, or code without the descriptions of its figures.
        code: Whether it is code.
        alts: What its figures show, in order.
    """

    text: str
    code: bool
    alts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """What a cell printed, and the figures that it drew, as PNG files."""

    text: str = ""
    figures: tuple[bytes, ...] = ()


def cells_of(source: str) -> list[Cell]:
    """Return the cells of a script in percent format."""
    cells = []
    for cell in jupytext.reads(source, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            cells.append(Cell(cell.source.strip(), code=False))
            continue
        alts = [re.sub(r"\n#\s+", " ", alt) for alt in _ALT.findall(cell.source + "\n")]
        code = _ALT.sub("", cell.source + "\n").strip()
        cells.append(Cell(code, code=True, alts=tuple(alts)))
    return cells


def notebook_of(cells: Sequence[Cell]) -> Any:
    """Return a tutorial as a notebook without output.

    Links to other pages become plain text, and screenshots are left out.
    """
    made: Any = nbformat.v4
    notebook = made.new_notebook(
        cells=[
            made.new_code_cell(cell.text, id=f"cell-{number}")
            if cell.code
            else made.new_markdown_cell(
                _LINK.sub(r"\1", _SCREENSHOT.sub("", cell.text)), id=f"cell-{number}"
            )
            for number, cell in enumerate(cells, start=1)
        ]
    )
    name = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata.update(kernelspec=name, language_info={"name": "python"})
    return notebook


def run(cells: Sequence[Cell], folder: Path, data: Mapping[str, Path]) -> list[Output]:
    """Run a tutorial as a notebook.

    Args:
        cells: Of the tutorial.
        folder: Empty; the tutorial runs in it.
        data: Folders or files to read in place of named sources.

    Returns:
        An output for each cell.

    Raises:
        CellExecutionError: A cell failed.
    """
    places = {}
    for name, place in data.items():
        link = folder / f"{name}{place.suffix}"
        link.symlink_to(place.resolve())
        places[f'"{name}"'] = f'"./{link.name}"'
    notebook = notebook_of(cells)
    for cell in notebook.cells:
        for name, place_of_it in places.items():
            if cell.cell_type == "code":
                cell.source = cell.source.replace(name, place_of_it)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_DRAWING))  # type: ignore[no-untyped-call]
    # As on a machine where nobody has looked at the test images yet.
    state = {"OPSIN_STATE": str(folder / "state"), "NO_COLOR": "1"}
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, **state})
    shown = {place[1:-1]: name[1:-1] for name, place in places.items()}
    return [_output(cell.get("outputs", ()), shown) for cell in notebook.cells[1:]]


def _output(outputs: Sequence[Any], shown: Mapping[str, str]) -> Output:
    """Gather a cell's outputs; what was read in place of a source is called as that source."""
    text, figures = "", []
    for output in outputs:
        if output.output_type == "stream":
            text += output.text
        elif "image/png" in output.data:
            figures.append(_png(output.data["image/png"]))
        else:
            text += _ESCAPES.sub("", output.data["text/plain"]).rstrip("\n") + "\n"
    for place, name in shown.items():
        text = text.replace(place, name)
    return Output("\n".join(line.rstrip() for line in text.strip("\n").splitlines()), (*figures,))


def _png(encoded: str) -> bytes:
    """Return a figure as a small PNG file."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    for smaller in (image, image.quantize(256, dither=Image.Dither.NONE)):
        file = io.BytesIO()
        smaller.save(file, "PNG", optimize=True)
        if file.tell() < _LARGE:
            break
    return file.getvalue()


def page_of(name: str, cells: Sequence[Cell], outputs: Sequence[Output]) -> str:
    """Return a tutorial's page in Markdown.

    Args:
        name: Of the tutorial, as its files are called.
        cells: Of the tutorial, the first of them Markdown that begins with the title.
        outputs: One for each cell.

    Raises:
        ValueError: A cell drew more or fewer figures than it describes.
    """
    title, _, first = cells[0].text.partition("\n")
    parts = [
        title,
        f"<!-- Written by scripts/tutorials.py: change {name}.py instead. -->",
        f'This page as a <a href="{name}.py" download>script</a> or a '
        f'<a href="{name}.ipynb" download>notebook</a>.',
        first.strip(),
    ]
    number = 0
    for cell, output in zip(cells[1:], outputs[1:], strict=True):
        parts.append(f"```python\n{cell.text}\n```" if cell.code else cell.text)
        if output.text:
            parts.append(f"```text\n{output.text}\n```")
        if len(cell.alts) != len(output.figures):
            raise ValueError(
                f"{name}: a cell drew {len(output.figures)} figures and describes "
                f"{len(cell.alts)} with `# alt:`:\n{cell.text}"
            )
        for alt in cell.alts:
            number += 1
            parts.append(f"![{alt}](../images/learn/{name}-{number}.png)")
    return "\n\n".join(parts) + "\n"


def without_outputs(page: str) -> str:
    """Return a page without what its cells printed and drew."""
    return _OUTPUT.sub("", page + "\n").rstrip("\n") + "\n"


def kept_outputs(name: str, cells: Sequence[Cell]) -> list[Output]:
    """Return the outputs that a tutorial's page shows, its figures empty.

    Raises:
        ValueError: The page shows other code.
    """
    page = (LEARN / f"{name}.md").read_text(encoding="utf-8")
    shown = _SHOWN.findall(page)
    if [code for code, _, _ in shown] != [cell.text for cell in cells if cell.code]:
        raise ValueError(f"{name}: its code has changed since its page was written: run it")
    outputs = iter(Output(text, (b"",) * figures.count("![")) for _, text, figures in shown)
    return [next(outputs) if cell.code else Output() for cell in cells]


def write_text(name: str) -> None:
    """Write a tutorial's page with the outputs that it has."""
    cells = cells_of((LEARN / f"{name}.py").read_text(encoding="utf-8"))
    page = page_of(name, cells, kept_outputs(name, cells))
    (LEARN / f"{name}.md").write_text(page, encoding="utf-8")


def write(name: str, data: Mapping[str, Path]) -> None:
    """Run a tutorial and write its page and its figures."""
    cells = cells_of((LEARN / f"{name}.py").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        outputs = run(cells, Path(folder), data)
    page = page_of(name, cells, outputs)
    IMAGES.mkdir(parents=True, exist_ok=True)
    for old in IMAGES.glob(f"{name}-[0-9]*.png"):
        old.unlink()
    figures = [figure for output in outputs for figure in output.figures]
    for number, figure in enumerate(figures, start=1):
        (IMAGES / f"{name}-{number}.png").write_bytes(figure)
    (LEARN / f"{name}.md").write_text(page, encoding="utf-8")


def write_notebooks(names: Sequence[str], folder: Path) -> None:
    """Write the notebooks of tutorials into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cells = cells_of((LEARN / f"{name}.py").read_text(encoding="utf-8"))
        nbformat.write(notebook_of(cells), folder / f"{name}.ipynb")  # type: ignore[no-untyped-call]


def main() -> None:
    """Read the command line."""
    known = sorted(path.stem for path in LEARN.glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="read this folder or file where the tutorials name a source",
    )
    parser.add_argument("--text", action="store_true", help="keep the outputs; run nothing")
    parser.add_argument("--notebooks", type=Path, metavar="FOLDER", help="write notebooks only")
    options = parser.parse_args()
    if options.notebooks:
        write_notebooks(options.names or known, options.notebooks)
        return
    data = {name: Path(path) for name, _, path in (each.partition("=") for each in options.data)}
    for name in options.names or known:
        missing = set(_NEEDS.get(name, ())) - set(data)
        if missing and not (options.text or options.names):
            print(f"left out: {name}, which needs --data {' '.join(sorted(missing))}")
            continue
        write_text(name) if options.text else write(name, data)
        print(f"docs/learn/{name}.md")


if __name__ == "__main__":
    main()
