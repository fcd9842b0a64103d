"""Charts are in the colours of what they show."""

from nicegui import Client, ui

from opsin.studio.ui.charts import map_chart


def test_on_the_map_only_photographs_without_a_class_are_grey() -> None:
    with Client(ui.page("")):
        drawn = map_chart([(0, 0, "b"), (1, 1, ""), (2, 2, "a")], print)
    found = [(one["name"], one["data"], one["itemStyle"]) for one in drawn.options["series"]]
    grey = "Not sorted yet", [(1, 1)], {"color": "var(--muted)"}
    assert found == [grey, ("a", [(2, 2)], {}), ("b", [(0, 0)], {})]
