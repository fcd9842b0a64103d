"""Figures in one look, drawn by matplotlib."""

from opsin.core.errors import MissingExtraError

try:
    import matplotlib as mpl  # noqa: F401  asked for here, so that no module below can be half imported
except ImportError as error:
    raise MissingExtraError("figures", "evaluate") from error
