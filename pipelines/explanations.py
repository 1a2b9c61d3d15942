"""Write docs/EXPLANATIONS.md: ten well-known pairs and five clusters of the sample as companysim explains them.

    python pipelines/explanations.py --run runs/sample

The explanations are printed as they are; the remarks below them were written by a person who read them, and say where
they make no sense. They hold for the default run of the sample alone.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from companysim.explain import ClusterExplanation, PairExplanation
from companysim.explain.labels import shown
from companysim.explain.pairs import SIDES
from companysim.results import Run
from companysim.workspace import write_text

SHARED, APART, DEFINING = 5, 2, 6
# Whether labels can be believed: figures of label_scores.py, explanation_stability.py and seed_stability.py.
SCORES = Path(__file__).with_name("explanations_scores.md")
INTRODUCTION = """# Explanations

What `companysim explain` says about ten well-known pairs and five clusters of the sample, printed as it is by
`python pipelines/explanations.py`, and below each what a person makes of it. Ask for your own:

    companysim explain KO PEP                # why are they similar, what sets them apart
    companysim explain --cluster XOM         # what is the cluster of XOM about; or its number
    companysim label --by llm --model DIR    # let a local language model name the latents instead of the terms

**How to read it.** The similarity of two companies is the cosine of their latents, so it is a sum over latents; the
percentage is a latent's share of that sum. Latents are ranked by what they contribute beyond their contribution to two
average companies, because every description has some latents. "Without it" is the exact change of the similarity if
the latent were removed from both companies. The words in bold are those on which the latent fires most in that company;
a language model reads from left to right, so what a latent stands for lies at or before them. A latent is present in a
company if it is three times as strong as the company's average latent.

**How labels are made.** A label is the words that stand where a latent fires most, over the twenty companies in which
it fires most, as far as the corpus does not use them that often elsewhere. "(?)" marks labels whose terms occur in less
than half of these passages: on companies they were not made from, such labels tell a latent's passages from others
hardly better than chance: balanced accuracy 0.52, against 0.65 where they occur in more than three quarters.

**What a person makes of it.** The strongest reason is right for all ten pairs. By one reader's count, about ten of the
50 latents shown as shared are no reason at all: some, such as 1285, 1411 and 381, fire in nearly every company, on rare
words, commas and parts of names, and the raw cosine counts them in full. What is said to set two companies apart is
mostly a detail of the two texts; it names a real difference for three pairs (UNP and CSX, PFE and MRK, FDX and UPS).
The run's similarity decides which latents count: under the published one (`similarity.sae: pca_cosine`), which
standardises every latent, the reasons for KO and PEP are bottlers, soft drinks, soda and cola. Rules of clusters of two
or three companies are mostly luck, and their held-out figures say so.
"""
PAIRS: dict[tuple[str, str], str] = {
    ("KO", "PEP"): (
        "Sensible at the top: food and drink in lists, soft drinks, sales abroad. The first label says pizza and "
        "snacks because these fill the latent's strongest passages; here it fires on drinks. Latent 313 is about "
        "late items of a list of goods, not about sensors and gloves. What sets the two apart is wrong: for one "
        'firing on "Sprite" among brand names (label: british, australian) Coca-Cola loses 0.04 of the similarity,'
        " while the snacks, PepsiCo's real difference, do not appear."
    ),
    ("HD", "LOW"): (
        "Right: stores, houses changing hands, spring, building materials. The third, about leases and property, "
        "is half right (contractors, shut stores). What sets them apart is small and says nothing about the "
        "businesses."
    ),
    ("JPM", "BAC"): (
        "Right: banks, their funding, mortgages, markets. Latents 381 and 1411 are no reasons: they fire in nearly"
        " all 430 companies, and a single firing of 1411 on a comma in JPMorgan's text costs 0.03 of the "
        "similarity."
    ),
    ("XOM", "CVX"): (
        "Right and specific: oil by the sea, shale gas, refining, the countries. Latent 649 is about sources of "
        "energy in general; its label lists those of utilities. What sets them apart are facts of the two texts (a"
        " number of barrels, a lawsuit in Ecuador), not differences between the companies."
    ),
    ("UNP", "CSX"): (
        "Right: freight, the places a network links (not only those of the label), coal. Latent 1285 is no reason:"
        " it fires in every company, on rare words and pieces of names. Floods and drought in Union Pacific's text"
        ' only: right. Latent 1980 is about single, double and triple, here in "double-stack".'
    ),
    ("MA", "AXP"): (
        "Cards first: right. Lending and banking next, although MasterCard's text says that it neither lends nor "
        "issues cards: a latent answers to a topic, not to its denial. Latents 2912 and 1411 are no reasons. That "
        "American Express lends and MasterCard does not, the real difference, does not appear."
    ),
    ("PFE", "MRK"): (
        "Right: generic drugs, care, vaccines; and diabetes for Merck alone. The largest share goes to latent "
        "1285, which fires in every company and is no reason."
    ),
    ("LMT", "NOC"): (
        "Right, and it shows how few latents carry a raw cosine: half of the similarity is one latent about the "
        "military. Latent 1285 is no reason, and latent 1411 sets the two apart for none: it fires once, on a "
        "comma."
    ),
    ("FDX", "UPS"): (
        "Freight, vehicles, jets and fuel: right. Latent 3288 fires on compounds such as less-than-truckload; its "
        "label comes from oil-based and misleads. Latent 2707 has the right sentence (FedEx's employees are not in"
        " unions, those of UPS are) under a label that says nothing."
    ),
    ("AAPL", "MSFT"): (
        "Right: devices, computers, networks, software, entertainment; the share of each is small, and so is the "
        'similarity. Latent 1011 is about government programs and fires on "subsidies", which here are those of '
        "network operators: wrong."
    ),
}
"""Pairs, and what a person who read their explanation says."""
CLUSTERS: dict[str, str] = {
    "XOM": (
        "Right throughout: a rule of two latents recovers the cluster and holds on companies it has not seen. The "
        "outliers make sense too: two service firms near the offshore drillers, and EQT, which also runs "
        "pipelines, nearer to the pipeline companies."
    ),
    "GS": (
        "Asset managers, custodians and brokers: the latents say so. The cluster is loose, and its rule loses a "
        "third and more on companies it has not seen. Aflac is an error: nearer to the health insurers than to "
        "this cluster, it hangs on by a chain of neighbours, as the cut of a spanning tree allows."
    ),
    "KO": (
        "A cluster of two teaches nothing: its rule is perfect on the pair and finds neither when it is left out. "
        "The latents read sensibly (drinks, the countries and currencies of sales abroad) where their labels do "
        'not: "dollars, billion, feet" is about currencies here. PepsiCo is not in it, a distance beyond the cut.'
    ),
    "LMT": (
        "Right: space, aircraft, the military, and the rule holds on companies it has not seen. Boeing is nearer "
        "to the airlines than to this cluster, which is understandable. Latent 3167 is about the places where "
        "things are made; its label knows only those of chips."
    ),
    "LEN": (
        "Not one thing: three builders of houses, an owner of malls and one of self-storage. What they share are "
        "lists of American states and cities, and houses; a person would split them. The labels of latents 1710 "
        "and 1704 and that of 488 in the rule say nothing about any of the five."
    ),
}
"""A member of each cluster, and the remark."""


def page(run: Run, pairs: dict[tuple[str, str], str], clusters: dict[str, str]) -> str:
    """Return the page as Markdown."""
    parts = [INTRODUCTION, "## Ten pairs"]
    parts += [pair_section(run.explain(*tickers, k=SHARED), remark) for tickers, remark in pairs.items()]
    parts.append("## Five clusters")
    parts += [cluster_section(run.explain_cluster(one, k=DEFINING), remark) for one, remark in clusters.items()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def pair_section(pair: PairExplanation, remark: str) -> str:
    """One pair: a list a side, then the remark."""
    lines = [f"### {' and '.join(pair.tickers)}", "", pair.headline()]
    for side, title in zip(SIDES, pair.titles(), strict=True):
        rows = pair.side(side).head(SHARED if side == "shared" else APART).to_dict("records")
        lines += ["", f"{title}:", ""] if rows else []
        for row in rows:
            measure, figure = pair.measure(side), pair.figure(side, row)
            figure = figure if measure == "share" else f"{measure} {figure}"
            lines.append(f"{row['rank']}. *{shown(row['label'], row['support'])}* (latent {row['latent']}, {figure})")
            lines += [f"   - {ticker}: {marked(sentence)}" for ticker, sentence in pair.sentences(side, row)]
    return "\n".join([*lines, "", f"**Read by a person.** {remark}"])


def cluster_section(group: ClusterExplanation, remark: str) -> str:
    """One cluster: its latents, its rule, its codes, its outliers, then the remark."""
    members = " ".join(sorted(group.members["ticker"]))
    lines = [f"### Cluster {group.cluster}: {members}", "", group.headline(), "", "What defines it:", ""]
    for row in group.latents.to_dict("records"):
        shares = f"{row['inside']:.0%} of members, {row['outside']:.0%} of others"
        lines.append(f"{row['rank']}. *{shown(row['label'], row['support'])}* (latent {row['latent']}; {shares})")
        lines.append(f"   - {row['ticker']}: {marked(row['sentence'])}")
    sentences = filter(None, (group.rule_sentence(), group.codes_sentence(), group.outliers_sentence()))
    return "\n\n".join(["\n".join(lines), *sentences, f"**Read by a person.** {remark}"])


def marked(sentence: str) -> str:
    """Sentence in Markdown, the firing words in bold."""
    plain = re.sub(r"([*_`\\])", r"\\\1", sentence)
    return re.sub(r"<<(.*?)>>", r"**\1**", plain)


def main() -> None:
    """Write the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--run", type=Path, default=Path("runs/sample"))
    arguments.add_argument("--out", type=Path, default=Path("docs/EXPLANATIONS.md"))
    given = arguments.parse_args()
    write_text(given.out, page(Run(given.run), PAIRS, CLUSTERS) + "\n" + SCORES.read_text(encoding="utf-8"))
    print(f"{given.out} written")


if __name__ == "__main__":
    main()
