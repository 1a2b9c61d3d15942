"""The fair comparison: any groupings and similarities side by side, with nulls, intervals and p-values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from companysim.benchmark.groupings import Grouping
from companysim.benchmark.metrics import (
    Correlations,
    PartitionScore,
    finite_pairs,
    mean,
    mean_score,
    score_year,
    similarity_ranks,
    value_ranks,
)
from companysim.benchmark.resampling import Resamples, interval, over_draws, yearly_null
from companysim.benchmark.weights import Pairs, Ranking, cluster_means, grouped_pairs, nearest, ranking
from companysim.errors import ConfigError, DataError
from companysim.significance import adjusted, null_p_value, paired_p_value

KS = (1, 5, 10)
CAP = 0.05
"""Share of the pairs one group may fill in the capped figure."""
ALL = "all"
EVERYBODY = "all_pairs"
Groupings = Sequence[Grouping] | Mapping[int, Sequence[Grouping]]
Key = tuple[str, str]  # grouping, figure


@dataclass(frozen=True)
class Comparison:
    """What groupings and similarities say about return correlations.

    Every figure is the mean of its yearly values, among the companies with a correlation in the year.

    - ``mean_correlation`` (MC), ``pair_weighted``: of the grouping's own clusters;
    - ``at_<level>_pairs``: of as many most similar pairs as the level (``sic4``, ``gics6``, ``ff48``, ...) groups
      that year, among the companies with a code: matched granularity;
    - ``at_<level>_pairs_capped``: the same with at most 5 % of the pairs from any one coarse group (SIC-2), since
      banks, REITs and oil producers fill the most similar pairs of the raw figure;
    - ``peers<k>``: of each company with its k nearest; ``peers<k>_in_<level>``: with its k nearest of the same group;
    - ``lift_in_<level>``: of the more similar half of the pairs inside the level's groups, less that of all of them:
      what a similarity adds where the code is already the same;
    - ``rho``: Spearman's rank correlation between similarity and return correlation over all pairs.

    Attributes
    ----------
    estimates : DataFrame
        years (``all``, or ``without 2020``), grouping, figure, value, low, high: 95 % interval from firms and years
        drawn with replacement. The grouping ``all_pairs`` is everybody.
    partitions : DataFrame
        years, grouping, coverage, share_of_pairs, clusters, largest, size_matched_null, null_low, null_high, null_p:
        MC of random clusters of the same sizes, its central 95 %, and the share of them with an MC at least as high.
    differences : DataFrame
        years, figure, first, second, difference, low, high, p_value, p_bh, p_by: of every two groupings in the same
        resamples. Adjusted by Benjamini and Hochberg and by Benjamini and Yekutieli over the rows of a figure.
    yearly : DataFrame
        year, grouping, figure, value.
    counts : DataFrame
        year, companies, pairs (with a correlation), and pairs_<level> grouped by each level.
    null_draws, bootstrap_draws, seed : int
    """

    estimates: pd.DataFrame
    partitions: pd.DataFrame
    differences: pd.DataFrame
    yearly: pd.DataFrame
    counts: pd.DataFrame
    null_draws: int
    bootstrap_draws: int
    seed: int

    def to_frame(self, years: str = ALL) -> pd.DataFrame:
        """One row a grouping: partition figures, then every figure with its interval (``_low``, ``_high``).

        Raises
        ------
        ConfigError
            If `years` is neither ``all`` nor one of the exclusions the comparison was made with.
        """
        known = self.estimates["years"].unique().tolist()
        if years not in known:
            raise ConfigError(f"no figures for the years {years!r}: there are {', '.join(known)}")
        chosen = self.estimates[self.estimates["years"] == years]
        table = self.partitions[self.partitions["years"] == years].drop(columns="years").set_index("grouping")
        table = table.reindex(chosen["grouping"].unique())
        wide = chosen.pivot(index="grouping", columns="figure", values=["value", "low", "high"]).reindex(table.index)
        columns = {
            name if part == "value" else f"{name}_{part}": wide[part][name]
            for name in chosen["figure"].unique()
            for part in ("value", "low", "high")
        }
        return pd.concat([table, pd.DataFrame(columns)], axis=1).reset_index()

    def value(self, grouping: str, figure: str, years: str = ALL) -> float:
        """One figure; NaN if the grouping has none of that name."""
        e = self.estimates
        found = e.loc[(e["years"] == years) & (e["grouping"] == grouping) & (e["figure"] == figure), "value"]
        return float(found.iloc[0]) if len(found) else float("nan")

    def summary(self) -> str:
        """Say who leads at matched granularity and whether the lead over the next is beyond chance."""
        matched = [name for name in self.estimates["figure"].unique() if name.startswith("at_")]
        figure = matched[0] if matched else "pair_weighted"
        e = self.estimates
        rows = e[(e["years"] == ALL) & (e["figure"] == figure) & (e["grouping"] != EVERYBODY)].dropna(subset="value")
        span = f"{self.counts['year'].min()}-{self.counts['year'].max()}"
        if rows.empty:
            return f"{span}: no grouping has a value of {figure}"
        ranked = rows.sort_values("value", ascending=False, kind="stable")
        best = ranked.iloc[0]
        told = f"{span}: highest {figure} is {best['grouping']} with {best['value']:.3f}"
        if len(ranked) == 1:
            return told
        rival = ranked.iloc[1]["grouping"]
        d = self.differences
        pair = d[(d["years"] == ALL) & (d["figure"] == figure) & d["first"].isin([best["grouping"], rival])]
        p = float(pair.loc[pair["second"].isin([best["grouping"], rival]), "p_by"].iloc[0])
        return f"{told}, {best['value'] - ranked.iloc[1]['value']:.3f} above {rival} (adjusted p {p:.2f})"


class _Figure(NamedTuple):
    """Pairs of a figure, the level whose grouped pairs it is measured from, and the companies resampled for it."""

    pairs: Pairs
    less: str | None = None
    among: str = EVERYBODY


class _Year(NamedTuple):
    """What all groupings of a year share."""

    values: np.ndarray
    available: np.ndarray
    schemes: Sequence[Grouping]
    levels: Mapping[str, Pairs]  # grouped pairs of every level of every scheme


def compare(
    groupings: Groupings,
    correlations: Correlations,
    *,
    without: Iterable[int] = (),
    null_draws: int = 1000,
    bootstrap_draws: int = 1000,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Score groupings and similarities against return correlations.

    Parameters
    ----------
    groupings : sequence of Grouping, or mapping of year to such
        One list for all years, or one a year over the same companies (absent ones have negative labels). Those made
        by `classification` are schemes: everything is also compared at the number of pairs of each of their levels,
        and the first of them gives the coarse groups that are capped and looked into.
    correlations : mapping of year to ndarray, shape (n, n)
    without : iterable of int
        Every figure is given for all years and, if this names any of them, once more without them.
    null_draws, bootstrap_draws, seed : int
    advance : callable
        Told how many of all years are done.

    Raises
    ------
    DataError
        If there is no year, a name is given twice in one, or an array is of another number of companies.
    """
    years = sorted(correlations)
    if not years:
        raise DataError("no year has a return correlation: give returns of the years to be compared")
    by_year = {
        year: list(groupings.get(year, ()) if isinstance(groupings, Mapping) else groupings) for year in years
    }
    n = len(correlations[years[0]])
    _check(by_year, correlations, n)
    names = list(dict.fromkeys(grouping.name for year in years for grouping in by_year[year]))
    coded = _coded(by_year, n)
    resamples = {name: Resamples(len(rows), len(years), bootstrap_draws, seed) for name, rows in coded.items()}
    values: dict[Key, np.ndarray] = {}
    draws: dict[Key, np.ndarray] = {}
    resampled: dict[Key, Resamples] = {}
    scores: dict[str, dict[int, PartitionScore]] = {name: {} for name in names}
    rankings: dict[str, tuple[Grouping, Ranking]] = {}
    counts = []
    for column, year in enumerate(years):
        now = _year(correlations[year], by_year[year])
        counts.append(_counts(year, now))

        def drawn(pairs: Pairs, among: str, now: _Year = now) -> np.ndarray:
            rows = coded[among]
            i, j = (np.searchsorted(rows, side) for side in (pairs.i, pairs.j))
            part = now.values if len(rows) == n else now.values[np.ix_(rows, rows)]
            return resamples[among].year(Pairs(i, j, pairs.weight), part)

        def put(key: Key, value: float, spread: np.ndarray, among: str = EVERYBODY, column: int = column) -> None:
            if key not in values:
                resampled[key] = resamples[among]
                values[key] = np.full(len(years), np.nan)
                draws[key] = np.full((bootstrap_draws, len(years)), np.nan)
            values[key][column], draws[key][:, column] = value, spread

        everybody = grouped_pairs(np.zeros(n, dtype=np.int64), now.available)
        put((EVERYBODY, "pair_weighted"), everybody.mean(now.values), drawn(everybody, EVERYBODY))
        order = value_ranks(Ranking(*everybody), now.values)  # the ranks of correlations, once a year
        ranks = np.zeros((n, n))
        sums = None
        if len(order):
            ranks[everybody.i, everybody.j] = order
            sums = resamples[EVERYBODY].rank_sums(everybody.i, everybody.j, everybody.weight, order, order**2)
        inside = _looked_into(now.schemes)
        baselines = {level: drawn(now.levels[level], EVERYBODY) for level in inside}
        for grouping in by_year[year]:
            if grouping.name not in rankings or rankings[grouping.name][0] is not grouping:
                rankings[grouping.name] = grouping, ranking(grouping.similarity)
            ranked = rankings[grouping.name][1]
            scores[grouping.name][year] = score_year(grouping.labels, now.values)
            for name, figure in _figures(grouping, ranked, now).items():
                value, spread = figure.pairs.mean(now.values), drawn(figure.pairs, figure.among)
                if figure.less is not None:
                    value -= now.levels[figure.less].mean(now.values)
                    spread = spread - baselines[figure.less]
                put((grouping.name, name), value, spread, figure.among)
            seen = ranked.among(now.available)
            whole = len(order) == len(seen.i)
            x, y = similarity_ranks(seen), ranks[seen.i, seen.j] if whole else value_ranks(seen, now.values)
            rho = float(x @ y / len(x)) if len(x) and len(y) else float("nan")
            spread = resamples[EVERYBODY].rank_correlation(seen, x, y, sums if whole else None)
            put((grouping.name, "rho"), rho, spread)
        advance(column + 1, len(years))
    nulls = {name: _null(name, by_year, correlations, null_draws, seed) for name in names}

    excluded = sorted(set(years) & set(without))
    spans = {ALL: np.ones(len(years), dtype=bool)}
    if excluded and len(excluded) < len(years):
        spans[f"without {', '.join(map(str, excluded))}"] = ~np.isin(years, excluded)
    parts: dict[str, list[pd.DataFrame]] = {"estimates": [], "partitions": [], "differences": []}
    for span, kept in spans.items():
        over = {key: resampled[key].over_years(np.where(kept, spread, np.nan)) for key, spread in draws.items()}
        means = {key: mean(list(yearly[kept])) for key, yearly in values.items()}
        parts["estimates"].append(_estimates(span, means, over))
        parts["differences"].append(_differences(span, names, means, over))
        seen_years = [year for year, keep in zip(years, kept, strict=True) if keep]
        rows = [_partition(span, name, scores[name], nulls[name][:, kept], seen_years) for name in names]
        rows.append({"years": span, "grouping": EVERYBODY, "coverage": 1.0, "share_of_pairs": 1.0})
        parts["partitions"].append(pd.DataFrame(rows))
    yearly = pd.DataFrame(
        [
            {"year": year, "grouping": grouping, "figure": figure, "value": value}
            for (grouping, figure), series in values.items()
            for year, value in zip(years, series, strict=True)
        ]
    )
    return Comparison(
        **{name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()},
        yearly=yearly,
        counts=pd.DataFrame(counts),
        null_draws=null_draws,
        bootstrap_draws=bootstrap_draws,
        seed=seed,
    )


def _check(by_year: Mapping[int, Sequence[Grouping]], correlations: Correlations, n: int) -> None:
    for year, values in correlations.items():
        if values.shape != (n, n):
            raise DataError(f"the correlations of {year} have shape {values.shape}: give all years the same companies")
        names = [grouping.name for grouping in by_year[year]]
        for grouping in by_year[year]:
            if names.count(grouping.name) > 1 or grouping.name == EVERYBODY:
                raise DataError(f"the name {grouping.name!r} is taken: give each grouping a name of its own")
            if grouping.labels.shape != (n,) or grouping.similarity.shape != (n, n):
                raise DataError(f"{grouping.name} is not of the {n} companies that have returns: align them first")


def _coded(by_year: Mapping[int, Sequence[Grouping]], n: int) -> dict[str, np.ndarray]:
    """Companies each scheme has a code of in any year, by scheme, and all of them."""
    found = {EVERYBODY: np.arange(n)}
    for scheme in (grouping for groupings in by_year.values() for grouping in groupings if grouping.levels):
        own = np.flatnonzero(scheme.labels >= 0)
        found[scheme.name] = np.union1d(found.get(scheme.name, own), own)
    return found


def _year(values: np.ndarray, groupings: Sequence[Grouping]) -> _Year:
    available = finite_pairs(values)
    schemes = [grouping for grouping in groupings if grouping.levels]
    levels = {level: grouped_pairs(labels, available) for scheme in schemes for level, labels in scheme.levels.items()}
    return _Year(values, available, schemes, levels)


def _looked_into(schemes: Sequence[Grouping]) -> tuple[str, ...]:
    """Finest and coarsest level of the first scheme: inside their groups a lift is measured."""
    levels = list(schemes[0].levels) if schemes else []
    return tuple(dict.fromkeys((levels[0], levels[-1]))) if levels else ()


def _figures(grouping: Grouping, ranked: Ranking, now: _Year) -> dict[str, _Figure]:
    """Every figure of one grouping and year as weighted pairs."""
    grouped = grouped_pairs(grouping.labels, now.available)
    found = {"mean_correlation": _Figure(cluster_means(grouping.labels, grouped)), "pair_weighted": _Figure(grouped)}
    for scheme in now.schemes:
        known = scheme.labels >= 0
        among = ranked.among(now.available & known & known[:, None])
        for level in scheme.levels:
            found[f"at_{level}_pairs"] = _Figure(among.top(len(now.levels[level].i)), among=scheme.name)
        if scheme is now.schemes[0]:
            level, coarse = next(iter(scheme.levels)), list(scheme.levels.values())[-1]
            count = len(now.levels[level].i)
            capped = among.top_capped(count, coarse, CAP * count)
            found[f"at_{level}_pairs_capped"] = _Figure(capped, among=scheme.name)
    reach = now.available
    if grouping.levels:  # a scheme names peers only where there is a code
        reach = reach & (grouping.labels >= 0) & (grouping.labels >= 0)[:, None]
    found |= {f"peers{k}": _Figure(pairs) for k, pairs in nearest(grouping.similarity, reach, KS).items()}
    if now.schemes:
        levels = now.schemes[0].levels
        for level in _looked_into(now.schemes):
            same = now.available & np.equal.outer(levels[level], levels[level]) & (levels[level] >= 0)
            inside = ranked.among(same)
            found[f"lift_in_{level}"] = _Figure(inside.top(len(inside.i) / 2), less=level)
        for k, pairs in nearest(grouping.similarity, same, KS).items():
            found[f"peers{k}_in_{level}"] = _Figure(pairs)
    return found


def _counts(year: int, now: _Year) -> dict[str, int]:
    found = {"year": year, "companies": int(now.available.any(axis=1).sum()), "pairs": int(now.available.sum() // 2)}
    return found | {f"pairs_{level}": len(pairs.i) for level, pairs in now.levels.items()}


def _null(
    name: str, by_year: Mapping[int, Sequence[Grouping]], correlations: Correlations, draws: int, seed: int
) -> np.ndarray:
    """MC of random partitions in each draw and year, shape (draws, years); years in rising order."""
    ordered = {year: correlations[year] for year in sorted(correlations)}
    labels = {year: grouping.labels for year, found in by_year.items() for grouping in found if grouping.name == name}
    first = next(iter(labels.values()))
    if len(labels) == len(ordered) and all(other is first for other in labels.values()):
        return yearly_null(first, ordered, draws, seed)
    present = {year: np.where(finite_pairs(ordered[year]).any(axis=1), own, -1) for year, own in labels.items()}
    return yearly_null(present, ordered, draws, seed)


def _estimates(
    span: str, means: Mapping[Key, float], over: Mapping[Key, np.ndarray]
) -> pd.DataFrame:
    rows = []
    for (grouping, figure), value in means.items():
        low, high = interval(over[grouping, figure])
        rows.append({"years": span, "grouping": grouping, "figure": figure, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def _differences(
    span: str,
    names: Sequence[str],
    means: Mapping[Key, float],
    over: Mapping[Key, np.ndarray],
) -> pd.DataFrame:
    columns = ["years", "figure", "first", "second", "difference", "low", "high", "p_value", "p_bh", "p_by"]
    tables = []
    for figure in dict.fromkeys(figure for _, figure in means):
        rows = []
        for first, second in combinations(names, 2):
            if (first, figure) in means and (second, figure) in means:
                spread = over[first, figure] - over[second, figure]
                low, high = interval(spread)
                difference = means[first, figure] - means[second, figure]
                p = paired_p_value(spread) if np.isfinite(difference) else float("nan")
                rows.append((span, figure, first, second, difference, low, high, p))
        if rows:
            table = pd.DataFrame(rows, columns=columns[:-2])
            table["p_bh"] = adjusted(table["p_value"].to_numpy())
            table["p_by"] = adjusted(table["p_value"].to_numpy(), dependence=True)
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _partition(
    span: str, name: str, scores: Mapping[int, PartitionScore], null: np.ndarray, years: Sequence[int]
) -> dict[str, object]:
    score = mean_score([scores[year] for year in years if year in scores])
    drawn = over_draws(null)
    low, high = interval(drawn)
    return {
        "years": span,
        "grouping": name,
        "coverage": score.coverage,
        "share_of_pairs": score.share_of_pairs,
        "clusters": score.clusters,
        "largest": score.largest,
        "size_matched_null": mean(list(drawn)),
        "null_low": low,
        "null_high": high,
        "null_p": null_p_value(score.mean_correlation, drawn),
    }
