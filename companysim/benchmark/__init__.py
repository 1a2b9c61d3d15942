"""How well groupings explain how stocks move together."""

from companysim.benchmark.correlations import correlation, yearly_correlations
from companysim.benchmark.metrics import PartitionScore, peers_correlation, score_partition, top_pairs_weights
from companysim.benchmark.resampling import firm_year_bootstrap, interval, size_matched_null
from companysim.benchmark.table import Grouping, benchmark, classification, frontier, to_frame

__all__ = [
    "Grouping",
    "PartitionScore",
    "benchmark",
    "classification",
    "correlation",
    "firm_year_bootstrap",
    "frontier",
    "interval",
    "peers_correlation",
    "score_partition",
    "size_matched_null",
    "to_frame",
    "top_pairs_weights",
    "yearly_correlations",
]
