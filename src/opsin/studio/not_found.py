"""Errors that only the studio has."""

from __future__ import annotations

from opsin.core.errors import OpsinError


class NotThere(OpsinError):  # noqa: N818  it is what the page says, with status 404
    """An address that leads to nothing: a run, a set, an image or a job that is gone."""
