"""From the published Sharpe ratio to an honest one, a fault at a time.

Each rung switches one more fault of the published protocol off; the last rung is a book whose decisions see nothing but
the past and pay for their trades. Each fault is also switched off alone, from the published state: where the two
columns differ, faults hide behind one another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from companysim.trading.published import Faults, PublishedProtocol, published

PUBLISHED = "as published"
STEPS: tuple[tuple[str, str], ...] = (
    ("duplicates", "each pair once"),
    ("never_cleared", "positions cleared at their exit"),
    ("shared_account", "own capital for each pair, profits added up by date"),
    ("zscore_hindsight", "mean and sd of the spread from the formation window"),
    ("hedge_hindsight", "hedge ratio from the formation window"),
    ("no_costs", "trading costs"),
    ("same_close", "fills at the next close"),
    ("no_borrow_fee", "borrow fee for the short leg"),
    ("survivors_only", "pairs that did not survive"),
)
"""Faults in the order they are switched off, book-keeping first, then look-ahead, then frictions; what each leaves."""


@dataclass(frozen=True)
class Ladder:
    """Sharpe ratios of one list of pairs, rung by rung.

    Attributes
    ----------
    rungs : DataFrame
        fault (switched off on this rung; "as published" on the first), rung (what the book does from here on), sharpe,
        alone (Sharpe with only this fault off), return_annual, pairs, trades, bookings.
    """

    rungs: pd.DataFrame

    def summary(self) -> dict[str, float | str]:
        """Give the published and the honest Sharpe ratio, and the fault whose removal took most on the way down."""
        sharpe = self.rungs["sharpe"]
        worst = int(np.nanargmax(-sharpe.diff()))
        return {
            "published": float(sharpe.iloc[0]),
            "honest": float(sharpe.iloc[-1]),
            "largest_step": str(self.rungs["fault"][worst]),
            "largest_fall": float(-sharpe.diff()[worst]),
        }

    def to_frame(self) -> pd.DataFrame:
        """Give the rungs as a table."""
        return self.rungs.copy()

    def __str__(self) -> str:
        """Print the Sharpe ratio after each step."""
        lines = [f"{'':<55}{'Sharpe':>8}{'alone':>8}{'pairs':>7}{'trades':>8}{'bookings':>10}"]
        for row in self.rungs.itertuples(index=False):
            alone = "" if row.fault == PUBLISHED else f"{row.alone:.2f}"
            lines.append(
                f"{row.rung:<55}{row.sharpe:>8.2f}{alone:>8}{row.pairs:>7d}{row.trades:>8d}{row.bookings:>10d}"
            )
        return "\n".join(lines)


def ladder(prices: pd.DataFrame, pairs: pd.DataFrame, protocol: PublishedProtocol | None = None) -> Ladder:
    """Walk down from the published protocol to an honest book.

    Parameters
    ----------
    prices, pairs, protocol
        As for `companysim.trading.published.published`; the switches in `protocol.faults` are ignored.

    Raises
    ------
    DataError
        As `published`.
    """
    protocol = replace(protocol or PublishedProtocol(), faults=Faults())
    book = published(prices, pairs, protocol).summary()
    rows = [{"fault": PUBLISHED, "rung": PUBLISHED, **book, "alone": book["sharpe"]}]
    faults = Faults()
    for fault, rung in STEPS:
        faults = replace(faults, **{fault: False})
        alone = published(prices, pairs, replace(protocol, faults=replace(Faults(), **{fault: False}))).summary()
        book = published(prices, pairs, replace(protocol, faults=faults)).summary()
        rows.append({"fault": fault, "rung": rung, **book, "alone": alone["sharpe"]})
    columns = ["fault", "rung", "sharpe", "alone", "return_annual", "pairs", "trades", "bookings"]
    return Ladder(pd.DataFrame(rows)[columns])
