"""Record a terminal: really run the first commands of the landing page, and draw what they print.

    python scripts/terminal_recording.py docs/images/terminal.svg

The commands run in a pseudo-terminal in a folder of their own. What they print is drawn as an
animated SVG of at most 20 seconds, sped up if it took longer: without scripts, in the colours of
the reader's setting, and as a still image of the end for readers who want no motion. Linux or
macOS; Fashion-MNIST is fetched unless it is here.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

from demo_photo import main as write_photo

COLUMNS: Final = 76
ROWS: Final = 25
#: The commands, as a reader would type them.
COMMANDS: Final = (
    "opsin train fashion-mnist --model mlp --epochs 3",
    "opsin predict runs/*-fashion-mnist-mlp boot.jpg",
)
#: Frames a second at most.
RATE: Final = 8
#: Seconds that the drawing lasts at most.
LONGEST: Final = 20.0
# Seconds that a command stands before it runs, and that the end is waited for.
_TYPED: Final = 1.0
# Width and height of a character, and the space around the text, in units of the drawing.
_WIDE, _HIGH, _MARGIN = 8.4, 18, 14
_SEQUENCE: Final = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")
_STYLES: Final = {"1": "b", "2": "d", "33": "y"}
# Rich's own colours of a bar: what is done, what is finished, what is left.
_COLOURS: Final = {
    "38;2;249;38;114": "p",
    "38;2;114;156;31": "g",
    "38;5;237": "r",
    "38;5;8": "r",
}

Run = tuple[int, str, str]


@dataclass
class Screen:
    """A terminal without an end: rows of characters, each with a style.

    Args:
        rows: The rows; only the last ones are in sight.
    """

    rows: list[list[tuple[str, str]]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    style: str = ""

    def feed(self, text: str) -> None:
        """Print text, and do what its control sequences say."""
        for match in _SEQUENCE.finditer(text):
            parameters, command = match[1], match[2]
            if command == "m":
                self.style = _COLOURS.get(parameters) or _STYLES.get(parameters, "")
            elif command == "A":
                self.row -= int(parameters or 1)
            elif command == "K":
                self.rows[self.row] = []
            elif match[0] == "\r":
                self.column = 0
            elif match[0] == "\n":
                self.row += 1
                self.column = 0
                if self.row == len(self.rows):
                    self.rows.append([])
            elif command is None:
                self._print(match[0])

    def _print(self, text: str) -> None:
        line = self.rows[self.row]
        line += [(" ", "")] * (self.column - len(line))
        line[self.column : self.column + len(text)] = [(each, self.style) for each in text]
        self.column += len(text)

    def lines(self) -> list[tuple[Run, ...]]:
        """Return each row as runs of one style: first column, style, text; without end blanks."""
        return [tuple(_runs(row)) for row in self.rows]


def _runs(row: Sequence[tuple[str, str]]) -> Iterator[Run]:
    start = 0
    for column in range(1, len(row) + 1):
        if column == len(row) or row[column][1] != row[start][1]:
            text = "".join(each for each, _ in row[start:column])
            if text.strip():
                yield start, row[start][1], text.rstrip()
            start = column


def run_in_terminal(command: str, folder: Path) -> Iterator[tuple[float, str]]:
    """Run a command in a pseudo-terminal; give what it prints, and how many seconds later."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    words = command.replace("opsin", f"{sys.executable} -m opsin", 1)
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    started = time.monotonic()
    with subprocess.Popen(
        ["/bin/sh", "-c", words], stdin=there, stdout=there, stderr=there, cwd=folder, env=env
    ) as process:
        os.close(there)
        decode = codecs.getincrementaldecoder("utf-8")().decode
        while True:
            try:
                content = os.read(here, 65_536)
            except OSError:  # the command has ended
                break
            yield time.monotonic() - started, decode(content)
        os.close(here)
    if process.returncode:
        raise SystemExit(f"{command}: exit status {process.returncode}")


@dataclass
class Recording:
    """What stood in each row, from when until when.

    Args:
        shown: Row, its runs, and the seconds between which they were there.
        scrolls: Seconds, and how many rows have left at the top by then.
        seconds: How long it all took.
    """

    shown: list[tuple[int, tuple[Run, ...], float, float]]
    scrolls: list[tuple[float, int]]
    seconds: float


def record(folder: Path) -> Recording:
    """Run the commands one after the other, and keep what changes."""
    screen, begun = Screen(), 0.0
    present: dict[int, tuple[tuple[Run, ...], float]] = {}
    found = Recording([], [(0.0, 0)], 0.0)

    def keep(moment: float) -> None:
        lines = screen.lines()
        for row, line in enumerate(lines):
            before, since = present.get(row, ((), moment))
            if line != before:
                if before and moment > since:
                    found.shown.append((row, before, since, moment))
                present[row] = line, moment
        gone = max(0, len(lines) - ROWS)
        if gone != found.scrolls[-1][1]:
            found.scrolls.append((moment, gone))

    for command in COMMANDS:
        screen.feed(f"\x1b[1m$ {command}\x1b[0m\r\n")
        keep(begun)
        begun += _TYPED
        last = begun
        for seconds, text in run_in_terminal(command, folder):
            screen.feed(text)
            if begun + seconds - last >= 1 / RATE:
                last = begun + seconds
                keep(last)
        begun = last + 1 / RATE
        screen.feed("\r\n")
        keep(begun)
    found.shown += [(row, line, since, begun) for row, (line, since) in present.items()]
    return in_time(Recording(found.shown, found.scrolls, begun))


def in_time(recording: Recording) -> Recording:
    """Return a recording that is no longer than the drawing may be."""
    pace = min(1.0, LONGEST / recording.seconds)
    return Recording(
        [(row, line, since * pace, until * pace) for row, line, since, until in recording.shown],
        [(moment * pace, gone) for moment, gone in recording.scrolls],
        recording.seconds * pace,
    )


_STYLE: Final = """
svg{--f:#1f2328;--d:#656d76;--y:#7d4e00;--p:#b2185e;--g:#4d6b14;--r:#d0d7de;--k:#f6f8fa}
@media(prefers-color-scheme:dark){svg{--f:#e6edf3;--d:#9198a1;--y:#e3b341;--p:#f92672;--g:#a6c850;
--r:#3d444d;--k:#151b23}}
rect{fill:var(--k)}text{font:14px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;
fill:var(--f);white-space:pre}
.b{font-weight:bold}.d{fill:var(--d)}.y{fill:var(--y)}.p{fill:var(--p)}.g{fill:var(--g)}
.r{fill:var(--r)}
@keyframes v{from,to{visibility:visible}}
.t,.e{visibility:hidden;animation:v 1s linear}.e{animation-fill-mode:forwards}
"""


def draw(recording: Recording) -> str:
    """Return the recording as an SVG."""
    width, height = COLUMNS * _WIDE + 2 * _MARGIN, ROWS * _HIGH + 2 * _MARGIN
    stops = "".join(
        f"{100 * moment / recording.seconds:.2f}%{{transform:translateY({-gone * _HIGH}px)}}"
        for moment, gone in recording.scrolls
    )
    end = f"translateY({-recording.scrolls[-1][1] * _HIGH}px)"
    scroll = (
        f"@keyframes s{{{stops}}}.s{{transform:{end};"
        f"animation:s {recording.seconds:.1f}s step-end}}"
    )
    # Who wants no motion gets the end.
    still = "@media(prefers-reduced-motion:reduce){.t,.e,.s{animation:none}.e{visibility:visible}}"
    rows = "".join(_row(recording, *each) for each in recording.shown)
    label = f"A terminal: {' and '.join(COMMANDS)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(label)}">'
        f"<style>{_STYLE}{scroll}{still}</style>"
        f'<rect width="100%" height="100%" rx="8"/>'
        f'<svg x="{_MARGIN}" y="{_MARGIN}" width="{COLUMNS * _WIDE:g}" height="{ROWS * _HIGH}">'
        f'<g class="s">{rows}</g></svg></svg>\n'
    )


def _row(recording: Recording, row: int, line: tuple[Run, ...], since: float, until: float) -> str:
    """Return one row, seen between two moments; the last state of each row stays."""
    if not line:
        return ""
    kept = until >= recording.seconds
    shown = "".join(
        f'<tspan x="{start * _WIDE:g}" textLength="{len(text) * _WIDE:g}"'
        f' lengthAdjust="spacingAndGlyphs"{_class(style)}>{escape(text, quote=False)}</tspan>'
        for start, style, text in line
    )
    duration = "" if kept else f";animation-duration:{until - since:.2f}s"
    return (
        f'<text class="{"e" if kept else "t"}" y="{row * _HIGH + 13}" '
        f'style="animation-delay:{since:.2f}s{duration}">{shown}</text>'
    )


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""


def main(file: Path) -> None:
    """Record the commands and write the drawing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photo(folder / "boot.jpg")
        recording = record(folder)
    file.write_text(draw(recording), encoding="utf-8")
    print(f"{file}: {recording.seconds:.1f} s, {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
