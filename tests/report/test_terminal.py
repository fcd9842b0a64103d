"""Lines for people: whole numbers, aligned columns, and nothing a name could break."""

import io

from rich.console import Console

from opsin.core.artifacts.run_report import ClassFigures, PartFigures
from opsin.report.terminal import LogFile, Terminal, class_table, confusions, layer_table
from tests.made_classifier import made_layer
from tests.processes import python


def test_a_log_has_plain_lines() -> None:
    stream = io.StringIO()
    log = LogFile(stream)
    log.fact("Data", "x" * 300)
    log.note("[red] is no colour here")
    said = " ".join(stream.getvalue().split())
    assert said == f"Data {'x' * 300} [red] is no colour here"
    assert stream.getvalue().count("\n") == 2


def test_a_terminal_shows_a_bar_with_time_left() -> None:
    stream = io.StringIO()
    screen = Terminal(Console(file=stream, force_terminal=True, width=110, no_color=True))
    screen.begin("2/3", 100, "images")
    for done in (10, 50, 90):
        screen.advance(done, loss=0.5, share=(100 + done) / 300, left=61.0, speed=1234.0)
    screen.end()
    shown = stream.getvalue()
    assert "loss 0.500" in shown
    # Bar and time are those of the whole training.
    assert "63%" in shown
    assert "1,234 images/s  1:01 left" in shown
    assert "90%" not in shown


_BREAKS_OFF = """
import sys
from rich.console import Console
from opsin.report.terminal import Terminal
screen = Terminal(Console(file=sys.stdout, force_terminal=True, width=110))
screen.begin("Units", 10, "images")
screen.advance(3)
screen.begin("Save", 10, "images")
raise KeyboardInterrupt
"""


def test_work_that_breaks_off_gives_the_cursor_back() -> None:
    done = python("-c", _BREAKS_OFF, check=False)
    hidden, shown = (done.stdout.count(code) for code in ("\x1b[?25l", "\x1b[?25h"))
    assert (hidden, shown) == (2, 2)


def test_tables_show_names_as_they_are_written() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100)
    entry = ClassFigures(name="[bold]x[/]", precision=0.5, recall=1, f1=0.6, count=1234)
    figures = PartFigures(images=1234, accuracy=0.9, low=0.8, high=1, classes=[entry])
    console.print(class_table(figures))
    console.print(layer_table([made_layer("block1.conv1", "Conv 3×3 same", (32, 8, 8))]))
    assert "[bold]x[/]" in stream.getvalue()
    assert "1,234" in stream.getvalue()
    assert "32×8×8" in stream.getvalue()
    assert confusions(figures) == "nothing"
