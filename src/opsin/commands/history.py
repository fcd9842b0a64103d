"""The epochs of a run as its user holds them: a list, a table in notebooks, a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsin.core.arguments import checked
from opsin.core.artifacts.records import Epoch
from opsin.core.errors import MissingExtraError
from opsin.core.format import clock

if TYPE_CHECKING:
    import pandas as pd


@checked
class History(list[Epoch]):
    """The figures of each epoch, in order."""

    def frame(self) -> pd.DataFrame:
        """Return a row for each epoch, by its number, and a column for each of its figures."""
        try:
            import pandas as pd  # noqa: PLC0415  takes a second to load
        except ImportError as error:
            raise MissingExtraError("data frames", "evaluate") from error

        rows = [
            {
                **epoch.model_dump(exclude={"norms"}),
                **{f"norms.{layer}": norm for layer, norm in epoch.norms.items()},
            }
            for epoch in self
        ]
        always = [name for name in Epoch.model_fields if name != "norms"]
        columns = dict.fromkeys([*always, *(name for row in rows for name in row)])
        return pd.DataFrame(rows, columns=list(columns)).set_index("epoch")

    def _repr_html_(self) -> str:
        # The last that none before it was better than is the one that is delivered.
        best = next((epoch for epoch in reversed(self) if epoch.best), None)
        heads = ("epoch", "train loss", "acc", "val loss", "acc", "rate", "time")
        rows = ["".join(f"<th>{head}</th>" for head in heads)]
        for epoch in self:
            cells = (
                f"{epoch.epoch}/{epoch.epochs}",
                *(f"{epoch.train_loss:.3f}", f"{epoch.train_accuracy:.4f}"),
                *(f"{epoch.val_loss:.3f}", f"{epoch.val_accuracy:.4f}"),
                *(f"{epoch.rate:.2g}", clock(epoch.seconds)),
            )
            tag = "th" if epoch is best else "td"
            rows.append("".join(f"<{tag}>{cell}</{tag}>" for cell in cells))
        table = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<div style='max-height:30em;overflow:auto'><table>{table}</table></div>"
