"""The placebo: books formed and traded in the same way from random pairs.

"Cointegrated" pairs are found among any pairs. What a grouping has to beat is the whole procedure, screen included,
on as many random candidates as the grouping named in each window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from companysim.trading.performance import sharpe
from companysim.trading.walk_forward import Protocol, Window, formation_prices, ordered, screen, select, trade

_COLUMNS = 20_000  # pairs simulated at once where the books' limits make each book a simulation of its own


def placebo(
    prices: pd.DataFrame, counts: Sequence[tuple[int, ...]], protocol: Protocol, *, pool: int, books: int, seed: int
) -> dict[tuple[int, ...], np.ndarray]:
    """Net Sharpe ratios of books formed the same way from random pairs.

    Parameters
    ----------
    counts : sequence of tuple of int
        For each grouping the numbers of candidate pairs in each window, as in `Backtest.counts`.
    pool : int
        Random pairs tested once a window; each book draws its candidates from them without replacement.
    books : int
        Books drawn for each grouping.

    Returns
    -------
    dict of counts to ndarray, shape (books,)
        NaN where a book found no pair to trade in any window.
    """
    prices = ordered(prices)
    wanted = sorted(set(counts))
    daily: dict[tuple[int, ...], list[np.ndarray]] = {each: [] for each in wanted}
    for step, window in enumerate(protocol.windows):
        rng = np.random.default_rng([seed, step])
        i, j = np.triu_indices(prices.shape[1], 1)
        drawn = np.sort(rng.choice(len(i), size=min(pool, len(i)), replace=False))
        tested = screen(formation_prices(prices, window), i[drawn], j[drawn])
        passing = select(tested.assign(row=np.arange(len(tested))), protocol.p_value, len(tested))
        place = np.full(len(tested), -1)
        place[passing["row"].to_numpy(dtype=int)] = np.arange(len(passing))  # in order of p-value
        profits: dict[int, np.ndarray] = {}
        # Without limits a pair earns the same in every book, so each pair is simulated once.
        alone = None if protocol.limits else trade(prices, window, passing, protocol).net
        for count in sorted({each[step] for each in wanted}):
            # Seeded by the count, so that one grouping's placebo does not depend on the others.
            draw = np.random.default_rng([seed, count, step])
            members = []
            for _ in range(books):
                found = place[draw.choice(len(tested), size=min(count, len(tested)), replace=False)]
                members.append(np.sort(found[found >= 0])[: protocol.max_pairs])
            if alone is not None:
                profits[count] = alone @ _weights(members, len(passing), protocol)
            else:
                profits[count] = _limited(prices, window, passing, members, protocol)
        for each in wanted:
            daily[each].append(profits[each[step]])
    return {each: sharpe(np.concatenate(parts) / protocol.capital) for each, parts in daily.items()}


def placebo_p(value: float, books: np.ndarray) -> float:
    """Chance that a placebo book does as well: ``(1 + number of books >= value) / (1 + number of books)``.

    Books without a trade, which have no ratio, are left out; NaN where `value` is, or where no book has one.
    """
    books = books[np.isfinite(books)]
    if not (np.isfinite(value) and len(books)):
        return float("nan")
    return float((1 + (books >= value).sum()) / (1 + len(books)))


def _weights(members: list[np.ndarray], pairs: int, protocol: Protocol) -> np.ndarray:
    """Size of each pair's positions in each book, shape (pairs, books)."""
    result = np.zeros((pairs, len(members)))
    for book, chosen in enumerate(members):
        result[chosen, book] = protocol.size(len(chosen))
    return result


def _limited(
    prices: pd.DataFrame, window: Window, passing: pd.DataFrame, members: list[np.ndarray], protocol: Protocol
) -> np.ndarray:
    """Daily net profit of books whose limits make pairs compete, shape (days, books): each book is an account."""
    sizes = np.array([len(chosen) for chosen in members])
    chunk = np.cumsum(sizes) // _COLUMNS
    parts = []
    for number in range(int(chunk[-1]) + 1):
        books = np.flatnonzero(chunk == number)
        chosen = np.concatenate([members[book] for book in books]) if len(books) else np.zeros(0, dtype=np.int64)
        accounts = np.repeat(np.arange(len(books)), sizes[books])
        net = trade(prices, window, passing.iloc[chosen], protocol, accounts=accounts).net
        weights = np.zeros((len(chosen), len(books)))
        weights[np.arange(len(chosen)), accounts] = [protocol.size(sizes[books[account]]) for account in accounts]
        parts.append(net @ weights)
    return np.concatenate(parts, axis=1)
