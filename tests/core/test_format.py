"""Figures have units and intervals, and the digits that matter."""

from opsin.core.format import ago, clock, file_size, with_interval


def test_figures_have_units_and_the_digits_that_matter() -> None:
    assert [clock(t) for t in (0.2, 59.6, 72, 3849)] == ["0:00", "1:00", "1:12", "1:04:09"]
    then = [ago(1e9, now=1e9 + t) for t in (-5, 3600, 86_400, 3 * 86_400)]
    assert then == ["just now", "1 h ago", "yesterday", "3 days ago"]
    sizes = [file_size(n) for n in (-1, 999, 1_000, 12_400, 9_990_000, 12_400_000, 1.2e9)]
    assert sizes == ["0 B", "999 B", "1.0 kB", "0.01 MB", "9.99 MB", "12.4 MB", "1.2 GB"]
    assert with_interval(None) == "–"
    assert with_interval(1.0, 0.9963, 1.0) == "1.0000 ± 0.0037"
