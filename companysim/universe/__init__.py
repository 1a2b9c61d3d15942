"""Companies, filings, classifications and prices."""

from companysim.universe.sample import bundled
from companysim.universe.tables import COMPANIES, FILINGS, PRICES, TEXTS, check_table, read_table
from companysim.universe.universe import Universe, build_universe, log_returns

__all__ = [
    "COMPANIES",
    "FILINGS",
    "PRICES",
    "TEXTS",
    "Universe",
    "build_universe",
    "bundled",
    "check_table",
    "log_returns",
    "read_table",
]
