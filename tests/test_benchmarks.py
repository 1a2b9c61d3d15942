"""The benchmark scripts run, compare what they say they compare, and end with the promised line. No timing here."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.scripts import repository_script

PROMISED = {
    "benchmark", "case", "ratio", "ratio_processor_time", "tokens_per_second_theirs", "tokens_per_second_ours",
    "peak_mb_theirs", "peak_mb_ours", "memory_ratio", "peak_mb_theirs_whole_text", "memory_ratio_whole_text",
    "max_difference", "max_difference_with_flips", "flips", "tokens_left_out_differently", "documents", "tokens",
    "threads",
}  # fmt: skip


@pytest.fixture(scope="module")
def encoding() -> ModuleType:
    return repository_script("benchmarks/encoding.py")


def last_line(module: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, float]:
    module.main(["--tiny", *arguments])
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_both_sides_agree_on_a_tiny_llama(encoding: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    result = last_line(encoding, capsys, "--case", "llama-width")
    assert set(result) == PROMISED
    assert (result["benchmark"], result["case"]) == ("encoding", "llama-width")
    assert result["documents"] == 4
    assert 4 * 290 <= result["tokens"] <= 4 * 300  # a run of blanks becomes one
    assert result["max_difference"] <= 1e-5
    assert result["flips"] <= 2
    assert result["tokens_left_out_differently"] == 0
    assert min(result[key] for key in PROMISED if key.startswith(("ratio", "tokens_per", "peak", "memory"))) > 0


def test_the_gpu_case_takes_the_same_path_on_a_cpu(encoding: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    result = last_line(encoding, capsys, "--case", "gpu", "--device", "cpu")
    assert set(result) == PROMISED | {"matmul_tflops", "mfu", "mfu_theirs", "hours"}
    hours = encoding.FILINGS * encoding.TOKENS_A_FILING / result["tokens_per_second_ours"] / 3600
    assert result["hours"] == pytest.approx(hours, rel=1e-3)
    assert 0 < result["mfu"] < 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_gpu_case_says_so(encoding: ModuleType) -> None:
    with pytest.raises(SystemExit, match="needs a CUDA device and there is none"):
        encoding.main(["--case", "gpu"])


def test_flips_are_told_apart_from_differences(encoding: ModuleType) -> None:
    theirs = encoding.Vectors(np.array([[3.0, 4.0, 0.0]]), np.array([[1, 1, 0]]), np.array([2]))
    ours = encoding.Vectors(np.array([[3.0, 0.0, 4.0]]), np.array([[1, 0, 1]]), np.array([2]))
    found = encoding.compared(theirs, ours)
    assert found["flips"] == 1
    assert found["max_difference"] == 0
    assert found["max_difference_with_flips"] == pytest.approx(np.sqrt(32) / 5)


def test_peak_memory_counts_what_is_alive_at_once(encoding: ModuleType) -> None:
    def work() -> None:
        for _ in range(3):
            torch.ones(2**20).add_(1)  # 4 MB, freed before the next
        first, second = torch.ones(2**20), torch.ones(2**20)
        del first, second

    peak = encoding.peak_bytes(work, "cpu")
    assert 8 * 2**20 <= peak < 9 * 2**20


def test_flops_of_llama_3_8b(encoding: ModuleType) -> None:
    """31 blocks of 218,103,808 weights, 131,072 latents of width 4,096, and attention over half a window of 2,048."""
    found = encoding.flops_a_token(encoding.CASES["gpu"])
    assert found == 2 * (31 * (218_103_808 + 2 * 4096 * 1024) + 4096 * 131_072)
