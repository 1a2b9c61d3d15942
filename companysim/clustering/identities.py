"""Groups followed from year to year: which cluster of this year is which of last year."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from companysim.errors import DataError

Groups = dict[int, set[str]]  # identity -> members

@dataclass(frozen=True)
class ClusterIdentities:
    """Clusters of all years under names that last.

    Attributes
    ----------
    members : DataFrame
        year, identity, cluster (the year's own label), and the member; one row a member of a cluster of two or more.
    clusters : DataFrame
        year, identity, cluster, size, overlap: the Jaccard overlap with the same identity's cluster of the year before,
        among companies present in both years; NaN in its first year.
    events : DataFrame
        year, event, identity, other, members. ``birth``: an identity's first year. ``death``: the first year without
        it. ``split``: `identity` of the year before has two or more members in `other` this year as well.
        ``merge``: two or more members of `other` of the year before are in `identity` this year as well. `members` is
        how many companies that concerns.
    """

    members: pd.DataFrame
    clusters: pd.DataFrame
    events: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return `clusters`."""
        return self.clusters

    def summary(self) -> str:
        """Count identities, years and events in one line."""
        counts = self.events["event"].value_counts()
        told = ", ".join(f"{counts.get(event, 0)} {event}s" for event in ("birth", "death", "split", "merge"))
        return f"{self.clusters['identity'].nunique()} groups over {self.clusters['year'].nunique()} years: {told}"


def match_clusters(partition: pd.DataFrame, member: str = "ticker", minimum_overlap: float = 0.25) -> ClusterIdentities:
    """Give the clusters of successive years lasting identities.

    Each year's clusters of two or more are assigned to those of the year before so that the sum of Jaccard overlaps,
    ``|A and B| / |A or B|``, is largest (the Hungarian method); pairs that overlap less than `minimum_overlap` are
    not the same group. Only companies that are in the table in both years count, so that listings and delistings do
    not end a group. "The year before" is the one before in the table.

    Parameters
    ----------
    partition : DataFrame
        year, cluster, and the column `member`. A negative or missing cluster is none.
    member : str
        Column that names a company in all years alike; a filing's id changes every year and will not do.
    minimum_overlap : float
        Between 0 and 1.

    Returns
    -------
    ClusterIdentities
        Identities are numbered 0, 1, ... by first year, then by alphabetically first member. Neither the order of rows
        nor the numbers of the clusters matter.

    Raises
    ------
    DataError
        If a column is missing, or a company is listed twice in a year.
    """
    lacking = [column for column in ("year", "cluster", member) if column not in partition]
    if lacking:
        raise DataError(f"the partition has no column {lacking[0]!r}: it needs year, cluster and {member}")
    table = partition[["year", "cluster", member]].sort_values(["year", member], ignore_index=True)
    twice = table.duplicated(["year", member])
    if twice.any():
        row = table[twice].iloc[0]
        raise DataError(f"{member} {row[member]} is listed twice in {row['year']}: give one cluster a company and year")

    members: list[tuple[object, ...]] = []
    clusters: list[tuple[object, ...]] = []
    events: list[tuple[object, ...]] = []
    before: Groups = {}
    listed_before: set[str] = set()
    born = 0
    for year, rows in table.groupby("year", sort=True):
        labels, groups = _groups(rows, member)
        listed = set(rows[member])
        overlap = _jaccard(list(before.values()), groups, listed & listed_before)
        names = list(before)
        same: dict[int, tuple[int, float]] = {}  # this year's cluster -> identity and overlap
        for i, j in np.column_stack(linear_sum_assignment(overlap, maximize=True)).tolist():
            if overlap[i, j] >= max(minimum_overlap, np.finfo(float).tiny):
                same[j] = (names[i], float(overlap[i, j]))
        now: Groups = {}
        for j, (label, group) in enumerate(zip(labels, groups, strict=True)):
            if j not in same:
                events.append((year, "birth", born, None, len(group)))
                same[j], born = (born, np.nan), born + 1
            identity, share = same[j]
            now[identity] = group
            clusters.append((year, identity, label, len(group), share))
            members += [(year, identity, label, name) for name in sorted(group)]
        events += [(year, "death", gone, None, len(before[gone])) for gone in before if gone not in now]
        events += [(year, "split", *parts) for parts in _shared(before, now)]
        events += [(year, "merge", *parts) for parts in _shared(now, before)]
        before, listed_before = now, listed
    return ClusterIdentities(
        pd.DataFrame(members, columns=["year", "identity", "cluster", member]),
        pd.DataFrame(clusters, columns=["year", "identity", "cluster", "size", "overlap"]),
        pd.DataFrame(events, columns=["year", "event", "identity", "other", "members"]).astype({"other": "Int64"}),
    )


def _groups(rows: pd.DataFrame, member: str) -> tuple[list[object], list[set[str]]]:
    """Clusters of two or more of one year, in the order of their first members."""
    known = rows[rows["cluster"].notna()]
    if pd.api.types.is_numeric_dtype(known["cluster"]):
        known = known[known["cluster"] >= 0]
    found = [(label, set(group[member])) for label, group in known.groupby("cluster", sort=False) if len(group) > 1]
    return [label for label, _ in found], [group for _, group in found]


def _jaccard(old: list[set[str]], new: list[set[str]], common: set[str]) -> np.ndarray:
    """Overlaps among the companies of both years, shape (old, new)."""
    overlap = np.zeros((len(old), len(new)))
    for i, first in enumerate(old):
        for j, second in enumerate(new):
            shared = len(first & second)
            if shared:
                overlap[i, j] = shared / len((first | second) & common)
    return overlap


def _shared(groups: Groups, others: Groups) -> Iterator[tuple[int, int, int]]:
    """Identities of `groups` with two or more members in each of several `others`: identity, other, shared members."""
    for identity, group in groups.items():
        parts = {name: len(group & other) for name, other in others.items()}
        parts = {name: count for name, count in parts.items() if count > 1}
        if len(parts) > 1:
            yield from ((identity, name, count) for name, count in parts.items() if name != identity)
