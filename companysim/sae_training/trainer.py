"""The training loop: batches in, an SAE out, to be stopped at any time.

The recipe of Gao et al. 2024 (arXiv 2406.04093): Adam on decoder rows of unit norm, gradients clipped, a learning rate
that rises, stays and falls. Inputs are scaled to unit root mean square; the scale is folded back into the weights
afterwards, so that the result reads raw activations. Several processes share each batch through accelerate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from companysim.encoding.sae import SAE
from companysim.errors import ConfigError, DataError
from companysim.sae_training.activations import Activations
from companysim.sae_training.batches import Position, batches
from companysim.sae_training.checkpoint import fingerprint_of_tensors, left, load_checkpoint, save_checkpoint
from companysim.sae_training.coder import Coder, Start, Step, random_start
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.transfer import start_of, transfer

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]

PROBE = 100_000
THRESHOLD_MEMORY = 0.99
"""Weight of the past in the running mean of BatchTopK's smallest value, in long runs; short ones forget faster."""


@dataclass(frozen=True)
class Record:
    """One line of the log: means over the steps since the line before.

    Attributes
    ----------
    step, tokens : int
        Steps done and activations seen.
    unexplained : float
        Fraction of variance unexplained.
    l0 : float
        Active latents a token.
    dead_share : float
        Share of latents silent for long, at this step.
    learning_rate : float
    seconds : float
        Since this call began.
    """

    step: int
    tokens: int
    unexplained: float
    l0: float
    dead_share: float
    learning_rate: float
    seconds: float


def train(
    source: Activations,
    spec: TrainingSpec,
    *,
    init: SAE | None = None,
    folder: Path | None = None,
    checkpoint_every: int = 500_000,
    report: Callable[[Record], None] = lambda record: None,
    say: Callable[[str], None] = lambda message: None,
    accelerator: Accelerator | None = None,
) -> SAE:
    """Train an SAE.

    Parameters
    ----------
    source : Activations
    spec : TrainingSpec
    init : SAE, optional
        To begin with instead of random directions, see `companysim.sae_training.transfer`.
    folder : path, optional
        Where checkpoints are kept; a run stopped there goes on. A lower learning rate may be given then.
    checkpoint_every : int
        Activations between checkpoints.
    report : callable
        Receives about 100 records.
    say : callable
        Receives a line when a run goes on or begins with another SAE.
    accelerator : Accelerator, optional
        One process on the CPU by default. Of several processes each gives its own share of the activations; BatchTopK
        and JumpReLU's penalty then see the share of a batch that one process has.

    Returns
    -------
    SAE
        TopK, or JumpReLU for the other two kinds; a BatchTopK SAE gets one threshold, the mean of the smallest values
        its batches kept (Bussmann et al. 2024), which is a running mean here, so that the last batches count.

    Raises
    ------
    DataError
        If the activations fill no batch, are all the same or not finite, or the loss stops being finite.
    ConfigError
        If the batch cannot be divided among the processes, or `init` has another number of latents.
    RunError
        If a checkpoint cannot be written or is of another run.
    WeightsError
        If `init` does not fit the activations.
    """
    if accelerator is None:
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
    if spec.batch % accelerator.num_processes:
        raise ConfigError(f"a batch of {spec.batch} cannot be divided among {accelerator.num_processes} processes")
    if init is not None and init.n_latents != spec.latents:
        raise ConfigError(f"the SAE to begin with has {init.n_latents} latents, not {spec.latents}: give that number")
    settings = _settings(source, spec, init, accelerator) if folder is not None else {}
    found = load_checkpoint(folder, settings) if folder is not None else None
    if found is not None:
        state = _State.restored(found, spec, accelerator)
        say(f"going on after {state.step * spec.batch:,} activations")
    else:
        state = _State.begun(source, spec, init, accelerator, say)
    state.run(source, accelerator, folder, settings, max(1, checkpoint_every // spec.batch), report)
    return state.result()


class _State:
    """All that changes while training."""

    def __init__(self, spec: TrainingSpec, start: Start, scale: float, accelerator: Accelerator) -> None:
        self.spec, self.scale = spec, scale
        self.coder = Coder(spec, start).to(accelerator.device)
        self.optimiser = torch.optim.Adam(self.coder.parameters(), lr=spec.learning_rate, fused=True)
        self.silent = torch.zeros(spec.latents, dtype=torch.int64, device=accelerator.device)
        self.least = torch.zeros((), device=accelerator.device)
        self.step = 0
        self.position = Position()
        self.sums = torch.zeros(3, dtype=torch.float64)  # unexplained, l0 and steps since the last record

    @classmethod
    def begun(
        cls,
        source: Activations,
        spec: TrainingSpec,
        init: SAE | None,
        accelerator: Accelerator,
        say: Callable[[str], None],
    ) -> _State:
        rows = source.chunk(0).rows
        generator = torch.Generator().manual_seed(spec.seed)
        some = torch.randperm(len(rows), generator=generator)[:PROBE].to(rows.device)
        probe = rows[some].to(accelerator.device).float()
        centre, scale = _moments(probe, accelerator)
        if not len(rows):
            raise DataError("the text gives no activation to train on: give more text, or hold out fewer documents")
        if not (isfinite(scale) and scale > 0):
            raise DataError(f"the activations spread by {scale}: they must be finite and not all the same")
        if init is None:
            start = random_start(spec.latents, centre / scale, spec.seed)
        else:
            moved = transfer(init, probe.to(init.encoder.device))
            say(
                f"the SAE to begin with leaves {moved.fraction_unexplained:.1%} of the variance unexplained, scaled by "
                f"{moved.ratio:.3g}" + (" and centred anew" if moved.centred else "")
            )
            start = start_of(moved.sae, scale)
        state = cls(spec, start, scale, accelerator)
        if spec.kind == "jumprelu" and start.threshold is None:
            state.coder.set_threshold(probe[: spec.batch] / scale)
        return state

    @classmethod
    def restored(cls, found: dict[str, torch.Tensor], spec: TrainingSpec, accelerator: Accelerator) -> _State:
        start = Start(*(found[f"coder.{name}"] for name in ("encoder", "bias", "decoder", "b_dec")))
        state = cls(spec, start, float(found["scale"]), accelerator)
        with torch.no_grad():
            for name, parameter in state.coder.named_parameters():
                parameter.copy_(found[f"coder.{name}"])
                state.optimiser.state[parameter] = {
                    "step": found["step"].to(accelerator.device, torch.float32),  # where Adam keeps it if fused
                    "exp_avg": found[f"first.{name}"].to(accelerator.device),
                    "exp_avg_sq": found[f"second.{name}"].to(accelerator.device),
                }
        state.silent = found["silent"].to(accelerator.device)
        state.least = found["least"].to(accelerator.device)
        state.sums = found["sums"]
        state.step = int(found["step"])
        state.position = Position(*found["position"].tolist())
        return state

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it, as tensors."""
        result = {
            "scale": torch.tensor(self.scale, dtype=torch.float64),
            "silent": self.silent,
            "least": self.least,
            "sums": self.sums,
            "step": torch.tensor(self.step),
            "position": torch.tensor(self.position),
        }
        for name, parameter in self.coder.named_parameters():
            result[f"coder.{name}"] = parameter
            result[f"first.{name}"] = self.optimiser.state[parameter]["exp_avg"]
            result[f"second.{name}"] = self.optimiser.state[parameter]["exp_avg_sq"]
        return result

    def run(
        self,
        source: Activations,
        accelerator: Accelerator,
        folder: Path | None,
        settings: dict[str, Any],
        every: int,
        report: Callable[[Record], None],
    ) -> None:
        """Take the steps that are left."""
        spec, device = self.spec, accelerator.device
        model = accelerator.prepare(self.coder)
        began = time.perf_counter()

        def agree(available: int) -> int:
            return int(accelerator.gather(torch.tensor([available], device=device)).min())

        stream = batches(source, spec.batch // accelerator.num_processes, spec.seed, self.position, agree)
        while self.step < spec.steps:
            rows, position = next(stream)
            dead = self.silent > spec.dead_after
            found: Step = model(rows.to(device).float() / self.scale, dead)
            self._descend(found, accelerator, folder)
            self.step, self.position = self.step + 1, position
            self._count(found, accelerator)
            if self.step % max(1, spec.steps // 100) == 0 or self.step == spec.steps:
                self._record(report, time.perf_counter() - began)
            if folder is not None and (self.step % every == 0 or self.step == spec.steps):
                if accelerator.is_main_process:
                    save_checkpoint(folder, self.tensors(), settings, self.step * spec.batch)
                accelerator.wait_for_everyone()

    def _descend(self, found: Step, accelerator: Accelerator, folder: Path | None) -> None:
        """One step of Adam, unless loss or gradient are not finite."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.spec.rate(self.step)
        self.optimiser.zero_grad()
        accelerator.backward(found.total)
        norm = torch.nn.utils.clip_grad_norm_(self.coder.parameters(), self.spec.clip)
        if not (isfinite(float(found.total.detach())) and isfinite(float(norm))):
            kept = f", and run it again: {left(folder)}" if folder is not None else ""
            raise DataError(
                f"the loss is not finite after {self.step * self.spec.batch:,} activations: lower the learning "
                f"rate{kept}"
            )
        self.optimiser.step()
        self.coder.normalise()

    def _count(self, found: Step, accelerator: Accelerator) -> None:
        """Keep the books of one step, the same in all processes."""
        fired = accelerator.reduce(found.fired.int(), "sum") > 0
        self.silent = torch.where(fired, 0, self.silent + self.spec.batch)
        means = accelerator.reduce(torch.stack([found.unexplained, found.active, found.least]), "mean")
        if bool(means[2].isfinite()):
            memory = max(0.0, min(THRESHOLD_MEMORY, 1 - 10 / self.spec.steps)) if self.step > 1 else 0.0
            self.least = memory * self.least + (1 - memory) * means[2]
        self.sums += torch.tensor([float(means[0]), float(means[1]), 1.0], dtype=torch.float64)

    def _record(self, report: Callable[[Record], None], seconds: float) -> None:
        unexplained, active, steps = self.sums.tolist()
        dead = float((self.silent > self.spec.dead_after).float().mean())
        tokens, rate = self.step * self.spec.batch, self.spec.rate(self.step - 1)
        report(Record(self.step, tokens, unexplained / steps, active / steps, dead, rate, seconds))
        self.sums = torch.zeros_like(self.sums)

    def result(self) -> SAE:
        """Fold the scale: ``relu((x/s - b) @ W.T + c) * s = relu((x - s b) @ W.T + s c)``."""
        coder, spec, scale = self.coder, self.spec, self.scale
        shift = coder.b_dec.detach() * scale
        encoder, bias, decoder = coder.encoder.detach(), coder.bias.detach() * scale, coder.decoder.detach()
        if spec.kind == "topk":
            return SAE(encoder, bias, k=spec.k, shift=shift, decoder=decoder, b_dec=shift)
        least = self.least.expand(spec.latents) if spec.kind == "batchtopk" else coder.log_threshold.detach().exp()
        return SAE(encoder, bias, "jumprelu", threshold=least * scale, shift=shift, decoder=decoder, b_dec=shift)


def _moments(probe: torch.Tensor, accelerator: Accelerator) -> tuple[torch.Tensor, float]:
    """Mean and root mean square deviation of rows over all processes; NaN without any row."""
    count = accelerator.reduce(torch.tensor(float(len(probe)), device=probe.device), "sum")
    centre = accelerator.reduce(probe.sum(0), "sum") / count
    spread = accelerator.reduce((probe - centre).pow(2).sum(), "sum") / (count * probe.shape[1])
    return centre, float(spread.sqrt())


def _settings(source: Activations, spec: TrainingSpec, init: SAE | None, accelerator: Accelerator) -> dict[str, Any]:
    """Collect what a run that goes on must share with the one that stopped; the learning rate may change."""
    chosen = {key: value for key, value in asdict(spec).items() if key != "learning_rate"}
    begun = None if init is None else fingerprint_of_tensors(init.encoder, init.bias)
    return chosen | {"activations": source.identity, "init": begun, "processes": accelerator.num_processes}
