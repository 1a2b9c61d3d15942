"""The published comparison and the yardsticks of the shared panel, recomputed where the shared data is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.scripts import repository_script

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared research data is not at {SHARED}")
pytestmark = [needs_shared, pytest.mark.slow]

# METHOD.md, section 3, measured: MC, pair-weighted, share of firms clustered, share of pairs, size-matched random MC.
SECTION_3 = {
    "sae_gcd": (0.400, 0.194, 0.31, 0.058, 0.180),
    "sae_gcdr_rolling": (0.437, 0.207, 0.34, 0.061, 0.189),
    "sic4": (0.259, 0.298, 0.88, 0.011, 0.180),
    "sic_division": (0.218, 0.195, 1.00, 0.275, 0.178),
    "palm_gecko": (0.241, 0.244, 1.00, 0.059, 0.179),
    "sbert": (0.242, 0.244, 1.00, 0.026, 0.179),
    "bert": (0.216, 0.203, 1.00, 0.16, 0.179),
    "all_pairs": (0.179, 0.179, 1.00, 1.00, 0.179),
}
FIGURES = ["mean_correlation", "pair_weighted", "coverage", "share_of_pairs", "size_matched_null"]

# Section 7: the most similar pairs 2003-13 and 2014-20, five peers 2003-13 and 2014-20. Its random row is one draw.
SECTION_7 = {
    "SIC hierarchy": (0.303, 0.400, 0.265, 0.317),
    "GICS hierarchy": (0.266, 0.381, 0.279, 0.336),
    "TF-IDF": (0.289, 0.467, 0.295, 0.352),
}
RANDOM = (0.205, 0.222, 0.201, 0.221)


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    module = repository_script("pipelines/published_clusters.py")
    table: pd.DataFrame = module.table(*module.load(SHARED), draws=25)
    return table


@pytest.mark.parametrize("name", SECTION_3)
def test_a_published_row_is_reproduced(published: pd.DataFrame, name: str) -> None:
    assert published.loc[name, FIGURES].tolist() == pytest.approx(SECTION_3[name], abs=0.01)


def test_weighting_by_pairs_inverts_the_order(published: pd.DataFrame) -> None:
    assert published["mean_correlation"].drop("sae_gcdr_rolling").idxmax() == "sae_gcd"
    assert published["pair_weighted"].idxmax() == "sic4"


def test_the_yardsticks_of_the_profiles_are_reproduced() -> None:
    module = repository_script("pipelines/profile_yardsticks.py")
    profiles = module.load_profiles(SHARED)
    assert len(profiles.companies) == 1105
    found = {name: list(module.yardsticks(s, profiles).values()) for name, s in module.baselines(profiles).items()}
    for name, expected in SECTION_7.items():
        assert found[name] == pytest.approx(expected, abs=0.005), name
    assert found["random"] == pytest.approx(RANDOM, abs=0.006)
