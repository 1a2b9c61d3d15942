"""Where tables and sentences are printed."""

from __future__ import annotations

import sys

from rich.console import Console


def terminal() -> Console:
    """Return standard output, at the terminal's width where there is one; wide enough for the tables in a file or pipe.

    Names and texts of companies are printed as they are: nothing in them is markup, an emoji's code or coloured.
    """
    width = None if sys.stdout.isatty() else 140
    return Console(width=width, markup=False, emoji=False, highlight=False)
