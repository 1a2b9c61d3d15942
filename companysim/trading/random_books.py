"""The placebo: books formed and traded in the same way from random pairs.

"Cointegrated" pairs are found among any pairs. What a grouping has to beat is the whole procedure, screen included,
on as many random candidates as the grouping named in each window.

Books drawn from all pairs of the universe make this a permutation test, exact if the grouping's pairs are like any
others. Where there are more than one cares to test, a pool of P random ones stands for all. Books of n pairs that share
a pool are too much alike: the variance of their mean is too small by the factor ``1 - n / P`` (at n = P they are all
the same book), and their centre is off by the pool's own luck, which adds ``n / P`` to the variance of the grouping's
mean around it. A grouping is thus up to ``sqrt((1 + n / P) / (1 - n / P))`` times as far out as it seems: 5 % at
P = `PER_CANDIDATE` n, where a p-value of 0.05 means 0.06.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from companysim.trading.performance import sharpe
from companysim.trading.walk_forward import (
    Protocol,
    Window,
    complete,
    formation_prices,
    ordered,
    screen,
    select,
    tradable_windows,
    trade,
)

PER_CANDIDATE = 20
"""The pool holds at least so many pairs for each candidate of a grouping, or all there are."""
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
        At least so many random pairs are tested once a window, and never fewer than `PER_CANDIDATE` times a grouping's
        candidates; all pairs where there are no more. Each book draws its candidates from them without replacement.
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
    for step, window in enumerate(tradable_windows(prices, protocol.windows)):
        formation = formation_prices(prices, window)
        companies = np.flatnonzero(complete(formation))
        i, j = companies[np.stack(np.triu_indices(len(companies), 1))]
        # One order of all pairs, of which every pool is the beginning: no grouping's pool depends on the others'.
        order = np.random.default_rng([seed, step]).permutation(len(i))
        sizes = {each[step]: max(pool, PER_CANDIDATE * each[step]) for each in wanted}
        longest = order[: max(sizes.values())]
        tested = screen(formation, i[longest], j[longest])
        place = np.full(len(longest), -1)
        passing = select(tested.assign(place=tested.index), protocol.p_value, len(tested))
        place[passing["place"]] = np.arange(len(passing))  # in order of p-value
        profits: dict[int, np.ndarray] = {}
        # Without limits a pair earns the same in every book, so each pair is simulated once.
        alone = None if protocol.limits else trade(prices, window, passing, protocol).net
        for count, size in sorted(sizes.items()):
            drawn_from = tested.index[tested.index < size].to_numpy()
            # Seeded by the count, so that one grouping's placebo does not depend on the others.
            draw = np.random.default_rng([seed, count, step])
            members = []
            for _ in range(books):
                found = place[draw.choice(drawn_from, size=min(count, len(drawn_from)), replace=False)]
                members.append(np.sort(found[found >= 0])[: protocol.max_pairs])
            if alone is not None:
                weights = _weights(members, len(passing), protocol)
                held = weights.any(axis=1)
                profits[count] = alone[:, held] @ weights[held]
            else:
                profits[count] = _limited(prices, window, passing, members, protocol)
        for each in wanted:
            daily[each].append(profits[each[step]])
    return {each: sharpe(np.concatenate(parts) / protocol.capital) for each, parts in daily.items()}


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
