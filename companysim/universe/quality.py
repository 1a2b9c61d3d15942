"""What looks wrong in prices that are formally right: gaps, jumps, stale stretches, lines that end.

Nothing is changed here. A flag is a reason to look, not an error: companies do double in a day, and do stop trading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

GAP_DAYS = 5
STALE_DAYS = 10
ENDED_DAYS = 10
RISE, FALL = 1.0, -0.5
KINDS = ("gap", "jump", "stale", "ended")


@dataclass(frozen=True)
class Quality:
    """Flags on a panel of prices.

    Attributes
    ----------
    flags : DataFrame
        ticker, kind (one of `KINDS`), date (of the first day concerned), until (of the last), value (days missing or
        unchanged, days since the last price, or the return), sentence; sorted by ticker, date and kind.
    lines : DataFrame
        ticker, first, last (day), days (with a price), flags (how many); sorted by ticker.
    """

    flags: pd.DataFrame
    lines: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return `flags`."""
        return self.flags

    def summary(self) -> str:
        """Say in one line what was found."""
        lines = f"{len(self.lines)} lines, {self.lines['first'].min():%Y-%m-%d} to {self.lines['last'].max():%Y-%m-%d}"
        counts = self.flags["kind"].value_counts()
        found = [f"{counts[kind]} {kind}" for kind in KINDS if kind in counts]
        return f"{lines}: {', '.join(found) or 'nothing flagged'}"


def quality(prices: pd.DataFrame) -> Quality:
    """Flag what looks wrong in a panel of daily prices.

    - gap: `GAP_DAYS` or more days in a row on which the market had prices and the line, between its first and its last,
      had none. The market has prices where at least half of the lines that have begun and not ended do.
    - jump: a return between neighbouring prices above +100 % or below -50 %; taken back by the next return where
      that undoes at least half of it, the mark of a bad tick.
    - stale: `STALE_DAYS` or more prices in a row that are the same.
    - ended: the last price is more than `ENDED_DAYS` market days before the panel's last: delisted, renamed or lost.

    Parameters
    ----------
    prices : DataFrame, shape (days, tickers)
        Adjusted closes, NaN where there is none.

    Returns
    -------
    Quality
    """
    dated = prices.sort_index().sort_index(axis=1)
    days = pd.DatetimeIndex(dated.index)
    values = dated.to_numpy(dtype=float)
    seen = np.isfinite(values)
    first, last = seen.argmax(axis=0), len(days) - 1 - seen[::-1].argmax(axis=0)
    places = np.arange(len(days))[:, None]
    alive = (places >= first) & (places <= last) & seen.any(axis=0)
    market = seen.sum(axis=1) * 2 >= np.maximum(alive.sum(axis=1), 1)
    session = np.cumsum(market)
    flags: list[tuple[str, str, pd.Timestamp, pd.Timestamp, float, str]] = []

    def flag(ticker: str, kind: str, start: int, stop: int, value: float, sentence: str) -> None:
        flags.append((ticker, kind, days[start], days[stop], value, f"{ticker} {sentence}"))

    lines = []
    for column, ticker in enumerate(map(str, dated.columns)):
        rows = np.flatnonzero(seen[:, column])
        if not len(rows):
            continue
        before = len(flags)
        x = values[rows, column]
        missed = session[rows[1:] - 1] - session[rows[:-1]]
        for k in np.flatnonzero(missed >= GAP_DAYS):
            start, stop = rows[k] + 1, rows[k + 1] - 1
            said = f"has no price for {missed[k]} days from {days[start]:%Y-%m-%d} to {days[stop]:%Y-%m-%d}"
            flag(ticker, "gap", start, stop, float(missed[k]), said)
        change = x[1:] / x[:-1] - 1
        for k in np.flatnonzero((change > RISE) | (change < FALL)):
            log, following = np.log1p(change[k]), np.log1p(change[k + 1]) if k + 1 < len(change) else 0.0
            back = np.sign(following) == -np.sign(log) and abs(following) >= abs(log) / 2
            tick = ", taken back by the next price: a bad tick?" if back else ""
            day = rows[k + 1]
            flag(ticker, "jump", day, day, float(change[k]), f"moves by {change[k]:+.0%} on {days[day]:%Y-%m-%d}{tick}")
        edges = np.flatnonzero(np.diff(x) != 0) + 1
        starts, stops = np.r_[0, edges], np.r_[edges, len(x)] - 1
        for start, stop in zip(starts, stops, strict=True):
            if stop - start + 1 >= STALE_DAYS:
                where = f"from {days[rows[start]]:%Y-%m-%d} to {days[rows[stop]]:%Y-%m-%d}"
                said = f"stays at {x[start]:g} for {stop - start + 1} days {where}"
                flag(ticker, "stale", rows[start], rows[stop], float(stop - start + 1), said)
        since = int(session[-1] - session[rows[-1]])
        if since > ENDED_DAYS:
            said = f"ends on {days[rows[-1]]:%Y-%m-%d}, {since} days before the others: delisted, renamed or lost"
            flag(ticker, "ended", rows[-1], rows[-1], float(since), said)
        lines.append((ticker, days[rows[0]], days[rows[-1]], len(rows), len(flags) - before))
    columns = ["ticker", "kind", "date", "until", "value", "sentence"]
    table = pd.DataFrame(flags, columns=columns).sort_values(["ticker", "date", "kind"], ignore_index=True)
    return Quality(table, pd.DataFrame(lines, columns=["ticker", "first", "last", "days", "flags"]))
