"""How much of a cluster's explanation survives: other companies, another year's text, a tenth of the text removed.

An explanation is the list of latents that define the cluster, and its rule. The cluster stays as it is: the question is
whether somebody who saw slightly different data would explain the same group of companies the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from companysim.errors import ConfigError, DataError
from companysim.explain.defining import defining_latents
from companysim.explain.rules import Rule, smallest_rule


@dataclass(frozen=True)
class Stability:
    """What survives of each cluster's explanation.

    Attributes
    ----------
    table : DataFrame
        One row a cluster and repetition: cluster, size (members), draw, kept (share of the defining latents that are
        among as many defining latents again), first_kept (whether the first of them is), f1 (of the rule where it was
        found) and f1_after (of the same rule on the other data).
    k : int
        Latents that count as defining.
    """

    table: pd.DataFrame
    k: int

    def to_frame(self) -> pd.DataFrame:
        """One row a cluster, its repetitions averaged: cluster, size, kept, first_kept, f1, f1_after."""
        return self.table.drop(columns="draw").groupby("cluster", as_index=False).mean()

    def figures(self, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
        """Mean over clusters of kept, first_kept, f1 and f1_after, with 95 % intervals: clusters are resampled.

        Returns
        -------
        DataFrame
            Indexed by figure: value, low, high.
        """
        values = self.to_frame().drop(columns=["cluster", "size"])
        rows = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
        means = values.to_numpy(dtype=float)[rows].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975], axis=0)
        return pd.DataFrame({"value": values.mean(), "low": low, "high": high})

    def summary(self) -> str:
        """One line."""
        found = self.figures()
        kept, before, after = (found.loc[name] for name in ("kept", "f1", "f1_after"))
        return (
            f"{self.table['cluster'].nunique()} clusters: {kept['value']:.0%} of the {self.k} defining latents are "
            f"found again ({kept['low']:.0%} to {kept['high']:.0%}); the rules' F1 goes from {before['value']:.2f} "
            f"to {after['value']:.2f}"
        )


def stability(
    first: sp.csr_array, second: sp.csr_array, clusters: Mapping[int, np.ndarray], k: int = 8, *, draw: int = 0
) -> Stability:
    """Explain clusters on two sets of descriptions of the same companies, and compare.

    Parameters
    ----------
    first, second : csr_array, shape (documents, latents)
        Strengths (see `companysim.explain.Corpus`) of the same documents: the explanations come from `first`, and are
        looked for in `second`, a re-encoding, such as of shortened texts or another year's.
    clusters : mapping of int to ndarray of bool, shape (documents,)
        Members by cluster; each has some and leaves some out.
    k : int
        Latents that count as defining.
    draw : int
        Number written into the table.

    Raises
    ------
    DataError
        If the two do not have the same shape, or a cluster has no member or no outsider, or there is none.
    ConfigError
        If `k` is below 1.
    """
    if first.shape != second.shape:
        raise DataError(f"the two have shapes {first.shape} and {second.shape}: give the same documents and latents")
    rows = []
    for cluster, member in _checked(clusters, first, k).items():
        rule = smallest_rule(first, member)
        rows.append(
            {"cluster": cluster, "size": int(member.sum()), "draw": draw} | _kept(first, second, member, k, rule)
        )
    return Stability(pd.DataFrame(rows), k)


def resampled(
    strength: sp.csr_array,
    clusters: Mapping[int, np.ndarray],
    names: Sequence[str],
    k: int = 8,
    *,
    draws: int = 20,
    seed: int = 0,
) -> Stability:
    """Explain clusters on random halves of the companies: what one half says, looked for in the other.

    Each cluster is halved (an odd member falls to either half), and so are the companies outside it. Clusters of fewer
    than four have no halves and are left out.

    Parameters
    ----------
    strength, clusters, k
        As `first` in `stability`.
    names : sequence of str, shape (documents,)
        Different names of the documents: draws go by name, so that the order of rows does not matter.
    draws : int
        Halvings of each cluster.

    Raises
    ------
    DataError
        As `stability`; also if names do not fit or no cluster has four members.
    """
    called = np.asarray(names, dtype=str)
    if called.shape != (strength.shape[0],) or len(set(called)) != len(called):
        raise DataError(f"{strength.shape[0]} documents need as many different names")
    rows = []
    for cluster, member in _checked(clusters, strength, k).items():
        if member.sum() < 4:
            continue
        rng = np.random.default_rng(seed)
        inside, outside = (np.flatnonzero(part)[np.argsort(called[part])] for part in (member, ~member))
        for draw in range(draws):
            halves = np.zeros(len(member), dtype=bool)
            for group in (inside, outside):
                count = (len(group) + int(rng.integers(2))) // 2
                halves[rng.permutation(group)[:count]] = True
            one, two = member[halves], member[~halves]
            rule = smallest_rule(strength[halves], one)
            latents = defining_latents(strength[halves], one, k)
            again = defining_latents(strength[~halves], two, k)
            found = _overlap(latents, again) | {"f1": rule.f1, "f1_after": _f1(rule, strength[~halves], two)}
            rows.append({"cluster": cluster, "size": int(member.sum()), "draw": draw} | found)
    if not rows:
        raise DataError("no cluster has four members: there are no halves to compare")
    return Stability(pd.DataFrame(rows), k)


def _checked(clusters: Mapping[int, np.ndarray], strength: sp.csr_array, k: int) -> Mapping[int, np.ndarray]:
    """`clusters`, if they can be explained."""
    if k < 1:
        raise ConfigError(f"k is {k}: ask for at least one latent")
    if not clusters:
        raise DataError("there is no cluster to explain: give at least one")
    for cluster, member in clusters.items():
        if member.shape != (strength.shape[0],) or member.all() or not member.any():
            raise DataError(
                f"cluster {cluster} must have members and outsiders among the {strength.shape[0]} documents"
            )
    return clusters


def _kept(first: sp.csr_array, second: sp.csr_array, member: np.ndarray, k: int, rule: Rule) -> dict[str, float]:
    """Compare the explanation from `first` with what `second` says."""
    latents, again = (defining_latents(strength, member, k) for strength in (first, second))
    return _overlap(latents, again) | {"f1": rule.f1, "f1_after": _f1(rule, second, member)}


def _overlap(latents: np.ndarray, again: np.ndarray) -> dict[str, float]:
    """Share of the latents found again, and whether the first one is; 0 for a cluster no latent defines."""
    if not len(latents):
        return {"kept": 0.0, "first_kept": 0.0}
    return {"kept": float(np.isin(latents, again).mean()), "first_kept": float(latents[0] in again)}


def _f1(rule: Rule, strength: sp.csr_array, member: np.ndarray) -> float:
    """Harmonic mean of precision and recall of a rule on other rows than it was searched on."""
    holds = rule.holds(strength)
    return float(2 * (holds & member).sum() / (holds.sum() + member.sum()))
