from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load_file, save_file

from companysim.encoding.sae import SAE, Codes, load_sae, save_sae
from companysim.encoding.sae_formats import CONFIG_FILE, SPARSIFY_FILE
from companysim.errors import WeightsError

HAND = SAE(
    encoder=torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]]),
    bias=torch.tensor([0.0, 0.5, 0.0, -4.0]),
    k=2,
    shift=torch.tensor([1.0, 2.0]),
    decoder=torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]),
    b_dec=torch.tensor([1.0, 2.0]),
)
# x - shift = (3, 1) and (-4, -2); pre-activations (3, 1.5, -3, 0) and (-4, -1.5, 4, -10).
HAND_ROWS = torch.tensor([[4.0, 3.0], [-3.0, 0.0]])


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(50, 32, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def checkpoint(sae: SAE, tmp_path: Path) -> Path:
    save_sae(sae, tmp_path / "sae", dtype="float32")
    return tmp_path / "sae"


def kinds(sae: SAE) -> dict[str, SAE]:
    """The fixture's tensors under every activation."""
    parts: dict[str, Any] = {"encoder": sae.encoder, "bias": sae.bias, "decoder": sae.decoder, "b_dec": sae.b_dec}
    threshold = torch.linspace(-1, 6, 48)
    return {
        "topk": sae,
        "groupmax": SAE(**parts, activation="groupmax", k=6, shift=sae.b_dec),
        "relu": SAE(**parts, activation="relu"),
        "jumprelu": SAE(**parts, activation="jumprelu", threshold=threshold),
    }


def triples(codes: Codes) -> list[tuple[int, int, float]]:
    return list(zip(codes.token.tolist(), codes.latent.tolist(), codes.value.tolist(), strict=True))


def edit_config(checkpoint: Path, **changes: object) -> None:
    path = checkpoint / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(checkpoint: Path, **changes: torch.Tensor) -> None:
    # Clones, since the file is mapped while it is rewritten.
    tensors = {name: tensor.clone() for name, tensor in load_file(checkpoint / SPARSIFY_FILE).items()}
    save_file(tensors | changes, checkpoint / SPARSIFY_FILE)


def test_topk_by_hand() -> None:
    codes = HAND.encode(HAND_ROWS)
    assert triples(codes) == [(0, 0, 3.0), (0, 1, 1.5), (1, 2, 4.0)]
    assert HAND.decode(codes, 2).tolist() == [[1 + 3.0, 2 + 3.0], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("activation", "options", "expected"),
    [
        ("groupmax", {"k": 2}, [(0, 0, 3.0), (1, 2, 4.0)]),  # groups (0, 1) and (2, 3); row 0's second is 0
        ("relu", {}, [(0, 0, 3.0), (0, 1, 1.5), (1, 2, 4.0)]),
        # Above the threshold, not at it, and above 0 even where the threshold is not.
        ("jumprelu", {"threshold": torch.tensor([2.9, 1.5, -9.0, -9.0])}, [(0, 0, 3.0), (1, 2, 4.0)]),
        ("jumprelu", {"threshold": torch.tensor(3.5)}, [(1, 2, 4.0)]),
    ],
)
def test_other_activations_by_hand(
    activation: Any, options: dict[str, Any], expected: list[tuple[int, int, float]]
) -> None:
    sae = SAE(HAND.encoder, HAND.bias, activation, shift=HAND.shift, **options)
    assert triples(sae.encode(HAND_ROWS)) == expected


def test_normalisations_by_hand() -> None:
    eye, zero = torch.eye(3), torch.zeros(3)
    row = torch.tensor([[1.0, 2.0, 2.0]])
    scaled = SAE(eye, zero, "relu", normalise="constant_norm").encode(row).value
    np.testing.assert_allclose(scaled, np.array([1, 2, 2]) / 3 * np.sqrt(3), rtol=1e-6)
    layer = SAE(eye, zero, "relu", normalise="layer_norm").encode(row).value
    centred = np.array([1, 2, 2]) - 5 / 3
    np.testing.assert_allclose(layer, (centred / (centred.std(ddof=1) + 1e-5))[1:], rtol=1e-6)


@pytest.mark.parametrize("kind", ["topk", "groupmax", "relu", "jumprelu"])
def test_codes_are_ordered_positive_and_bounded(sae: SAE, rows: torch.Tensor, kind: str) -> None:
    coder = kinds(sae)[kind]
    token, latent, value = coder.encode(rows)
    assert token.dtype == latent.dtype == torch.int64
    assert value.dtype == torch.float32
    assert (value > 0).all()
    assert (torch.diff(token * 48 + latent) > 0).all()
    if coder.k:
        assert torch.bincount(token).max() <= coder.k


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (3, 12), elements=st.floats(-4, 4, width=16)), st.integers(1, 12))
def test_topk_is_the_largest_positive_ones(pre: np.ndarray, k: int) -> None:
    # The identity as encoder, so that the input is the pre-activation; halves and quarters give ties and zeros.
    sae = SAE(torch.eye(12), torch.zeros(12), k=k)
    codes = sae.encode(torch.from_numpy(pre))
    for row in range(3):
        found = codes.value[codes.token == row].tolist()
        best = sorted((v for v in pre[row].tolist() if v > 0), reverse=True)[:k]
        # Of ties at the k-th place some are kept; how many, and the values, are defined.
        assert sorted(found, reverse=True) == best
        assert found == [pre[row, i] for i in codes.latent[codes.token == row].tolist()]


@pytest.mark.parametrize("kind", ["topk", "groupmax", "relu", "jumprelu"])
@pytest.mark.parametrize("tokens", [1, 7, 49, 50])
def test_chunking_changes_no_bit_of_exact_sums(sae: SAE, kind: str, tokens: int) -> None:
    # With small whole numbers every order of summation is exact, so a difference would be one of logic.
    generator = torch.Generator().manual_seed(8)
    whole = {name: torch.randint(-3, 4, t.shape, generator=generator).float() for name, t in parts(sae).items()}
    x = torch.randint(-5, 6, (50, 32), generator=generator).float()
    given_ = kinds(SAE(**whole, k=5, shift=whole["b_dec"]))[kind]
    together, apart = given_.encode(x), given_.encode(x, budget=tokens * 48 * 4)
    assert triples(together) == triples(apart)


@pytest.mark.parametrize("tokens", [1, 7, 49])
def test_chunking_changes_rounding_only(sae: SAE, rows: torch.Tensor, tokens: int) -> None:
    together, apart = sae.encode(rows), sae.encode(rows, budget=tokens * 48 * 4)
    assert torch.equal(together.token, apart.token)
    assert torch.equal(together.latent, apart.latent)
    torch.testing.assert_close(together.value, apart.value)


def parts(sae: SAE) -> dict[str, torch.Tensor]:
    return {name: getattr(sae, name) for name in ("encoder", "bias", "decoder", "b_dec")}


@pytest.mark.parametrize("kind", ["topk", "groupmax", "relu", "jumprelu"])
@pytest.mark.parametrize(("budget", "largest"), [(7 * 48 * 4, 7), (7 * 48 * 4 - 1, 6), (10, 1), (10**9, 50)])
def test_budget_bounds_every_matrix_of_tokens_by_latents(
    sae: SAE, rows: torch.Tensor, kind: str, budget: int, largest: int
) -> None:
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        """Notes the size of everything torch makes."""

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            made = result if isinstance(result, tuple | list) else [result]
            tensors = [t for t in made if isinstance(t, torch.Tensor) and t.shape != (32, 48)]  # the encoder, turned
            sizes.extend(t.numel() for t in tensors if t.ndim > 1 and t.shape[-1] == 48)
            return result

    with Watch():
        kinds(sae)[kind].encode(rows, budget=budget)
    assert max(sizes) == largest * 48


@pytest.mark.parametrize("kind", ["topk", "groupmax", "relu", "jumprelu"])
def test_no_rows_encode_to_no_codes(sae: SAE, kind: str) -> None:
    coder = kinds(sae)[kind]
    codes = coder.encode(torch.zeros(0, 32))
    assert [tuple(part.shape) for part in codes] == [(0,), (0,), (0,)]
    assert [part.dtype for part in codes] == [torch.int64, torch.int64, torch.float32]
    assert coder.decode(codes, 0).shape == (0, 32)


def test_rows_without_active_latents_decode_to_the_bias(sae: SAE) -> None:
    silent = SAE(sae.encoder, torch.full((48,), -1e6), k=5, decoder=sae.decoder, b_dec=sae.b_dec)
    codes = silent.encode(torch.ones(3, 32))
    assert len(codes.token) == 0
    assert sae.b_dec is not None
    assert torch.equal(silent.decode(codes, 3), sae.b_dec.expand(3, 32))


@pytest.mark.parametrize("kind", ["topk", "groupmax", "relu", "jumprelu"])
def test_decode_equals_the_dense_product(sae: SAE, rows: torch.Tensor, kind: str) -> None:
    coder = kinds(sae)[kind]
    codes = coder.encode(rows)
    dense = torch.zeros(50, 48).index_put((codes.token, codes.latent), codes.value)
    assert coder.decoder is not None
    assert coder.b_dec is not None
    torch.testing.assert_close(coder.decode(codes, 50), dense @ coder.decoder + coder.b_dec)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rows_of_any_dtype_are_converted(sae: SAE, rows: torch.Tensor, dtype: torch.dtype) -> None:
    found, expected = sae.encode(rows.to(dtype)), sae.encode(rows.to(dtype).float())
    assert triples(found) == triples(expected)


def test_bfloat16_weights_encode_and_decode(checkpoint: Path, rows: torch.Tensor) -> None:
    sae = load_sae(checkpoint, decoder=True, dtype="bfloat16")
    assert sae.encoder.dtype == torch.bfloat16
    codes = sae.encode(rows)
    assert codes.value.dtype == torch.float32
    assert torch.equal(codes.value, codes.value.bfloat16().float())
    exact = load_sae(checkpoint, decoder=True)
    expected = exact.decode(exact.encode(rows), 50)
    assert (sae.decode(codes, 50).float() - expected).norm() < 0.02 * expected.norm()


def test_no_gradient_is_recorded(sae: SAE, rows: torch.Tensor) -> None:
    learning = SAE(sae.encoder.clone().requires_grad_(), sae.bias, k=5, decoder=sae.decoder)
    codes = learning.encode(rows)
    assert not codes.value.requires_grad
    codes.token.add_(1)  # and the result is an ordinary tensor, which may be changed


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["topk", "groupmax"])
def test_round_trip_rounds_to_the_dtype_and_reads_float32(sae: SAE, tmp_path: Path, dtype: str, kind: str) -> None:
    coder = kinds(sae)[kind]
    save_sae(coder, tmp_path / "new" / "layers.3", dtype=dtype)
    read = load_sae(tmp_path / "new" / "layers.3", decoder=True)
    assert (read.activation, read.k, read.n_latents, read.width) == (kind, coder.k, 48, 32)
    assert read.hook == "layers.3"
    assert read.shift is read.b_dec
    for name, value in parts(coder).items():
        found = getattr(read, name)
        assert found.dtype == torch.float32
        assert torch.equal(found, value.to(getattr(torch, dtype)).float())


def test_decoder_is_read_only_when_asked_for(checkpoint: Path, rows: torch.Tensor) -> None:
    sae = load_sae(checkpoint)
    assert sae.decoder is None
    with pytest.raises(WeightsError, match="load it with decoder=True"):
        sae.decode(sae.encode(rows), 50)


def test_encoding_needs_no_decoder_in_the_file(checkpoint: Path, sae: SAE, rows: torch.Tensor) -> None:
    tensors = load_file(checkpoint / SPARSIFY_FILE)
    save_file({name: t.clone() for name, t in tensors.items() if name != "W_dec"}, checkpoint / SPARSIFY_FILE)
    assert triples(load_sae(checkpoint).encode(rows)) == triples(sae.encode(rows))
    with pytest.raises(WeightsError, match="no tensor W_dec: it can be encoded with, but not decoded"):
        load_sae(checkpoint, decoder=True)


def test_saving_without_a_decoder_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="without its decoder cannot be saved"):
        save_sae(load_sae(checkpoint), tmp_path / "other")


@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
def test_saving_what_sparsify_cannot_hold_is_refused(sae: SAE, tmp_path: Path, kind: str) -> None:
    with pytest.raises(WeightsError, match=f"a {kind} SAE cannot be saved"):
        save_sae(kinds(sae)[kind], tmp_path / "other")


def test_saving_a_topk_that_does_not_subtract_its_bias_is_refused(sae: SAE, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="subtract b_dec"):
        save_sae(SAE(**parts(sae), k=5), tmp_path / "other")


def test_overflow_of_float16_is_refused_and_writes_nothing(sae: SAE, tmp_path: Path) -> None:
    large = SAE(**parts(sae) | {"bias": 1e5 * sae.bias.abs().clamp(min=1)}, k=5, shift=sae.b_dec)
    with pytest.raises(WeightsError, match=r"encoder\.bias reaches .*float16 cannot hold.*save with dtype='float32'"):
        save_sae(large, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    save_sae(large, tmp_path / "other", dtype="float32")


def test_values_that_are_not_finite_are_refused(checkpoint: Path, sae: SAE) -> None:
    encoder = sae.encoder.clone()
    encoder[3, 4] = float("nan")
    edit_tensors(checkpoint, **{"encoder.weight": encoder})
    with pytest.raises(WeightsError, match=rf"SAE in {checkpoint}: tensor encoder\.weight is not finite in float32"):
        load_sae(checkpoint)


def test_overflow_while_reading_is_refused(checkpoint: Path, sae: SAE) -> None:
    edit_tensors(checkpoint, **{"encoder.bias": 1e5 * sae.bias.abs().clamp(min=1)})
    assert load_sae(checkpoint).bias.max() > 1e5
    with pytest.raises(WeightsError, match=r"encoder\.bias is not finite in float16"):
        load_sae(checkpoint, dtype="float16")


@pytest.mark.parametrize("name", [CONFIG_FILE, SPARSIFY_FILE])
def test_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    words = r"cannot read cfg\.json" if name == CONFIG_FILE else r"holds no SAE: give a directory with one of sae\.safe"
    with pytest.raises(WeightsError, match=f"{checkpoint}.*{words}"):
        load_sae(checkpoint)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scramble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe garbage \x80" * 9)


@pytest.mark.parametrize("name", [CONFIG_FILE, SPARSIFY_FILE])
@pytest.mark.parametrize("damage", [cut, empty, scramble])
def test_damaged_file_is_refused(checkpoint: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(checkpoint / name)
    with pytest.raises(WeightsError, match=f"SAE in {checkpoint}: cannot read {name}"):
        load_sae(checkpoint)


@pytest.mark.parametrize("name", ["encoder.bias", "b_dec"])
def test_tensor_missing_from_the_file_is_refused(checkpoint: Path, name: str) -> None:
    tensors = {key: t.clone() for key, t in load_file(checkpoint / SPARSIFY_FILE).items() if key != name}
    save_file(tensors, checkpoint / SPARSIFY_FILE)
    with pytest.raises(WeightsError, match=f"no tensor {name}, only"):
        load_sae(checkpoint)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"signed": True}, "uses signed, which"),
        ({"transcode": True}, "uses transcode, which"),
        ({"skip_connection": True, "transcode": True}, "uses transcode, skip_connection, which"),
        ({"activation": "tanh"}, "its activation is 'tanh': only topk, groupmax"),
        ({"num_latents": 47}, "states 47 latents of width 32, the tensors hold 48 of 32"),
        ({"num_latents": 0, "expansion_factor": 2}, "states 64 latents"),
        ({"d_in": 31}, "48 latents of width 31"),
        ({"num_latents": None, "expansion_factor": 2.5}, r"expansion_factor in cfg\.json is no whole number"),
        ({"d_in": "32"}, r"d_in, .* in cfg\.json is no whole number"),
        ({"activation": "groupmax"}, "48 latents do not split into k = 5 groups"),
    ],
)
def test_configurations_that_cannot_be_encoded_are_refused(
    checkpoint: Path, change: dict[str, object], words: str
) -> None:
    edit_config(checkpoint, **change)
    with pytest.raises(WeightsError, match=f"{checkpoint}.*{words}"):
        load_sae(checkpoint)


@pytest.mark.parametrize("text", ["{}", '{"k": "many"}', '{"k": true}'])
def test_config_without_k_is_refused(checkpoint: Path, text: str) -> None:
    (checkpoint / CONFIG_FILE).write_text(text)
    with pytest.raises(WeightsError, match="states no whole number k"):
        load_sae(checkpoint)


@pytest.mark.parametrize("text", ["[1, 2]", "3", "null"])
def test_config_that_is_no_object_is_refused(checkpoint: Path, text: str) -> None:
    (checkpoint / CONFIG_FILE).write_text(text)
    with pytest.raises(WeightsError, match=r"cfg\.json holds no JSON object"):
        load_sae(checkpoint)


@pytest.mark.parametrize("k", [0, -1, 49])
def test_k_that_the_latents_cannot_give_is_refused(checkpoint: Path, k: int) -> None:
    edit_config(checkpoint, k=k)
    with pytest.raises(WeightsError, match=f"48 latents but k is {k}"):
        load_sae(checkpoint)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("encoder.weight", (48, 31), "do not fit each other"),
        ("encoder.weight", (48,), "not latents by width"),
        ("encoder.weight", (0, 32), "not latents by width"),
        ("encoder.bias", (47,), "do not fit each other"),
        ("encoder.bias", (48, 1), "do not fit each other"),
        ("b_dec", (33,), "do not fit each other"),
        ("W_dec", (32, 48), "do not fit each other"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    checkpoint: Path, name: str, shape: tuple[int, ...], words: str
) -> None:
    edit_tensors(checkpoint, **{name: torch.zeros(shape)})
    with pytest.raises(WeightsError, match=words):
        load_sae(checkpoint)


def test_whole_numbers_for_weights_are_refused(checkpoint: Path) -> None:
    edit_tensors(checkpoint, **{"encoder.bias": torch.zeros(48, dtype=torch.int64)})
    with pytest.raises(WeightsError, match=r"encoder\.bias is I64 .* asks for floating point"):
        load_sae(checkpoint)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bias": torch.zeros(3)}, "bias of shape"),
        ({"b_dec": torch.zeros(3)}, "b_dec of shape"),
        ({"k": None}, "needs a k from 1 to 48, not None"),
        ({"k": 49}, "needs a k from 1 to 48, not 49"),
        ({"activation": "groupmax"}, "do not split into k = 5 groups"),
        ({"activation": "jumprelu"}, "needs a threshold"),
        ({"activation": "jumprelu", "threshold": torch.zeros(3)}, "threshold of shape"),
    ],
)
def test_tensors_that_do_not_fit_make_no_sae(sae: SAE, change: dict[str, Any], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        SAE(**parts(sae) | {"k": 5} | change)
