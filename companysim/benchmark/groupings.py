"""Ways to say which companies are alike: clusters, similarities, codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

LEVELS: Mapping[str, tuple[int, ...]] = {"sic": (4, 3, 2), "gics": (8, 6, 4, 2), "ff48": ()}
"""Digits of each level of a scheme, finest first; a scheme without digits has one level."""


@dataclass(frozen=True)
class Grouping:
    """One way to say which companies are alike.

    Attributes
    ----------
    name : str
    labels : ndarray of int64, shape (n,)
        Cluster of each company, negative where it has none.
    similarity : ndarray, shape (n, n)
        For a classification, the number of code levels two companies share. NaN where there is none.
    levels : mapping of str to ndarray of int64, shape (n,)
        Of a classification: its levels (``sic4``, ``sic3``, ``sic2``) and each company's group in them, finest first.
    """

    name: str
    labels: np.ndarray
    similarity: np.ndarray
    levels: Mapping[str, np.ndarray] = field(default_factory=dict)


def classification(name: str, codes: Sequence[str]) -> Grouping:
    """Group companies by their code in a scheme of `LEVELS`; companies with an empty code are in no group.

    The similarity is the number of levels at which two codes agree (SIC: 4, 3, 2 digits), -1 if one is missing.
    """
    values = np.asarray(codes, dtype=object)
    known = np.array([bool(code) for code in values], dtype=bool)
    similarity = np.zeros((len(values), len(values)))
    levels = {}
    for digits in LEVELS[name] or (None,):
        prefixes = np.array([str(code)[:digits] for code in values])
        groups = np.full(len(values), -1)
        groups[known] = np.unique(prefixes[known], return_inverse=True)[1]
        levels[f"{name}{digits}" if digits else name] = groups
        similarity += np.equal.outer(groups, groups)
    both = np.logical_and.outer(known, known)
    return Grouping(name, next(iter(levels.values())), np.where(both, similarity, -1.0), levels)


def partition(name: str, groups: Sequence[object]) -> Grouping:
    """Make a grouping of a plain partition; companies with a missing, empty or negative group are in none.

    Two companies are similar (1) if they are in one group, and else not (0).
    """
    values = [_group(group) for group in groups]
    known = np.array([value is not None for value in values], dtype=bool)
    labels = np.full(len(values), -1)
    labels[known] = np.unique([str(value) for value in values if value is not None], return_inverse=True)[1]
    same = np.equal.outer(labels, labels) & (labels >= 0)
    return Grouping(name, labels, same.astype(float))


def _group(value: object) -> object | None:
    if value is None or (isinstance(value, float) and np.isnan(value)) or str(value).strip() in ("", "nan", "<NA>"):
        return None
    if isinstance(value, int | float | np.number) and value < 0:
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value
