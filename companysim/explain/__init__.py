"""Why companies are alike: what latents are about, which ones make pairs and clusters, and which rules recover them."""

from companysim.explain.attribution import Attribution, attribute
from companysim.explain.clusters import ClusterExplanation, cluster_tables, explain_cluster, numbered
from companysim.explain.corpus import Corpus, Passage
from companysim.explain.defining import defining_latents
from companysim.explain.judges import by_model, by_terms, judged, passages
from companysim.explain.labels import label_table, mentions, term_labels
from companysim.explain.matching import LatentMatch, match_latents
from companysim.explain.pairs import PairExplanation, explain_pair, shared_latents, unit_latents
from companysim.explain.returns import return_correlations
from companysim.explain.rules import Condition, Rule, held_out, smallest_rule
from companysim.explain.scores import (
    LabelScores,
    balanced_accuracy,
    read_folder,
    read_scores,
    score,
    write_folder,
    write_scores,
)
from companysim.explain.stability import Stability, resampled
from companysim.explain.strength import ClusterLatents, StrongLatents, cluster_latents, strong_latents

__all__ = [
    "Attribution",
    "ClusterExplanation",
    "ClusterLatents",
    "Condition",
    "Corpus",
    "LabelScores",
    "LatentMatch",
    "PairExplanation",
    "Passage",
    "Rule",
    "Stability",
    "StrongLatents",
    "attribute",
    "balanced_accuracy",
    "by_model",
    "by_terms",
    "cluster_latents",
    "cluster_tables",
    "defining_latents",
    "explain_cluster",
    "explain_pair",
    "held_out",
    "judged",
    "label_table",
    "match_latents",
    "mentions",
    "numbered",
    "passages",
    "read_folder",
    "read_scores",
    "resampled",
    "return_correlations",
    "score",
    "shared_latents",
    "smallest_rule",
    "strong_latents",
    "term_labels",
    "unit_latents",
    "write_folder",
    "write_scores",
]
