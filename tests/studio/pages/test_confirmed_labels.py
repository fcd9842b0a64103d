"""A label that was confirmed stays so, in another process too, until that is taken back."""

from __future__ import annotations

from pathlib import Path

from opsin.studio.pages.photo_things import ConfirmedLabels


def test_confirmed_labels_are_kept_and_taken_back(tmp_path: Path) -> None:
    labels = ConfirmedLabels(tmp_path / "set")
    assert labels.read() == set()
    labels.change(add=[("aa", "glass"), ("bb", "metal")])
    ConfirmedLabels(tmp_path / "set").change(remove=[("aa", "glass")], add=[("cc", "metal")])
    assert labels.read() == {("bb", "metal"), ("cc", "metal")}
    (tmp_path / "set" / "confirmed.json").write_text("[1]", encoding="utf-8")
    assert labels.read() == set()
