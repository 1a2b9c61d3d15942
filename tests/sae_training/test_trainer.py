from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from companysim.encoding.sae import SAE
from companysim.errors import ConfigError, DataError, RunError
from companysim.sae_training import trainer
from companysim.sae_training.activations import StoredActivations
from companysim.sae_training.checkpoint import CHECKPOINT, checkpoint_tokens
from companysim.sae_training.quality import measure
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.trainer import Record

SPEC = TrainingSpec(latents=48, k=3, tokens=100_000, batch=256, learning_rate=1e-2, dead_after=20_000, seed=1)


@pytest.fixture(scope="module")
def atoms() -> torch.Tensor:
    """A dictionary of 24 unit vectors in 16 dimensions."""
    return torch.nn.functional.normalize(torch.randn(24, 16, generator=torch.Generator().manual_seed(3)), dim=1)


@pytest.fixture(scope="module")
def activations(atoms: torch.Tensor) -> torch.Tensor:
    """Raw rows far from unit scale and zero mean: three atoms each, times 50, around an offset."""
    generator = torch.Generator().manual_seed(4)
    chosen = torch.stack([torch.randperm(24, generator=generator)[:3] for _ in range(6000)])
    strengths = 1 + torch.rand(6000, 3, generator=generator)
    offset = 200 * torch.randn(16, generator=generator)
    return 50 * (strengths.unsqueeze(-1) * atoms[chosen]).sum(1) + offset


def trained_on(rows: torch.Tensor, spec: TrainingSpec, report: Callable[[int, float], None] | None = None) -> SAE:
    def pass_on(record: Record) -> None:
        if report is not None:
            report(record.tokens, record.unexplained)

    return trainer.train(StoredActivations(rows), spec, report=pass_on)


@pytest.fixture(scope="module")
def trained(activations: torch.Tensor) -> SAE:
    return trained_on(activations[:5000], SPEC)


def first_step(spec: TrainingSpec) -> TrainingSpec:
    return replace(spec, tokens=spec.batch)


def test_training_explains_held_out_rows(trained: SAE, activations: torch.Tensor) -> None:
    # Predicting the mean leaves 1 unexplained. Raw rows go in: without the folded scale nothing would fit.
    held_out = measure(trained, activations[5000:])
    start = measure(trained_on(activations[:5000], first_step(SPEC)), activations[5000:])
    assert held_out.fraction_unexplained < 0.15
    assert held_out.fraction_unexplained < 0.5 * start.fraction_unexplained
    assert held_out.tokens == 1000
    assert 1 < held_out.l0 <= 3


def test_training_finds_the_dictionary(trained: SAE, atoms: torch.Tensor) -> None:
    assert trained.decoder is not None
    best = (atoms @ trained.decoder.T).max(dim=1).values
    assert float(best.median()) > 0.95


def test_decoder_rows_have_unit_norm(trained: SAE) -> None:
    assert trained.decoder is not None
    torch.testing.assert_close(trained.decoder.norm(dim=1), torch.ones(48))


def test_result_needs_no_gradient(trained: SAE) -> None:
    assert not any(getattr(trained, name).requires_grad for name in ("encoder", "bias", "shift", "b_dec", "decoder"))


def test_scale_of_the_input_folds_into_the_weights(activations: torch.Tensor) -> None:
    # A power of two changes no rounding, so everything that is no length stays the same to the bit.
    spec = TrainingSpec(latents=32, k=3, tokens=5_000, batch=256)
    plain, large = trained_on(activations, spec), trained_on(1024 * activations, spec)
    assert torch.equal(plain.encoder, large.encoder)
    assert torch.equal(1024 * plain.bias, large.bias)
    assert plain.b_dec is not None
    assert large.b_dec is not None
    assert torch.equal(1024 * plain.b_dec, large.b_dec)
    assert plain.shift is not None
    assert large.shift is not None
    assert torch.equal(1024 * plain.shift, large.shift)
    codes, large_codes = plain.encode(activations), large.encode(1024 * activations)
    assert torch.equal(1024 * codes.value, large_codes.value)
    assert torch.equal(codes.token, large_codes.token)
    assert torch.equal(codes.latent, large_codes.latent)


def test_seed_decides_the_result(activations: torch.Tensor) -> None:
    spec = TrainingSpec(latents=32, k=3, tokens=5_000, batch=256, seed=5)
    first = trained_on(activations, spec)
    torch.manual_seed(99)  # the global state must not matter
    again, other = trained_on(activations, spec), trained_on(activations, replace(spec, seed=6))
    assert torch.equal(first.encoder, again.encoder)
    assert torch.equal(first.b_dec, again.b_dec)
    assert not torch.equal(first.encoder, other.encoder)


def test_global_random_state_is_left_alone(activations: torch.Tensor) -> None:
    before = torch.get_rng_state()
    trained_on(activations, TrainingSpec(latents=32, k=3, tokens=512, batch=256))
    assert torch.equal(torch.get_rng_state(), before)


def test_auxiliary_loss_revives_dead_latents(activations: torch.Tensor) -> None:
    def dead_share(auxiliary: float) -> float:
        spec = TrainingSpec(
            latents=128,
            k=3,
            tokens=50_000,
            batch=256,
            learning_rate=3e-2,
            dead_after=5_000,
            auxiliary=auxiliary,
            seed=2,
        )
        return measure(trained_on(activations, spec), activations).dead_share

    assert dead_share(1.0) < 0.8 * dead_share(0.0)


def test_progress_reports_a_falling_loss(activations: torch.Tensor) -> None:
    seen: list[tuple[int, float]] = []
    trained_on(
        activations,
        TrainingSpec(latents=32, k=3, tokens=25_600, batch=256),
        lambda tokens, loss: seen.append((tokens, loss)),
    )
    assert [tokens for tokens, _ in seen] == [256 * (i + 1) for i in range(100)]
    assert seen[-1][1] < 0.8 * seen[0][1]


def test_bfloat16_rows_are_accepted(activations: torch.Tensor) -> None:
    sae = trained_on(activations.bfloat16(), TrainingSpec(latents=32, k=3, tokens=2_560, batch=256))
    assert sae.encoder.dtype == torch.float32


def test_fewer_rows_than_a_batch_are_refused(activations: torch.Tensor) -> None:
    with pytest.raises(DataError, match="255 activations, which fill no batch of 256: give more text"):
        trained_on(activations[:255], TrainingSpec(batch=256))


def test_rows_all_the_same_are_refused() -> None:
    with pytest.raises(DataError, match=r"spread by 0\.0: they must be finite and not all the same"):
        trained_on(torch.ones(300, 4), TrainingSpec(latents=8, k=2, batch=256, tokens=256))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused(activations: torch.Tensor, bad: float) -> None:
    rows = activations.clone()
    rows[17, 3] = bad
    with pytest.raises(DataError, match="must be finite"):
        trained_on(rows, TrainingSpec(latents=8, k=2, batch=256, tokens=256))


def test_diverging_training_is_stopped_with_a_remedy(activations: torch.Tensor) -> None:
    spec = TrainingSpec(latents=8, k=2, batch=256, tokens=25_600, learning_rate=1e38)
    with pytest.raises(DataError, match=r"not finite after [\d,]+ activations: lower the learning rate"):
        trained_on(activations, spec)


@pytest.mark.parametrize(("kind", "precision"), [("batchtopk", "float32"), ("jumprelu", "bfloat16")])
def test_other_kinds_reach_the_wanted_sparsity_and_explain_as_well(
    kind: Any, precision: Any, trained: SAE, activations: torch.Tensor
) -> None:
    sae = trained_on(activations[:5000], replace(SPEC, kind=kind, precision=precision))
    found, topk = measure(sae, activations[5000:]), measure(trained, activations[5000:])
    assert sae.activation == "jumprelu"
    assert sae.threshold is not None
    assert found.l0 == pytest.approx(3, rel=0.15)
    assert found.fraction_unexplained < topk.fraction_unexplained + 0.05
    thresholds = sae.threshold.unique()
    assert len(thresholds) == 1 if kind == "batchtopk" else len(thresholds) > 40


def test_short_batchtopk_runs_keep_the_sparsity(activations: torch.Tensor) -> None:
    spec = replace(SPEC, kind="batchtopk", tokens=100 * 256)
    assert measure(trained_on(activations[:5000], spec), activations[5000:]).l0 == pytest.approx(3, rel=0.1)


def test_the_last_step_is_recorded(activations: torch.Tensor) -> None:
    seen: list[int] = []
    spec = TrainingSpec(latents=32, k=3, tokens=256 * 205, batch=256)
    trained_on(activations, spec, lambda tokens, loss: seen.append(tokens))
    assert seen[-1] == 256 * 205
    assert len(seen) == 103


def test_identity_of_activations_does_not_depend_on_threads(activations: torch.Tensor) -> None:
    threads = torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(StoredActivations(activations.repeat(40, 1)).identity)
    torch.set_num_threads(threads)
    assert found[0] == found[1]
    assert StoredActivations(-activations).identity != StoredActivations(activations).identity


def test_jumprelu_without_penalty_does_not_keep_the_sparsity(activations: torch.Tensor) -> None:
    spec = replace(SPEC, kind="jumprelu", tokens=30_000)
    free = measure(trained_on(activations[:5000], replace(spec, sparsity=0.0)), activations[5000:])
    held = measure(trained_on(activations[:5000], spec), activations[5000:])
    assert free.l0 > 1.2 * held.l0


def test_transfer_begins_lower_than_scratch(trained: SAE, activations: torch.Tensor) -> None:
    moved = 3 * activations + 700.0  # another layer: the same directions, another scale and centre
    spec = replace(SPEC, tokens=100 * 256)
    curves: dict[bool, list[float]] = {True: [], False: []}
    for warm, curve in curves.items():
        source = StoredActivations(moved[:5000])
        trainer.train(source, spec, init=trained if warm else None, report=lambda r, c=curve: c.append(r.unexplained))
    assert curves[True][0] < 0.3 * curves[False][0]
    assert curves[True][-1] < curves[False][-1]


class Killed(BaseException):
    """As sudden as a signal."""


def killed_at(tokens: int) -> Callable[[Record], None]:
    def report(record: Record) -> None:
        if record.tokens >= tokens:
            raise Killed

    return report


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu"])
def test_a_killed_run_ends_with_the_same_bits(kind: Any, activations: torch.Tensor, tmp_path: Path) -> None:
    spec = replace(SPEC, kind=kind, tokens=30_000, dead_after=2_000)
    source = StoredActivations(activations)
    whole: list[Record] = []
    expected = trainer.train(source, spec, report=whole.append)
    options: dict[str, Any] = {"folder": tmp_path, "checkpoint_every": 3_500}
    with pytest.raises(Killed):
        trainer.train(source, spec, report=killed_at(16_500), **options)
    resumed_at = checkpoint_tokens(tmp_path)
    assert 10_000 < resumed_at < 16_500
    rest: list[Record] = []
    said: list[str] = []
    torch.manual_seed(99)
    found = trainer.train(source, spec, report=rest.append, say=said.append, **options)
    for name in ("encoder", "bias", "decoder", "b_dec", "threshold"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None and theirs is None) or torch.equal(ours, theirs), name
    later = [record for record in whole if record.tokens > resumed_at]
    assert [replace(r, seconds=0) for r in rest] == [replace(r, seconds=0) for r in later]
    assert said == [f"going on after {resumed_at:,} activations"]


def test_a_finished_run_is_read_back_from_its_checkpoint(activations: torch.Tensor, tmp_path: Path) -> None:
    spec = replace(SPEC, tokens=2_560)
    source = StoredActivations(activations)
    first = trainer.train(source, spec, folder=tmp_path)
    seen: list[Record] = []
    again = trainer.train(source, spec, folder=tmp_path, report=seen.append)
    assert not seen
    assert torch.equal(first.encoder, again.encoder)


def test_other_settings_do_not_go_on(activations: torch.Tensor, tmp_path: Path) -> None:
    spec = replace(SPEC, tokens=2_560)
    trainer.train(StoredActivations(activations), spec, folder=tmp_path)
    with pytest.raises(RunError, match=r"other settings \(k 3 instead of 2\): choose another --out or remove it"):
        trainer.train(StoredActivations(activations), replace(spec, k=2), folder=tmp_path)
    with pytest.raises(RunError, match=r"other settings \(activations"):
        trainer.train(StoredActivations(activations[1:]), spec, folder=tmp_path)
    trainer.train(StoredActivations(activations), replace(spec, learning_rate=1e-4), folder=tmp_path)


def test_after_divergence_a_lower_rate_goes_on_from_a_finite_checkpoint(
    activations: torch.Tensor, tmp_path: Path
) -> None:
    rows = activations.clone()
    spec = replace(SPEC, tokens=25_600, warmup=1.0, decay=0.0, learning_rate=1e38)
    with pytest.raises(
        DataError, match=r"not finite .* lower the learning rate, and run it again: there is no checkpoint"
    ):
        trainer.train(StoredActivations(rows), spec, folder=tmp_path)
    with pytest.raises(Killed):
        trainer.train(
            StoredActivations(rows), replace(spec, learning_rate=1e-2), folder=tmp_path, checkpoint_every=2_560,
            report=killed_at(12_000),
        )  # fmt: skip
    with pytest.raises(DataError, match=r"run it again: the last checkpoint, at \d+,\d+ activations, is whole"):
        trainer.train(StoredActivations(rows), spec, folder=tmp_path, checkpoint_every=2_560)
    sae = trainer.train(StoredActivations(rows), replace(spec, learning_rate=1e-3), folder=tmp_path)
    assert measure(sae, rows).fraction_unexplained < 0.9
    assert checkpoint_tokens(tmp_path) == 25_600


def test_a_full_disk_leaves_the_last_checkpoint(
    activations: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    spec, source = replace(SPEC, tokens=25_600), StoredActivations(activations)
    expected = trainer.train(source, spec)
    real, calls = safetensors.torch.save_file, []

    def full(tensors: Any, path: Any, metadata: Any) -> None:
        calls.append(path)
        if len(calls) == 3:
            Path(path).write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        real(tensors, path, metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(
        RunError, match=r"at 7,680 activations .*No space left on device.*at 5,120 activations, is whole"
    ):
        trainer.train(source, spec, folder=tmp_path, checkpoint_every=2_560)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    monkeypatch.setattr(safetensors.torch, "save_file", real)
    assert torch.equal(trainer.train(source, spec, folder=tmp_path).encoder, expected.encoder)


def test_a_damaged_checkpoint_is_named(activations: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(RunError, match=r"cannot read .*checkpoint\.safetensors .*: remove it to begin anew"):
        trainer.train(StoredActivations(activations), SPEC, folder=tmp_path)


def test_sae_to_begin_with_must_have_the_latents(trained: SAE, activations: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="has 48 latents, not 32: give that number"):
        trainer.train(StoredActivations(activations), replace(SPEC, latents=32), init=trained)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"k": 0}, "k is 0 of 48 latents"),
        ({"kind": "gated"}, "choose topk, batchtopk or jumprelu"),
        ({"precision": "float16"}, "choose float32 or bfloat16"),
        ({"seed": -1}, "seed is -1: it must be 0 or a positive"),
        ({"tokens": 0}, "tokens is 0: it must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: it must be a positive number"),
        ({"auxiliary": -1.0}, r"auxiliary is -1\.0: it must be 0 or"),
        ({"warmup": 0.8}, "shares of the steps that add up to at most 1"),
    ],
)
def test_impossible_choices_are_refused(choice: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(SPEC, **choice)


def test_learning_rate_rises_stays_and_falls() -> None:
    spec = TrainingSpec(tokens=100 * 2048, learning_rate=2.0, warmup=0.1, decay=0.2)
    rates = [spec.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10:80] == [2.0] * 70
    assert rates[80:] == pytest.approx([0.1 * (20 - i) for i in range(20)])
