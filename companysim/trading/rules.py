"""What a pairs trader decides beforehand: when to open and close, and how much may be open at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from companysim.errors import ConfigError


@dataclass(frozen=True)
class Rules:
    """When to open and to close; z counts standard deviations of the spread.

    Attributes
    ----------
    entry : float
        Open against the spread when ``entry <= |z| < stop``.
    exit : float
        Close when the spread has come back to ``exit`` on the side it came from (0: to its mean).
    stop : float
        Close when ``|z|`` reaches this on the wrong side.
    max_days : int
        Close after this many trading days.
    reentry : {"crossing", "inside", "never"}
        What a pair waits for after a stop or a time-out: that z has crossed 0, that ``|z| < entry``, or for ever.
    pause : int
        Trading days without a new order after a stop or a time-out, whatever z does.
    zscore_days : int, optional
        None: intercept and standard deviation stay those of the formation window. Otherwise mean and standard
        deviation (n - 1) of the spread over so many days that end today, of which at least half must have it.
    hedge : {"beta", "dollar"}
        Legs of ``1 : |hedge_ratio|``, which hold the spread, or of equal value. A negative hedge ratio puts both
        legs on the same side.
    lag : int
        Days from signal to fill, at least 1.
    delisted_after : int
        A line without a price for so many days in a row is deemed delisted and not traded again, even if prices
        return: nobody knew on the first day without a price whether another one would come.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """

    entry: float = 2.0
    exit: float = 0.0
    stop: float = 4.0
    max_days: int = 126
    reentry: Literal["crossing", "inside", "never"] = "crossing"
    pause: int = 0
    zscore_days: int | None = None
    hedge: Literal["beta", "dollar"] = "beta"
    lag: int = 1
    delisted_after: int = 10

    def __post_init__(self) -> None:
        if not (self.exit < self.entry < self.stop and self.entry > 0):
            raise ConfigError(
                f"exit {self.exit:g}, entry {self.entry:g}, stop {self.stop:g}: they must ascend, entry above 0"
            )
        for name, lowest in (("max_days", 1), ("pause", 0), ("zscore_days", 3), ("lag", 1), ("delisted_after", 1)):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ConfigError(f"{name} is {value}: it must be at least {lowest}")
        for name, known in (("reentry", ("crossing", "inside", "never")), ("hedge", ("beta", "dollar"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(known)}")


@dataclass(frozen=True)
class Limits:
    """What an account may hold at once. Orders compete by signal strength (``|z|``), then by name.

    A place is taken when the order is placed and given back when the position is closed or the order withdrawn.

    Attributes
    ----------
    max_open : int, optional
        Pairs open or about to be opened.
    max_per_company : int, optional
        Of these, pairs that have the same company as a leg.

    Raises
    ------
    ConfigError
        If a limit is below 1.
    """

    max_open: int | None = None
    max_per_company: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_open", "max_per_company"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: it must be at least 1")

    def __bool__(self) -> bool:
        """Whether anything is bounded."""
        return self.max_open is not None or self.max_per_company is not None
