"""Fixtures shared by all stages: small synthetic worlds, and the real sample run made once a session."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from companysim.results import Run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260111)


@pytest.fixture
def prices(rng: np.random.Generator) -> pd.DataFrame:
    """Six years of business days of 12 random-walk prices with a common factor, wide."""
    days = pd.bdate_range("2007-01-01", "2012-12-31")
    common = rng.normal(0, 0.01, (len(days), 1))
    logs = np.cumsum(common + rng.normal(0, 0.01, (len(days), 12)), axis=0)
    return pd.DataFrame(50 * np.exp(logs), index=days.rename("date"), columns=[f"T{i:02d}" for i in range(12)])


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The sample run with the default weights, made once for all test processes: it takes minutes."""
    from companysim.pipeline import run
    from companysim.results import Run

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "sample"
    with FileLock(shared / "sample.lock"):
        return Run(folder) if (folder / "summary.json").is_file() else run("sample", folder)
