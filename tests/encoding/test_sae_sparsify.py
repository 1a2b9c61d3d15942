"""Our SAE against eai-sparsify, the library whose checkpoints it reads. The import takes seconds, so all is here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from companysim.encoding.sae import TopKSAE, load_sae, save_sae


@pytest.fixture(scope="module")
def sparsify() -> Any:
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # the plain decoder, as on a machine without a GPU
    import sparsify as module

    return module


@pytest.fixture
def theirs(sparsify: Any, tmp_path: Path) -> Any:
    """A sparsify coder with random weights, written to tmp_path/theirs by sparsify itself."""
    torch.manual_seed(11)
    coder = sparsify.SparseCoder(32, sparsify.SparseCoderConfig(num_latents=96, k=24))
    with torch.no_grad():
        coder.W_dec.copy_(torch.randn(96, 32))
        coder.b_dec.copy_(torch.randn(32))
        coder.encoder.bias.copy_(torch.randn(96) - 1)  # fewer than k latents fire on most rows
    coder.save_to_disk(tmp_path / "theirs")
    return coder


@pytest.fixture
def rows() -> torch.Tensor:
    return 3 * torch.randn(200, 32, generator=torch.Generator().manual_seed(12))


def active(values: torch.Tensor, indices: torch.Tensor) -> list[dict[int, float]]:
    return [
        {i: v for i, v in zip(row_indices, row_values, strict=True) if v > 0}
        for row_indices, row_values in zip(indices.tolist(), values.tolist(), strict=True)
    ]


def test_encode_equals_sparsify_bit_for_bit(theirs: Any, tmp_path: Path, rows: torch.Tensor) -> None:
    with torch.no_grad():
        expected = theirs.encode(rows)
    found = active(*load_sae(tmp_path / "theirs").encode(rows))
    assert found == active(expected.top_acts, expected.top_indices)
    counts = {len(row) for row in found}
    assert 24 in counts  # rows where k limits and rows where it does not, or the test would not see both
    assert min(counts) < 24


def test_decode_equals_sparsify(theirs: Any, tmp_path: Path, rows: torch.Tensor) -> None:
    ours = load_sae(tmp_path / "theirs", decoder=True)
    values, indices = ours.encode(rows)
    with torch.no_grad():
        torch.testing.assert_close(ours.decode(values, indices), theirs.decode(values, indices), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sparsify_reads_our_checkpoint_and_encodes_the_same(
    sparsify: Any, sae: TopKSAE, tmp_path: Path, rows: torch.Tensor, dtype: str
) -> None:
    save_sae(sae, tmp_path / "ours", dtype=dtype)
    coder = sparsify.SparseCoder.load_from_disk(tmp_path / "ours").float()
    assert (coder.num_latents, coder.d_in, coder.cfg.k) == (48, 32, 5)
    with torch.no_grad():
        expected = coder.encode(rows)
        decoded = coder.decode(expected.top_acts, expected.top_indices)
    ours = load_sae(tmp_path / "ours", decoder=True)
    values, indices = ours.encode(rows)
    assert active(values, indices) == active(expected.top_acts, expected.top_indices)
    torch.testing.assert_close(ours.decode(values, indices), decoded)
