"""The published clusters as an estimator: a spanning tree cut at a threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin

from companysim.clustering.cosine import cosine_tree
from companysim.errors import ConfigError


class ThresholdMST(ClusterMixin, BaseEstimator):
    """Clusters of a minimum spanning tree of cosine distances, cut at a threshold.

    Parameters
    ----------
    theta : float, optional
        Edges heavier than this are removed. Exactly one of `theta` and `share_of_pairs` is given.
    share_of_pairs : float, optional
        Choose the threshold whose share of grouped pairs is closest to this.
    standardise : (mean, sd), optional
        Moments of the distances of all pairs of all years (`distance_moments`), which one year cannot know. With them
        `theta`, `theta_` and the weights of `tree_` are in z units, as the published -3.13 is; without, they are
        cosine distances between 0 and 2.
    rows : int
        Up to this many companies all distances are held at once; beyond it they are taken in tiles (`cosine_tree`).

    Attributes
    ----------
    labels_ : ndarray of int64, shape (n,)
        Numbered by first member; a company on its own is a cluster of one.
    theta_ : float
    tree_ : SpanningTree
    """

    def __init__(
        self,
        theta: float | None = None,
        share_of_pairs: float | None = None,
        standardise: tuple[float, float] | None = None,
        rows: int = 4096,
    ) -> None:
        self.theta = theta
        self.share_of_pairs = share_of_pairs
        self.standardise = standardise
        self.rows = rows

    def fit(self, X: np.ndarray, y: None = None) -> Self:
        """Cluster the rows of `X`, vectors of shape (n, features), by cosine distance.

        Raises
        ------
        ConfigError
            If not exactly one of theta and share_of_pairs is given, theta is NaN, or the sd is not positive.
        DataError
            If a vector holds NaN or infinite values, or a share of pairs is asked of a single company.
        """
        if (self.theta is None) == (self.share_of_pairs is None):
            raise ConfigError("ThresholdMST needs exactly one of theta and share_of_pairs")
        if self.theta is not None and np.isnan(self.theta):
            raise ConfigError("theta is NaN: give a distance, or share_of_pairs")
        tree = cosine_tree(X, self.rows)
        if self.standardise is not None:
            mean, sd = self.standardise
            if not (np.isfinite(mean) and np.isfinite(sd) and sd > 0):
                raise ConfigError(f"standardise is ({mean}, {sd}): give the mean and the positive sd of all distances")
            tree = replace(tree, weight=(tree.weight - mean) / sd)
        self.tree_ = tree
        self.theta_ = self.theta if self.theta is not None else tree.theta_for_share(self.share_of_pairs or 0.0)
        self.labels_ = tree.labels(self.theta_)
        return self
