"""What trading costs: commission and spread on every fill, a fee for borrowed shares, interest on cash."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from companysim.errors import ConfigError

CALENDAR_DAYS = 365
"""Fees and interest accrue by the calendar day, weekends included, on a 365-day year."""


@dataclass(frozen=True)
class Costs:
    """Prices of trading, all of them yearly rates or shares of the value traded.

    Attributes
    ----------
    commission_bp : float
        Commission of each leg at entry and at exit, basis points of the value traded.
    half_spread_bp : float
        Half the quoted spread, which each leg gives up at entry and at exit, basis points of the value traded.
    borrow_percent : float
        Fee for shares sold short, percent of their value a year.
    cash_percent : float
        Interest on cash, percent a year: the account's capital earns it, and so do the proceeds of short sales; what
        long positions tie up pays it. A book's profit is therefore what it earns beyond cash.
    delisting_return : float
        Return between a delisted line's last price and what its holders got: 0 closes at the last price, -0.3 is the
        mean of performance delistings (Shumway 1997), -1 a worthless share.

    Raises
    ------
    ConfigError
        If a rate is negative or not finite, or the delisting return is below -1.
    """

    commission_bp: float = 1.0
    half_spread_bp: float = 4.0
    borrow_percent: float = 1.0
    cash_percent: float = 0.0
    delisting_return: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, lowest = getattr(self, field.name), -1 if field.name == "delisting_return" else 0
            if not (np.isfinite(value) and value >= lowest):
                raise ConfigError(f"{field.name} is {value:g}: it must be finite and at least {lowest}")

    def fill(self, value: np.ndarray) -> np.ndarray:
        """Commission and half spread of fills worth `value` (absolute)."""
        result: np.ndarray = (self.commission_bp + self.half_spread_bp) / 1e4 * value
        return result

    def carry(self, long: np.ndarray, short: np.ndarray, days: float) -> np.ndarray:
        """Fees and interest for having held shares worth `long` and `short` (absolute) over `days` calendar days."""
        yearly: np.ndarray = self.borrow_percent * short + self.cash_percent * (long - short)
        result: np.ndarray = days / CALENDAR_DAYS / 100 * yearly
        return result

    def interest(self, days: np.ndarray) -> np.ndarray:
        """Return of the capital itself over `days` calendar days."""
        result: np.ndarray = days / CALENDAR_DAYS / 100 * self.cash_percent
        return result
