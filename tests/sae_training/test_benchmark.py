"""The benchmark runs, both sides train the same function, and the last line is the promised one. No timing here."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sae_training.py"


def test_benchmark_on_a_toy_shape(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if not SCRIPT.is_file():
        pytest.skip("the benchmark scripts are part of the repository, not of the package")
    choices = "--latents 64 -k 4 --width 16 --steps 40 --batch 64 --rows 2000".split()
    monkeypatch.setattr(sys, "argv", ["sae_training.py", *choices])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["benchmark"] == "sae_training"
    assert result["max_difference"] <= 1e-6
    assert result["ratio"] > 0
    assert 0 < result["unexplained_ours"] < 1
    assert result["loss_ratio"] == pytest.approx(result["unexplained_theirs"] / result["unexplained_ours"], rel=1e-3)
