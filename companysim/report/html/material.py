"""What the report needs of a run beyond its tables, each read or computed once."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from companysim.benchmark import calendar_windows
from companysim.results import Run
from companysim.universe import log_returns


class Material:
    """Arrays of a run in the order of `Run.companies`.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def similarity(self) -> np.ndarray:
        """Cosine of the SAE vectors, shape (companies, companies)."""
        found: np.ndarray = self.run.vectors @ self.run.vectors.T
        return found

    @cached_property
    def monthly(self) -> dict[int, np.ndarray]:
        """Correlations of monthly log returns by year: what the benchmark judges by."""
        years = self.run.summary["benchmark_years"]
        windows = calendar_windows(log_returns(self.run.prices), range(min(years), max(years) + 1))
        found = windows.correlations()
        return {year: found[year] for year in years}
