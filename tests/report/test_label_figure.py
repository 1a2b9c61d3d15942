from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from companysim.report.label_figure import by_spread, draw_labels


def latents(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    spread = np.where(rng.random(n) < 0.5, 0.0, rng.choice([0.02, 0.07, 0.3, 0.9], n))
    return pd.DataFrame({"spread": spread, "balanced_accuracy": 0.5 + 0.4 * spread + rng.normal(0, 0.02, n)})


def test_means_by_the_share_of_clusters() -> None:
    table = latents()
    table.loc[0, "balanced_accuracy"] = np.nan
    found = by_spread(table).set_index("share")
    assert found.index.tolist() == ["0", "1% to 5%", "5% to 10%", "20% to 40%", "40% to 100%"]
    known = table.dropna()
    for share, value in (("0", 0.0), ("1% to 5%", 0.02), ("40% to 100%", 0.9)):
        own = known.loc[known["spread"] == value, "balanced_accuracy"]
        row = found.loc[share]
        assert row["latents"] == len(own)
        assert row["balanced_accuracy"] == pytest.approx(own.mean())
        half = 1.96 * own.std() / np.sqrt(len(own))
        assert (row["low"], row["high"]) == pytest.approx((own.mean() - half, own.mean() + half), abs=0.3 * half)
    assert found["latents"].sum() == 399
    shuffled = by_spread(table.sample(frac=1, random_state=1)).set_index("share")
    pd.testing.assert_frame_equal(shuffled, found)


def test_one_panel_a_run(tmp_path: Path) -> None:
    draw_labels({"sample": latents()}, tmp_path / "one.png")
    draw_labels({"sample": latents(), "random weights": latents(seed=1)}, tmp_path / "two.png")
    one, two = (imread(tmp_path / name) for name in ("one.png", "two.png"))
    assert one.shape[0] == two.shape[0]
    assert two.shape[1] == pytest.approx(2 * one.shape[1], rel=0.01)
    assert len(np.unique(one[..., :3].reshape(-1, 3), axis=0)) > 20  # something is drawn
