"""Output for terminals and log files."""

from __future__ import annotations

import atexit
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.segment import Segment
from rich.table import Table

from opsin.core.events import Pace, Watcher, epoch_of
from opsin.core.format import clock, counted, in_groups, plus_minus

if TYPE_CHECKING:
    from opsin.core.artifacts.records import Epoch
    from opsin.core.artifacts.run_report import (
        CorrectedLabels,
        Failures,
        LabelEvidence,
        Leaks,
        OodFigures,
        PartFigures,
    )
    from opsin.core.metadata import Layer
    from opsin.data.audit import Finding

_FACT = 10
# Least columns for the rate in an epoch's line.
_WIDE = 76
# Seconds of silence before a log reports progress.
_SILENCE = 15.0
#: Columns of a file or a pipe, where nothing is wrapped.
UNWRAPPED = 10_000
#: Control characters except line and tab, and those that change the direction of text.
COMMANDS: Final = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]"
)


def printable(text: str) -> str:
    """Return text on one line, with control characters and broken Unicode made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class PlainLines(Console):
    """A console that survives a closed pipe and shows no control characters from text."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render, with a mark for each control character in text."""
        for text, style, control in super().render(renderable, options):
            yield Segment(
                text if control else COMMANDS.sub("\N{REPLACEMENT CHARACTER}", text), style, control
            )

    def on_broken_pipe(self) -> None:
        """Go quiet; the work goes on."""
        self.quiet = True


class Terminal(Watcher):
    """Shows work as it goes on: a live bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task: Any = None
        self._heading = False
        self._work = ("", 0)
        self._pace = Pace(0)
        self._next, self._said = 0.1, 0.0

    def fact(self, name: str, text: str) -> None:
        """Print a line: the name in its column, then the text."""
        self._row(f"[bold]{escape(printable(name))}[/]", escape(printable(text)))

    def note(self, text: str) -> None:
        """Print a warning."""
        self._row("", f"[yellow]{escape(printable(text))}[/]")

    def _row(self, name: str, text: str) -> None:
        """Print two columns, the second wrapped on a terminal only."""
        row = Table.grid(padding=(0, 1))
        row.add_column(width=_FACT - 1)
        row.add_column(no_wrap=not self.console.is_terminal, overflow="fold")
        row.add_row(name, text)
        self.console.print(row)

    def layers(self, layers: Sequence[Layer]) -> None:
        """Print the summary table of a network."""
        self.console.print(layer_table(layers))

    def begin(self, what: str, total: int, unit: str) -> None:
        """Start a bar, in place of an unfinished one."""
        self.end()
        if not (epoch_of(what) and epoch_of(self._work[0])):
            self._next = 0.1
        self._work, self._unit = (what, total), unit
        self._pace, self._said = Pace(total), time.monotonic()
        if not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description:>6} "),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=1, rate="", figures="")
        self._bar.start()
        # Work that an error or Ctrl-C ends must give the cursor back.
        atexit.register(self.end)

    def advance(self, done: int, **figures: float) -> None:
        """Move the bar; without a terminal, print a line for each tenth of long work."""
        what, total = self._work
        self._pace.saw(done)
        share, left, speed = (figures.pop(name, None) for name in ("share", "left", "speed"))
        if share is None:
            share = done / total if total else 0.0
            left, speed = self._pace.left, self._pace.speed
        rest, now = "" if left is None else f"  {clock(left)} left", time.monotonic()
        if self._bar is not None:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
            rate = f"{speed:,.0f} {self._unit}/s" if speed else ""
            if self._unit == "B":
                rate = f"{(speed or 0) / 1e6:.1f} MB/s"
            self._bar.update(self._task, completed=share, figures=shown, rate=rate + rest)
        elif now - self._said > _SILENCE and share >= self._next and share < 1:
            self._said, self._next = now, share + 0.1
            self.console.print(f"{what:>8}  {share:4.0%}{rest}", highlight=False)

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            atexit.unregister(self.end)

    def epoch(self, epoch: Epoch) -> None:
        """Print an epoch's line, before the first one the heading; what was fitted has neither."""
        if epoch.epochs == 1 and not epoch.learning_rate:
            return
        wide = self.console.width >= _WIDE
        if not self._heading:
            self._heading = True
            rate = f"{'rate':>10}" if wide else ""
            heading = f"{'epoch':>8}{'train loss':>12}{'acc':>8}{'val loss':>11}{'acc':>8}{rate}"
            self.console.print(f"\n{heading}{'time':>8}", style="dim", highlight=False)
        number = f"{epoch.epoch}/{epoch.epochs}"
        mark = " best" if epoch.best else ("" if epoch.complete else " cut short")
        rate = f"{epoch.learning_rate:>10.1e}" if wide else ""
        self.console.print(
            f"{number:>8}{epoch.train_loss:>12.3f}{epoch.train_accuracy:>8.4f}"
            f"{epoch.val_loss:>11.3f}{epoch.val_accuracy:>8.4f}"
            f"{rate}{clock(epoch.seconds):>8}[dim]{mark}[/]",
            highlight=False,
        )


class LogFile(Terminal):
    """Writes the same lines into a run's ``log.txt``."""

    def __init__(self, file: TextIO) -> None:
        # In a notebook, Rich would show the lines there and leave the file empty.
        plain = PlainLines(
            file=file,
            width=UNWRAPPED,
            no_color=True,
            emoji=False,
            force_terminal=False,
            force_jupyter=False,
        )
        super().__init__(plain)


def for_people(*, quiet: bool = False) -> Watcher:
    """Return the watcher of the command line, which writes to standard error."""
    width = None if sys.stderr.isatty() else UNWRAPPED
    return Watcher() if quiet else Terminal(PlainLines(stderr=True, emoji=False, width=width))


# Most frozen layers shown one by one.
_KEPT_SHOWN: Final = 12


def layer_table(layers: Sequence[Layer]) -> Table:
    """Return the summary: layer, kind, output shape, parameters; totals below."""
    table = Table(box=None, pad_edge=False, padding=(0, 2), show_footer=True)
    held = sum(layer.parameters for layer in layers)
    trainable = sum(layer.trainable for layer in layers)
    work = sum(layer.multiply_adds for layer in layers)
    table.add_column("Layer", "Total")
    table.add_column("Kind", f"{trainable:,} trainable, {held - trainable:,} not")
    table.add_column("Output", justify="right")
    table.add_column("Parameters", f"{held:,}", justify="right")
    table.add_column("Multiply-adds", f"{work:,}", justify="right")
    # Of a pretrained network that stays as it is, a hundred lines would hide what was learnt.
    kept = next((index for index, layer in enumerate(layers) if layer.trainable), 0)
    rows = list(layers)
    if kept > _KEPT_SHOWN:
        last, words = layers[kept - 1], f"{kept:,} layers, kept as they are"
        sums = {
            name: sum(getattr(layer, name) for layer in layers[:kept])
            for name in ("parameters", "multiply_adds")
        }
        names = {"name": f"{layers[0].name} … {last.name}", "kind": words}
        rows[:kept] = [last.model_copy(update=names | sums)]
    for row in rows:
        numbers = [f"{count:,}" if count else "" for count in (row.parameters, row.multiply_adds)]
        shape = "×".join(map(str, row.shape))
        table.add_row(escape(row.name), escape(printable(row.kind)), shape, *numbers)
    return table


def leaks_in_words(leaks: Leaks) -> str:
    """Number of test images that were also trained on, and the consequence."""
    if leaks.all_copied:
        return (
            f"every test image ({leaks.exact:,}) has an exact copy among the training images, so "
            "the validation images are judged by instead; for an honest test, give images that "
            "are in no other part"
        )
    kinds = [(leaks.exact, "an exact copy"), (leaks.near, "a near duplicate")]
    parts = [
        f"{counted(count, 'test image has', 'test images have')} {what}"
        for count, what in kinds
        if count
    ]
    return f"{' and '.join(parts)} among the training images (kept, as they were given)"


def images_in_words(figures: PartFigures) -> str:
    """Number of images, and of their groups, behind figures."""
    groups = in_groups(figures.groups, few=figures.few_groups)
    return f"{counted(figures.images, 'image')}{groups}"


def corrected_in_words(corrected: CorrectedLabels, split: str | None) -> str:
    """Effect of corrections on the accuracy."""
    word = {"test": "test ", "val": "validation ", "out_of_fold": "held-out "}.get(split or "", "")
    parts = []
    if corrected.labels:
        parts.append(
            f"{corrected.labels:,} of {corrected.images:,} {word}labels corrected; with the "
            f"earlier labels {plus_minus(corrected.earlier)}"
        )
    if corrected.left_out:
        parts.append(
            f"{counted(corrected.left_out, 'image')} of the collection left out by corrections, "
            "and judged nowhere"
        )
    return " · ".join(parts)


def ood_in_words(ood: OodFigures) -> str:
    """AUROC of unknown images in words."""
    lowest = min(ood.classes, key=lambda entry: entry.auroc, default=None)
    some = f" (lowest: {printable(lowest.name)} {lowest.auroc:.3f})" if lowest else ""
    return (
        f"AUROC {ood.near:.3f} for a class left out{some}, {ood.far:.3f} for noise, text and "
        "drawings"
    )


def labels_title(failures: Failures) -> str:
    """Return the number of suspected labels in words."""
    if failures.labels and failures.labels.too_weak:
        return "Label errors: too weak to tell"
    count = failures.suspected
    if not count:
        return "No wrong labels are suspected"
    return f"{counted(count, 'label is', 'labels are')} suspected to be wrong"


def labels_grounds(suspected: int, labels: LabelEvidence | None) -> str:
    """Return the evidence behind suspected labels, or why there are none."""
    if labels and labels.too_weak:
        return f"The classifier is too weak to tell: {labels.too_weak}."
    if suspected and labels and labels.expected:
        return labels.expected.words
    if suspected:
        return "Draw the report anew to see what to expect of them."
    return (
        "The answers to images that it had not learnt from contradict no label more surely than "
        "its own mistakes explain."
    )


def findings_table(findings: Sequence[Finding]) -> Table:
    """Findings of an audit: count, title, a few examples, Opsin's action, and yours."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(f"[bold]{finding.count:,}[/]", f"[bold]{escape(finding.title)}[/]")
        for note in finding.elsewhere[:2]:
            table.add_row("", f"[dim]{escape(printable(note))}[/]")
        table.add_row("", f"Opsin {escape(finding.opsin)}. You can {escape(finding.yours)}.")
    return table


# Most classes that are all listed, and how many of more.
_ALL_CLASSES: Final = 30
_WEAKEST: Final = 10


def class_table(figures: PartFigures) -> Table:
    """A row per class: precision, recall, F1, count; of many classes the weakest."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("Class", overflow="fold")
    for name in ("Precision", "Recall", "F1", "Count"):
        table.add_column(name, justify="right", no_wrap=True)
    classes = figures.classes
    if len(classes) > _ALL_CLASSES:
        present = [entry for entry in classes if entry.f1 is not None]
        classes = sorted(present, key=lambda entry: entry.f1 or 0.0)[:_WEAKEST]
        table.caption = f"the weakest of {len(figures.classes):,} classes"
    for entry in classes:
        shares = [
            f"{share:.4f}" if entry.count else "—"
            for share in (entry.precision, entry.recall, entry.f1)
        ]
        table.add_row(escape(printable(entry.name)), *shares, f"{entry.count:,}")
    return table


def over_classes(figures: PartFigures) -> str:
    """Return the classes behind means over classes: those that have images."""
    present = sum(entry.count > 0 for entry in figures.classes)
    if present == len(figures.classes):
        return f"over all {present:,} classes"
    return f"over the {counted(present, 'class', 'classes')} present"


def confusions(figures: PartFigures, count: int = 3) -> str:
    """Return the most confused pairs in one line."""
    pairs = [
        f"{pair.actual} → {pair.predicted} ({pair.count:,})" for pair in figures.confused[:count]
    ]
    return " · ".join(pairs) or "nothing"


def bar(share: float, width: int = 28) -> str:
    """Return a bar of block characters for a share between 0 and 1."""
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
