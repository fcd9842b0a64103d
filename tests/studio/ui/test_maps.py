"""Confidence as people read it."""

from opsin.studio.ui.maps import confidence_of


def test_no_classifier_is_certain() -> None:
    assert list(map(confidence_of, (0.9999, 0.962, 0.0001))) == [">99%", "96%", "<1%"]
