"""What is printed of a training that is not begun."""

from __future__ import annotations

from opsin.cli.output import console, print_json
from opsin.commands.train.plan import in_words
from opsin.report.terminal import Terminal
from opsin.report.training_plan import Plan


def tell_plan(planned: Plan, *, as_json: bool) -> None:
    """Print a plan: its layers, what was decided and why, and what it will cost."""
    if as_json:
        print_json(planned.to_json())
        return
    teller = Terminal(console())
    (heading, text), *others = in_words(planned)
    teller.fact(heading, text)
    if planned.layers:
        teller.layers(planned.layers)
    for heading, text in others:
        teller.fact(heading, text)
