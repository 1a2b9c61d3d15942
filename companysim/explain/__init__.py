"""Why companies are alike: what latents are about, which ones make pairs and clusters, and which rules recover them."""

from companysim.explain.attribution import Attribution, attribute
from companysim.explain.clusters import ClusterExplanation, cluster_tables, explain_cluster, numbered
from companysim.explain.corpus import Corpus, Passage
from companysim.explain.labels import label_table, mentions, term_labels
from companysim.explain.pairs import PairExplanation, explain_pair, shared_latents, unit_latents
from companysim.explain.rules import Condition, Rule, held_out, smallest_rule

__all__ = [
    "Attribution",
    "ClusterExplanation",
    "Condition",
    "Corpus",
    "PairExplanation",
    "Passage",
    "Rule",
    "attribute",
    "cluster_tables",
    "explain_cluster",
    "explain_pair",
    "held_out",
    "label_table",
    "mentions",
    "numbered",
    "shared_latents",
    "smallest_rule",
    "term_labels",
    "unit_latents",
]
