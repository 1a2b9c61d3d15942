"""Groupings as they became readable: a question about a day is answered with what existed on that day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from companysim.errors import DataError
from companysim.trading.candidates import cluster_pairs


@dataclass(frozen=True)
class Partitions:
    """Dated partitions of companies; calling one gives the candidate pairs of a day.

    Attributes
    ----------
    table : DataFrame
        date (first day on which the partition was readable), ticker, cluster (any label; negative, empty or missing
        for none). All rows of one date are one partition, which replaces the one before.

    Raises
    ------
    DataError
        If there is no row, a date is missing, or a company is twice in one partition.
    """

    table: pd.DataFrame

    def __post_init__(self) -> None:
        if self.table.empty or self.table["date"].isna().any():
            raise DataError("a grouping needs at least one row, and a date on every row")
        twice = self.table.duplicated(["date", "ticker"])
        if twice.any():
            row = self.table[twice].iloc[0]
            raise DataError(f"{row['ticker']} is twice in the grouping of {row['date']:%Y-%m-%d}: keep one row")

    @classmethod
    def single(cls, tickers: pd.Index, labels: np.ndarray, date: pd.Timestamp) -> Partitions:
        """One partition, readable from `date` on."""
        if len(tickers) != len(labels):
            raise DataError(f"{len(labels)} labels for {len(tickers)} companies: give one label a company")
        return cls(pd.DataFrame({"date": date, "ticker": tickers, "cluster": labels}))

    @property
    def first(self) -> pd.Timestamp:
        """Day on which the first partition became readable."""
        found: pd.Timestamp = self.table["date"].min()
        return found

    def labels(self, day: pd.Timestamp, tickers: pd.Index) -> np.ndarray:
        """Cluster of each ticker, numbered from 0, in the last partition dated on or before `day`; -1 for none.

        Raises
        ------
        DataError
            If no partition was readable on that day.
        """
        known = self.table["date"] <= day
        if not known.any():
            raise DataError(
                f"the first grouping is dated {self.first:%Y-%m-%d}, after the formation end {day:%Y-%m-%d}: "
                "start later, or date a grouping by the day on which it was readable"
            )
        latest = self.table[self.table["date"] == self.table["date"][known].max()]
        cluster = latest.set_index("ticker")["cluster"].reindex(tickers)
        if pd.api.types.is_numeric_dtype(cluster):
            cluster = cluster.where(cluster >= 0)
        else:
            cluster = cluster.where(cluster.notna() & (cluster.astype(str).str.strip() != ""))
        codes: np.ndarray = pd.factorize(cluster, use_na_sentinel=True)[0]
        return codes

    def __call__(self, day: pd.Timestamp, tickers: pd.Index) -> tuple[np.ndarray, np.ndarray]:
        """All pairs inside the clusters readable on `day`, as positions in `tickers`."""
        return cluster_pairs(self.labels(day, tickers))
