"""How well groupings explain how stocks move together."""

from companysim.benchmark.autoencoder import ConditionalAutoencoder
from companysim.benchmark.comparison import Comparison, compare
from companysim.benchmark.correlations import correlation
from companysim.benchmark.factors import Factors, factor_residuals, past_returns, pca_residuals, read_factors
from companysim.benchmark.groupings import Grouping, classification, partition
from companysim.benchmark.metrics import (
    PartitionScore,
    peers_correlation,
    rank_correlation,
    score_partition,
    top_pairs_weights,
)
from companysim.benchmark.resampling import interval, size_matched_null
from companysim.benchmark.returns import (
    Windows,
    Winsorised,
    calendar_windows,
    filing_windows,
    read_returns,
    winsorise,
)
from companysim.benchmark.table import benchmark, frontier, headline, to_frame
from companysim.significance import adjusted, paired_p_value

__all__ = [
    "Comparison",
    "ConditionalAutoencoder",
    "Factors",
    "Grouping",
    "PartitionScore",
    "Windows",
    "Winsorised",
    "adjusted",
    "benchmark",
    "calendar_windows",
    "classification",
    "compare",
    "correlation",
    "factor_residuals",
    "filing_windows",
    "frontier",
    "headline",
    "interval",
    "paired_p_value",
    "partition",
    "past_returns",
    "pca_residuals",
    "peers_correlation",
    "rank_correlation",
    "read_factors",
    "read_returns",
    "score_partition",
    "size_matched_null",
    "to_frame",
    "top_pairs_weights",
    "winsorise",
]
