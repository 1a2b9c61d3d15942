"""Similarities to groups."""

from companysim.clustering.tree import SpanningTree, ThresholdMST, spanning_tree

__all__ = ["SpanningTree", "ThresholdMST", "spanning_tree"]
