"""Groups followed over years, by hand and under relabelling."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from companysim.clustering import match_clusters
from companysim.errors import DataError


def table(years: Mapping[int, list[str]]) -> pd.DataFrame:
    """Build a partition from strings of one-letter companies, one string a cluster."""
    rows = [(y, c, name) for y, groups in years.items() for c, group in enumerate(groups) for name in group]
    return pd.DataFrame(rows, columns=["year", "cluster", "ticker"])


def groups(found: pd.DataFrame, year: int) -> dict[int, str]:
    rows = found[found["year"] == year]
    return {int(i): "".join(sorted(g["ticker"])) for i, g in rows.groupby("identity")}


def events(found: pd.DataFrame) -> set[tuple[object, ...]]:
    return {tuple(None if pd.isna(v) else v for v in row) for row in found.itertuples(index=False)}


def test_a_group_keeps_its_identity_while_members_come_and_go() -> None:
    found = match_clusters(table({2001: ["abcd", "efg"], 2002: ["efgh", "abc"], 2003: ["fgh", "abxy"]}))
    assert [groups(found.members, y) for y in (2001, 2002, 2003)] == [
        {0: "abcd", 1: "efg"},
        {0: "abc", 1: "efgh"},
        {0: "abxy", 1: "fgh"},
    ]
    assert events(found.events) == {(2001, "birth", 0, None, 4), (2001, "birth", 1, None, 3)}


def test_only_companies_of_both_years_count() -> None:
    found = match_clusters(table({2001: ["abcdefgh", "xy"], 2002: ["abuvwst", "xy"]}), minimum_overlap=0.9)
    assert found.clusters["overlap"].tolist()[2:] == [1.0, 1.0]  # c-h are delisted, s-w are new: a and b stay together


def test_births_deaths_splits_and_merges() -> None:
    last = ["abcdef", "gh", "ij"]
    found = match_clusters(table({2001: ["abcdef", "ghij", "kl"], 2002: ["abcd", "ef", "ghij", "k", "l"], 2003: last}))
    assert events(found.events[found.events["year"] > 2001]) == {
        (2002, "birth", 3, None, 2),
        (2002, "death", 2, None, 2),
        (2002, "split", 0, 3, 2),
        (2003, "death", 3, None, 2),
        (2003, "merge", 0, 3, 2),
        (2003, "birth", 4, None, 2),
        (2003, "split", 1, 4, 2),
    }
    assert found.summary() == "5 groups over 3 years: 5 births, 2 deaths, 2 splits, 1 merges"


def test_the_assignment_is_the_best_as_a_whole() -> None:
    # Cluster 0 overlaps most with the first of 2002, but giving that to cluster 1 saves more in all.
    found = match_clusters(table({2001: ["abcdef", "ghi"], 2002: ["abcghi", "def"]}), minimum_overlap=0.1)
    assert groups(found.members, 2002) == {0: "def", 1: "abcghi"}


def test_what_overlaps_too_little_is_another_group() -> None:
    years = {2001: ["abcd"], 2002: ["axyz", "b", "c", "d"]}
    assert groups(match_clusters(table(years)).members, 2002) == {0: "axyz"}  # xyz are new, so 1 of 4: just enough
    assert groups(match_clusters(table(years), minimum_overlap=0.3).members, 2002) == {1: "axyz"}


def test_neither_order_nor_labels_matter(rng: np.random.Generator) -> None:
    names = list("abcdefghijklmnopqrst")
    plain = table({year: ["".join(group) for group in np.array_split(rng.permutation(names), 5)] for year in range(5)})
    shuffled = plain.sample(frac=1, random_state=3).assign(cluster=lambda t: (t["cluster"] * 7 + 3) % 50)
    first, second = match_clusters(plain), match_clusters(shuffled)
    columns = ["year", "identity", "ticker"]
    pd.testing.assert_frame_equal(first.members[columns], second.members[columns])
    pd.testing.assert_frame_equal(first.events, second.events)


def test_companies_without_a_cluster_and_clusters_of_one_have_no_identity() -> None:
    rows = table({2001: ["ab", "c"]})
    more = pd.DataFrame({"year": 2001, "cluster": [-1.0, -1.0, np.nan], "ticker": ["x", "y", "z"]})
    assert match_clusters(pd.concat([rows, more])).members["ticker"].tolist() == ["a", "b"]


def test_codes_are_clusters_too() -> None:
    rows = table({2001: ["ab", "cd"], 2002: ["ab", "cd"]})
    named = rows.assign(cluster=rows["cluster"].map({0: "7372", 1: "6021"}))
    assert match_clusters(named).clusters["identity"].tolist() == [0, 1, 0, 1]


def test_an_empty_year_ends_all_groups_and_an_empty_table_has_none() -> None:
    rows = table({2001: ["ab"], 2002: ["a", "b"], 2003: ["ab"]})
    found = match_clusters(rows).events
    assert found["event"].tolist() == ["birth", "death", "birth"]
    assert found["identity"].tolist() == [0, 0, 1]
    assert len(match_clusters(rows.iloc[:0]).members) == 0


def test_bad_tables_are_refused() -> None:
    with pytest.raises(DataError, match="no column 'ticker'"):
        match_clusters(pd.DataFrame({"year": [1], "cluster": [1]}))
    with pytest.raises(DataError, match="ticker a is listed twice in 2001"):
        match_clusters(table({2001: ["ab", "ac"]}))
