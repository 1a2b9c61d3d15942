"""Our SAE against eai-sparsify, the library whose checkpoints it reads. The import takes seconds, so all is here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from companysim.encoding.sae import SAE, Codes, load_sae, save_sae
from companysim.encoding.sae_info import inspect_sae


@pytest.fixture(scope="module")
def sparsify() -> Any:
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # the plain decoder, as on a machine without a GPU
    import sparsify as module

    return module


@pytest.fixture(params=["topk", "groupmax"])
def theirs(sparsify: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A sparsify coder with random weights, written to tmp_path/layers.7 by sparsify itself with num_latents 0."""
    torch.manual_seed(11)
    coder = sparsify.SparseCoder(32, sparsify.SparseCoderConfig(expansion_factor=3, k=24, activation=request.param))
    with torch.no_grad():
        coder.W_dec.copy_(torch.randn(96, 32))
        coder.b_dec.copy_(torch.randn(32))
        coder.encoder.bias.copy_(torch.randn(96) - 1)  # fewer than k latents fire on most rows
    coder.save_to_disk(tmp_path / "layers.7")
    return coder


@pytest.fixture
def rows() -> torch.Tensor:
    return 3 * torch.randn(200, 32, generator=torch.Generator().manual_seed(12))


def active(values: torch.Tensor, indices: torch.Tensor) -> list[dict[int, float]]:
    return [
        {i: v for i, v in zip(row_indices, row_values, strict=True) if v > 0}
        for row_indices, row_values in zip(indices.tolist(), values.tolist(), strict=True)
    ]


def by_row(codes: Codes, rows: int) -> list[dict[int, float]]:
    found: list[dict[int, float]] = [{} for _ in range(rows)]
    for token, latent, value in zip(*(part.tolist() for part in codes), strict=True):
        found[token][latent] = value
    return found


def test_encode_equals_sparsify_bit_for_bit(theirs: Any, tmp_path: Path, rows: torch.Tensor) -> None:
    assert json.loads((tmp_path / "layers.7" / "cfg.json").read_text())["num_latents"] == 0
    with torch.no_grad():
        expected = theirs.encode(rows)
    ours = load_sae(tmp_path / "layers.7")
    assert ours.hook == "layers.7"
    found = by_row(ours.encode(rows), 200)
    assert found == active(expected.top_acts, expected.top_indices)
    counts = {len(row) for row in found}
    assert min(counts) < 24
    if ours.activation == "topk":
        assert 24 in counts  # rows where k limits and rows where it does not, or the test would not see both


def test_decode_equals_sparsify(theirs: Any, tmp_path: Path, rows: torch.Tensor) -> None:
    ours = load_sae(tmp_path / "layers.7", decoder=True)
    with torch.no_grad():
        expected = theirs.decode(*theirs.encode(rows)[:2])
    torch.testing.assert_close(ours.decode(ours.encode(rows), 200), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_encode_equals_sparsify_in_half_precision(
    theirs: Any, tmp_path: Path, rows: torch.Tensor, dtype: str
) -> None:
    # The coder as its checkpoint is loaded in that dtype; both compute in it.
    half = theirs.to(getattr(torch, dtype))
    with torch.no_grad():
        expected = half.encode(rows.to(half.dtype))
    found = by_row(load_sae(tmp_path / "layers.7", dtype=dtype).encode(rows), 200)
    top = [sorted(row.values()) for row in found]
    # Coarse values tie at the k-th place, where the choice is free; the values themselves are not.
    assert top == [sorted(row.values()) for row in active(expected.top_acts, expected.top_indices)]


def test_half_precision_files_become_float32(theirs: Any, tmp_path: Path, rows: torch.Tensor) -> None:
    half = theirs.bfloat16()
    half.save_to_disk(tmp_path / "half")
    assert inspect_sae(tmp_path / "half").dtype == "bfloat16"
    ours = load_sae(tmp_path / "half")
    assert ours.encoder.dtype == torch.float32
    with torch.no_grad():
        expected = half.float().encode(rows)
    assert by_row(ours.encode(rows), 200) == active(expected.top_acts, expected.top_indices)


@pytest.mark.parametrize("theirs", ["topk"], indirect=True)
def test_old_configurations_lack_keys(sparsify: Any, theirs: Any, tmp_path: Path, rows: torch.Tensor) -> None:
    old = {"expansion_factor": 3, "normalize_decoder": True, "k": 24, "d_in": 32, "signed": False}
    (tmp_path / "layers.7" / "cfg.json").write_text(json.dumps(old))
    expected = sparsify.SparseCoder.load_from_disk(tmp_path / "layers.7").encode(rows)
    found = by_row(load_sae(tmp_path / "layers.7").encode(rows), 200)
    assert found == active(expected.top_acts, expected.top_indices)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sparsify_reads_our_checkpoint_and_encodes_the_same(
    sparsify: Any, sae: SAE, tmp_path: Path, rows: torch.Tensor, dtype: str
) -> None:
    save_sae(sae, tmp_path / "ours", dtype=dtype)
    coder = sparsify.SparseCoder.load_from_disk(tmp_path / "ours").float()
    assert (coder.num_latents, coder.d_in, coder.cfg.k) == (48, 32, 5)
    with torch.no_grad():
        expected = coder.encode(rows)
        decoded = coder.decode(expected.top_acts, expected.top_indices)
    ours = load_sae(tmp_path / "ours", decoder=True)
    codes = ours.encode(rows)
    assert by_row(codes, 200) == active(expected.top_acts, expected.top_indices)
    torch.testing.assert_close(ours.decode(codes, 200), decoded)
