"""The smallest rule that recovers a group: a short conjunction of latents that fire, or fire strongly enough."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

POOL = 256
"""Latents whose conditions are looked at: those with the largest difference between members and others."""
CANDIDATES = 64
"""Conditions of which all pairs and triples are tried."""
LEVELS = 10
"""Thresholds tried for each latent, at quantiles of the members, beside its mere presence."""
GAIN = 0.05
"""F1 a further condition must add, or the shorter rule is kept."""
FOLDS = 5
TINY = 1e-9
"""More than rounding."""


@dataclass(frozen=True)
class Condition:
    """A latent is at least as strong as a threshold; at 0 it is enough that it fires.

    Attributes
    ----------
    latent : int
    threshold : float
        In the units of the strengths the rule was searched on.
    """

    latent: int
    threshold: float


@dataclass(frozen=True)
class Rule:
    """A conjunction of conditions and how well it recovers the group it was searched for.

    Attributes
    ----------
    conditions : tuple of Condition
    precision, recall : float
        Share of those for whom the rule holds that are members, and share of the members for whom it holds.
    """

    conditions: tuple[Condition, ...]
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def holds(self, strength: sp.csr_array) -> np.ndarray:
        """Whether the rule holds for each row, shape (rows,), bool."""
        columns = strength[:, [condition.latent for condition in self.conditions]].toarray()
        met = [
            column >= condition.threshold if condition.threshold > 0 else column > 0
            for column, condition in zip(columns.T, self.conditions, strict=True)
        ]
        result: np.ndarray = np.logical_and.reduce(met)
        return result


def smallest_rule(strength: sp.csr_array, members: np.ndarray) -> Rule:
    """Search the shortest conjunction of at most three conditions that recovers the members.

    Of the latents that fire in a member, the 256 that differ most between members and others (difference of means over
    the standard deviation) make conditions: "it fires" and "it is at least this strong", with thresholds at ten
    quantiles of the members. Every condition is tried alone; the 64 with the highest F2 (recall counts twice, since a
    conjunction can mend precision only) are tried in all pairs and triples. The rule with the highest F1 is kept, but a
    further condition must add 0.05 to it. A threshold is set midway between the weakest row for which the rule holds
    and the strongest that fails it by this condition alone.

    The figures of the rule are in-sample: with thousands of latents a small group can nearly always be recovered.
    `held_out` says how much of that is luck.

    Parameters
    ----------
    strength : csr_array, shape (rows, latents)
        How strongly each latent fires, 0 or more.
    members : ndarray of bool, shape (rows,)
    """
    pool = _different(strength, members)
    block = strength[:, pool].toarray()
    column, threshold = _conditions(block, members)
    met = np.ascontiguousarray(block.T)[column] >= np.where(threshold > 0, threshold, np.finfo(float).tiny)[:, None]
    size = int(members.sum())
    hits, predicted = met[:, members].sum(axis=1), met.sum(axis=1)
    best = _best(2 * hits / (size + predicted))
    candidates = np.argsort(-5 * hits / (4 * size + predicted), kind="stable")[:CANDIDATES]
    chosen: tuple[float, tuple[int, ...]] = (best[0], (best[1],))
    for f1, some in _conjunctions(met[candidates], members):
        if f1 > chosen[0] + GAIN + TINY:
            chosen = (f1, tuple(int(candidates[place]) for place in some))
    places = sorted(chosen[1], key=lambda one: int(pool[column[one]]))
    holds = np.logical_and.reduce(met[places])
    levels = _loosened(block[:, column[places]], threshold[places])
    conditions = tuple(Condition(int(pool[column[one]]), level) for one, level in zip(places, levels, strict=True))
    hit = int((holds & members).sum())
    return Rule(conditions, hit / int(holds.sum()) if holds.any() else 0.0, hit / size)


def held_out(strength: sp.csr_array, members: np.ndarray, names: Sequence[str]) -> tuple[float, float]:
    """Precision and recall of the rule on rows it was not searched on.

    Members and others are dealt into as many parts as there are members, five at most; the rule is searched without
    each part in turn and tried on it. The deal depends on the names alone and not on the order of the rows.

    Parameters
    ----------
    strength, members
        As in `smallest_rule`.
    names : sequence of str, shape (rows,)
        Distinct.

    Returns
    -------
    precision, recall : float
        NaN for a group of one; precision is 0 where the rule holds for no row.
    """
    folds = min(int(members.sum()), FOLDS)
    if folds < 2:
        return float("nan"), float("nan")
    part = np.zeros(len(names), dtype=int)
    for kind in (members, ~members):
        rows = sorted(np.flatnonzero(kind), key=lambda row: (zlib.crc32(names[int(row)].encode()), names[int(row)]))
        part[rows] = np.arange(len(rows)) % folds
    holds = np.zeros(len(names), dtype=bool)
    for fold in range(folds):
        out = part == fold
        rule = smallest_rule(strength[~out], members[~out])
        holds[out] = rule.holds(strength[out])
    hit = int((holds & members).sum())
    return hit / int(holds.sum()) if holds.any() else 0.0, hit / int(members.sum())


def _different(strength: sp.csr_array, members: np.ndarray) -> np.ndarray:
    """Latents that fire in a member, those first whose mean differs most between members and others; ties by number."""
    row = np.repeat(members, np.diff(strength.indptr))
    values, width, rows = strength.data.astype(np.float64), strength.shape[1], len(members)
    total, square = (np.bincount(strength.indices, v, width) for v in (values, values**2))
    inside = np.bincount(strength.indices[row], values[row], width)
    outside = (total - inside) / max(rows - members.sum(), 1)
    spread = np.sqrt(np.maximum(square / rows - (total / rows) ** 2, 0.0))
    apart = inside / members.sum() - outside
    score = np.divide(apart, spread, out=np.zeros_like(spread), where=spread > 0)
    firing = np.flatnonzero(inside > 0)
    order = np.argsort(-np.round(score[firing], 9), kind="stable")  # rounded: sums depend on the order of the rows
    kept: np.ndarray = firing[order][:POOL]
    return kept


def _conditions(block: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column and threshold of each distinct condition that some member meets; mere presence has threshold 0."""
    levels = np.quantile(block[members], np.arange(LEVELS) / LEVELS, axis=0, method="higher")
    pairs = {(column, 0.0) for column in range(block.shape[1])}
    pairs |= {(column, float(level)) for row in levels for column, level in enumerate(row)}
    ordered = sorted(pairs, key=lambda pair: (pair[1] > 0, *pair))
    return np.array([pair[0] for pair in ordered]), np.array([pair[1] for pair in ordered])


def _best(f1: np.ndarray) -> tuple[float, int]:
    place = int(np.argmax(f1))
    return float(f1[place]), place


def _conjunctions(met: np.ndarray, members: np.ndarray) -> list[tuple[float, tuple[int, ...]]]:
    """Find the pair and the triple of conditions with the highest F1; the first of those that tie."""
    every, inside = met.astype(np.float32), met[:, members].astype(np.float32)
    size = inside.shape[1]
    found: dict[int, tuple[float, tuple[int, ...]]] = {2: (-1.0, ()), 3: (-1.0, ())}
    for first in range(len(met) - 1):
        both, both_inside = every[first + 1 :] * every[first], inside[first + 1 :] * inside[first]
        predicted, hits = both @ every[first + 1 :].T, both_inside @ inside[first + 1 :].T
        f1 = 2 * hits / (size + predicted.astype(np.float64))
        # The diagonal holds pairs: a condition and itself.
        for number, table in ((2, np.diag(np.diag(f1))), (3, np.triu(f1, 1))):
            place = int(np.argmax(table))
            if table.flat[place] > found[number][0]:
                second, third = first + 1 + np.array(np.divmod(place, len(table)))
                some = (first, int(second), int(third))[:number]
                found[number] = (float(table.flat[place]), some)
    return [found[number] for number in (2, 3) if found[number][1]]


def _loosened(values: np.ndarray, thresholds: np.ndarray) -> list[float]:
    """Put each threshold midway between the rows for which the rule holds and those that fail this condition alone."""
    loose = thresholds.copy()
    for place in np.flatnonzero(thresholds > 0):
        met = np.where(loose > 0, values >= loose, values > 0)
        others = np.delete(met, place, axis=1).all(axis=1)
        below = values[others & ~met[:, place], place]
        if len(below):
            loose[place] = (values[met.all(axis=1), place].min() + below.max()) / 2
    return [float(threshold) for threshold in loose]
