"""Similarities to groups."""

from companysim.clustering.clusterers import CosineClusters
from companysim.clustering.cosine import DistanceMoments, cosine_distance, cosine_tree, distance_moments
from companysim.clustering.curve import CorrelationCurve, correlation_curve
from companysim.clustering.identities import ClusterIdentities, match_clusters
from companysim.clustering.returns import ReturnCorrelations
from companysim.clustering.selection import ThetaChoice, best_theta, rolling_thetas, theta_for_share
from companysim.clustering.threshold import ThresholdMST
from companysim.clustering.tree import Merges, SpanningTree, spanning_tree

__all__ = [
    "ClusterIdentities",
    "CorrelationCurve",
    "CosineClusters",
    "DistanceMoments",
    "Merges",
    "ReturnCorrelations",
    "SpanningTree",
    "ThetaChoice",
    "ThresholdMST",
    "best_theta",
    "correlation_curve",
    "cosine_distance",
    "cosine_tree",
    "distance_moments",
    "match_clusters",
    "rolling_thetas",
    "spanning_tree",
    "theta_for_share",
]
