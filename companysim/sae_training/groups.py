"""Which layers are close enough to share one SAE (Ghilardi et al. 2024, Group-SAE, arXiv 2410.21508).

The angular distance of two layers is the mean over tokens of the angle between their residual streams, as a share of a
half turn: ``d(p, q) = mean arccos(x_p . x_q / (|x_p| |x_q|)) / pi``. A grouping into G groups is judged by the average
over groups of the largest distance within each (AMAD). The authors cluster hierarchically; here groups are runs of
neighbouring layers and the one with the smallest AMAD is found exactly, by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from companysim.encoding.encode import clean
from companysim.encoding.layers import block_hooks, read_layers
from companysim.encoding.llm import ResidualStream
from companysim.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class LayerGroups:
    """Angular distances of the layers of a model, and the best grouping into each number of groups.

    Attributes
    ----------
    hooks : tuple of str
        The layers, in order.
    tokens : int
        On which the distances were measured.
    distances : ndarray, shape (layers, layers)
        From 0 (the same direction) to 1 (opposite).
    """

    hooks: tuple[str, ...]
    tokens: int
    distances: np.ndarray

    def into(self, groups: int) -> list[list[str]]:
        """Return the best grouping into so many groups; raises `ConfigError` if there are not so many layers."""
        if not 1 <= groups <= len(self.hooks):
            raise ConfigError(f"{len(self.hooks)} layers do not make {groups} groups: choose 1 to {len(self.hooks)}")
        bounds = contiguous_groups(self.distances, groups)
        return [list(self.hooks[start:stop]) for start, stop in bounds]

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of groups: groups, amad, layers (names joined by commas, groups by blanks)."""
        rows = []
        for groups in range(1, len(self.hooks) + 1):
            bounds = contiguous_groups(self.distances, groups)
            names = " ".join(",".join(self.hooks[start:stop]) for start, stop in bounds)
            rows.append({"groups": groups, "amad": amad(self.distances, bounds), "layers": names})
        return pd.DataFrame(rows)


def angular_distances(
    stream: ResidualStream,
    texts: Sequence[str],
    hooks: Sequence[str] | None = None,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> LayerGroups:
    """Measure the angular distances of layers in one pass over some text.

    Parameters
    ----------
    stream : ResidualStream
        Not cut before the deepest of `hooks`.
    texts : sequence of str
        Some ten thousand tokens are enough.
    hooks : sequence of str, optional
        The layers, in order; all blocks by default.
    report : callable
        Receives the number of batches done and in all.

    Raises
    ------
    DataError
        If the texts give no token.
    """
    import torch

    names = list(hooks or block_hooks(stream.network))
    total = torch.zeros(len(names), len(names), dtype=torch.float64)
    tokens = 0
    batches = stream.batches(stream.windows([ids for ids, _ in stream.tokenise([clean(text) for text in texts])]))
    for done, batch in enumerate(batches, start=1):
        outputs, padded = read_layers(stream, names, batch)
        kept = torch.stack([stream.kept(hidden, padded) for hidden in outputs.values()]).all(0)  # massive in no layer
        unit = torch.nn.functional.normalize(torch.stack([h[kept].double() for h in outputs.values()]), dim=2)
        for i in range(len(names)):
            cosines = (unit[i] * unit[i:]).sum(2).clamp(-1, 1)
            total[i, i:] += cosines.arccos().sum(1).cpu()
        tokens += int(kept.sum())
        report(done, len(batches))
    if not tokens:
        raise DataError("the texts give the language model no token: give more text")
    upper = (total / (tokens * np.pi)).numpy()
    distances = upper + upper.T
    np.fill_diagonal(distances, 0.0)
    return LayerGroups(tuple(names), tokens, distances)


def amad(distances: np.ndarray, bounds: Sequence[tuple[int, int]]) -> float:
    """Average over groups of the largest distance between two of its layers; 0 for a layer on its own.

    Parameters
    ----------
    distances : ndarray, shape (layers, layers)
    bounds : sequence of (start, stop)
    """
    return float(np.mean([distances[start:stop, start:stop].max() for start, stop in bounds]))


def contiguous_groups(distances: np.ndarray, groups: int) -> list[tuple[int, int]]:
    """Cut layers into runs with the smallest `amad`.

    Parameters
    ----------
    distances : ndarray, shape (layers, layers)
        Symmetric, 0 on the diagonal.
    groups : int

    Returns
    -------
    list of (start, stop)
        In order. Of groupings that tie, the one whose earlier groups are the larger.

    Notes
    -----
    ``best[g, j] = min over i of best[g - 1, i] + max distance within i..j-1``, in O(layers^2 groups).
    """
    n = len(distances)
    widest = np.zeros((n + 1, n + 1))
    for i in range(n):
        for j in range(i + 2, n + 1):
            widest[i, j] = max(widest[i, j - 1], distances[i : j - 1, j - 1].max())
    best = np.full((groups + 1, n + 1), np.inf)
    cut = np.zeros((groups + 1, n + 1), dtype=int)
    best[0, 0] = 0.0
    for g in range(1, groups + 1):
        for j in range(g, n + 1):
            costs = best[g - 1, g - 1 : j] + widest[g - 1 : j, j]
            least = int(np.flatnonzero(costs <= costs.min() + 1e-12)[-1])
            best[g, j], cut[g, j] = costs[least], g - 1 + least
    bounds = []
    stop = n
    for g in range(groups, 0, -1):
        start = int(cut[g, stop])
        bounds.append((start, stop))
        stop = start
    return bounds[::-1]


def shortened(layers: str) -> str:
    """Write runs of layers as first..last."""
    runs = [group.split(",") for group in layers.split(" ")]
    return "  ".join(run[0] if len(run) == 1 else f"{run[0]}..{run[-1].rpartition('.')[2]}" for run in runs)
