"""Where the bundled data lies: in the installed package, or in the checkout's ``data`` folder."""

from __future__ import annotations

from pathlib import Path

from companysim.errors import DataError

_PACKAGE = Path(__file__).parents[1]


def bundled(name: str) -> Path:
    """Path of a bundled file or folder, such as ``sample/filings.parquet`` or ``sae``."""
    for home in (_PACKAGE / "_data", _PACKAGE.parent / "data"):
        if (home / name).exists():
            return home / name
    raise DataError(f"the bundled data has no {name}: reinstall companysim")
