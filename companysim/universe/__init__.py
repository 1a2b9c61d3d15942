"""Companies, filings, classifications and prices."""

from companysim.universe.checkup import check_folder
from companysim.universe.panels import panel
from companysim.universe.sample import bundled
from companysim.universe.schemas import COMPANIES, FILINGS, PRICES, RETURNS, TEXTS
from companysim.universe.tables import check_table, read_table
from companysim.universe.universe import Universe, build_universe, log_returns

__all__ = [
    "COMPANIES",
    "FILINGS",
    "PRICES",
    "RETURNS",
    "TEXTS",
    "Universe",
    "build_universe",
    "bundled",
    "check_folder",
    "check_table",
    "log_returns",
    "panel",
    "read_table",
]
