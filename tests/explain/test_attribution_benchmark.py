"""The benchmark of attribution ends with the promised line, and both loops agree with the closed form. No timing."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest

from tests.scripts import repository_script


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return repository_script("benchmarks/attribution.py")


@pytest.mark.parametrize("rows", ["21", "400"])
def test_both_loops_agree_with_the_closed_form(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], rows: str
) -> None:
    benchmark.main(["--tiny", "--rows", rows])
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["benchmark"] == "attribution"
    assert result["pairs"] == 200
    assert result["companies"] == int(rows)
    assert result["max_difference"] < 1e-6
    assert result["ratio"] > 0
    assert result["ratio_update"] > 0


def test_pairs_of_few_and_of_many_companies(benchmark: ModuleType) -> None:
    few, many = benchmark.pairs_of(21), benchmark.pairs_of(400)
    assert len({tuple(pair) for pair in few.tolist()}) == 200
    assert (few[:, 0] < few[:, 1]).all()
    assert few.max() == 20
    assert len(np.unique(many)) == 400


def test_the_loop_of_the_public_code_sees_a_change(benchmark: ModuleType) -> None:
    """Latent 0 is all that two rows have in common."""
    estimator = benchmark.fitted(4, 3)
    X = benchmark.sp.csr_array(np.array([[5.0, 1, 0, 0], [5.0, 0, 1, 0]], dtype=np.float32))
    Z = (X.toarray() - estimator.mean_) / estimator.scale_ @ estimator.components_.T
    drop = benchmark.public_loop(Z, X, estimator, np.array([[0, 1]]), np.arange(4))
    assert drop[0, 3] == pytest.approx(0, abs=1e-7)
    assert np.abs(drop[0, :3]).min() > 1e-3
