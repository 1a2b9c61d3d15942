from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from companysim.encoding.sae import CONFIG_FILE, TENSOR_FILE, TopKSAE, load_sae, save_sae
from companysim.errors import WeightsError


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(50, 32, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def checkpoint(sae: TopKSAE, tmp_path: Path) -> Path:
    save_sae(sae, tmp_path / "sae", dtype="float32")
    return tmp_path / "sae"


def edit_config(checkpoint: Path, **changes: object) -> None:
    path = checkpoint / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(checkpoint: Path, **changes: torch.Tensor) -> None:
    save_file(load_file(checkpoint / TENSOR_FILE) | changes, checkpoint / TENSOR_FILE)


def test_encode_by_hand() -> None:
    sae = TopKSAE(
        encoder=torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]]),
        bias=torch.tensor([0.0, 0.5, 0.0, -4.0]),
        b_dec=torch.tensor([1.0, 2.0]),
        k=2,
        decoder=torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]),
    )
    values, indices = sae.encode(torch.tensor([[4.0, 3.0], [-3.0, 0.0]]))
    # x - b_dec = (3, 1) and (-4, -2); pre-activations (3, 1.5, -3, 0) and (-4, -1.5, 4, -10).
    assert values.tolist() == [[3.0, 1.5], [4.0, 0.0]]
    assert indices[0].tolist() == [0, 1]
    assert indices[1, 0] == 2
    assert sae.decode(values, indices)[0].tolist() == [1 + 3.0, 2 + 3.0]


def test_values_fall_and_are_never_negative(sae: TopKSAE, rows: torch.Tensor) -> None:
    values, _ = sae.encode(rows)
    assert (values.diff(dim=1) <= 0).all()
    assert (values >= 0).all()


@pytest.mark.parametrize("chunk", [1, 7, 49, 50])
def test_chunking_changes_nothing(sae: TopKSAE, rows: torch.Tensor, chunk: int) -> None:
    values, indices = sae.encode(rows)
    chunked_values, chunked_indices = sae.encode(rows, chunk)
    torch.testing.assert_close(chunked_values, values)
    assert torch.equal(chunked_indices, indices)


def test_no_rows_encode_to_no_rows(sae: TopKSAE) -> None:
    values, indices = sae.encode(torch.zeros(0, 32))
    assert values.shape == indices.shape == (0, 5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_round_trip_rounds_to_the_dtype_and_reads_float32(sae: TopKSAE, tmp_path: Path, dtype: str) -> None:
    save_sae(sae, tmp_path / "new" / "sae", dtype=dtype)
    read = load_sae(tmp_path / "new" / "sae", decoder=True)
    assert sae.decoder is not None
    assert read.decoder is not None
    assert (read.k, read.n_latents, read.width) == (5, 48, 32)
    for name in ("encoder", "bias", "b_dec", "decoder"):
        found, given = getattr(read, name), getattr(sae, name)
        assert found.dtype == torch.float32
        assert torch.equal(found, given.to(getattr(torch, dtype)).float())


def test_decoder_is_read_only_when_asked_for(checkpoint: Path, rows: torch.Tensor) -> None:
    sae = load_sae(checkpoint)
    assert sae.decoder is None
    with pytest.raises(WeightsError, match="load it with decoder=True"):
        sae.decode(*sae.encode(rows))


def test_saving_without_a_decoder_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="without its decoder cannot be saved"):
        save_sae(load_sae(checkpoint), tmp_path / "other")


@pytest.mark.parametrize("name", [CONFIG_FILE, TENSOR_FILE])
def test_missing_file_names_the_folder_and_both_files(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(WeightsError, match=rf"{checkpoint}.*needs cfg\.json and sae\.safetensors"):
        load_sae(checkpoint)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scramble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe garbage \x80" * 9)


@pytest.mark.parametrize("name", [CONFIG_FILE, TENSOR_FILE])
@pytest.mark.parametrize("damage", [cut, empty, scramble])
def test_damaged_file_is_refused(checkpoint: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(checkpoint / name)
    with pytest.raises(WeightsError, match=f"cannot read an SAE from {checkpoint}"):
        load_sae(checkpoint)


def test_tensor_missing_from_the_file_is_refused(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / TENSOR_FILE)
    del tensors["b_dec"]
    save_file(tensors, checkpoint / TENSOR_FILE)
    with pytest.raises(WeightsError, match="b_dec"):
        load_sae(checkpoint)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"signed": True}, "uses signed"),
        ({"transcode": True}, "uses transcode"),
        ({"skip_connection": True, "transcode": True}, "uses transcode, skip_connection"),
        ({"activation": "groupmax"}, "uses activation groupmax"),
    ],
)
def test_other_kinds_of_sae_are_refused(checkpoint: Path, change: dict[str, object], words: str) -> None:
    edit_config(checkpoint, **change)
    with pytest.raises(WeightsError, match=f"{words}: only plain TopK"):
        load_sae(checkpoint)


@pytest.mark.parametrize("text", ["[1, 2]", "{}", '{"k": "many"}'])
def test_config_without_k_is_refused(checkpoint: Path, text: str) -> None:
    (checkpoint / CONFIG_FILE).write_text(text)
    with pytest.raises(WeightsError, match=r"cfg\.json states no k"):
        load_sae(checkpoint)


@pytest.mark.parametrize("k", [0, -1, 49])
def test_k_that_the_latents_cannot_give_is_refused(checkpoint: Path, k: int) -> None:
    edit_config(checkpoint, k=k)
    with pytest.raises(WeightsError, match=f"48 latents but k is {k}"):
        load_sae(checkpoint)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.weight", (48, 31)),
        ("encoder.weight", (48,)),
        ("encoder.bias", (47,)),
        ("encoder.bias", (48, 1)),
        ("b_dec", (33,)),
        ("W_dec", (32, 48)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(checkpoint: Path, name: str, shape: tuple[int, ...]) -> None:
    edit_tensors(checkpoint, **{name: torch.zeros(shape)})
    with pytest.raises(WeightsError, match="do not fit each other"):
        load_sae(checkpoint, decoder=True)
