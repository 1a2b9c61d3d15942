"""Recompute the balanced accuracies of the 980 fuzzing scores released with the paper.

Usage: ``python pipelines/published_scores.py --data ../shared/data --out published_scores.csv``.

Each latent has 50 passages in which it fires and 50 in which it does not. The public code takes the share of right
answers and leaves out those that could not be read; with as many of either kind that is the balanced accuracy but for
the answers left out. Intervals: for a latent as `companysim.explain.scores.balanced_accuracy` says, for means over
latents by resampling latents.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from companysim.explain.scores import LabelScores, score_table


def published(data: Path) -> tuple[pd.DataFrame, LabelScores]:
    """Read the released judgements, one row a passage, and score each latent."""
    judged = pd.read_parquet(data / "latent_scores.parquet")
    return judged, score_table(judged)


def by_tenth(judged: pd.DataFrame) -> pd.DataFrame:
    """Share of the passages recognised, by the tenth of the latent's activations they are from, 0 the strongest.

    Returns
    -------
    DataFrame
        distance (-1: passages in which the latent does not fire), passages, recognised (judged to fire).
    """
    read = judged.dropna(subset="prediction")
    grouped = read.groupby("distance")["prediction"]
    return pd.DataFrame({"passages": grouped.size(), "recognised": grouped.mean()}).reset_index()


def main(
    data: Annotated[Path, typer.Option(help="Folder of the shared data.")] = Path("../shared/data"),
    out: Annotated[Path | None, typer.Option(help="Where the table of latents goes.")] = None,
) -> None:
    """Print the figures, and write the table of latents if asked to."""
    judged, scores = published(data)
    known = scores.table
    print(scores.summary())
    for figure in ("balanced_accuracy", "sensitivity", "specificity"):
        value, low, high = scores.mean(figure)
        print(f"{figure}: mean {value:.4f} ({low:.4f} to {high:.4f}), median {known[figure].median():.4f}")
    right = judged["correct"].dropna().astype(bool).groupby(judged["latent"]).mean()
    print(f"share of right answers, as the public code takes it: mean {right.mean():.4f}")
    print(f"unread: {known['unread'].sum()} answers in {(known['unread'] > 0).sum()} latents")
    print(f"half width of a latent's 95 % interval: {((known['high'] - known['low']) / 2).mean():.3f} in the mean")
    print(known["balanced_accuracy"].quantile([0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).round(3).to_string())
    print(by_tenth(judged).round(3).to_string(index=False))
    if out is not None:
        known.to_csv(out, index=False)


if __name__ == "__main__":
    typer.run(main)
