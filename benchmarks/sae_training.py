"""Training a sparse autoencoder: eai-sparsify's coder and optimisers in a loop, against companysim, side by side.

Both sides run in this process, in turn, on the same activations in the same batches for the same number of steps, and
give a TopK SAE of the same size. Theirs is what its Trainer, which itself wants a language model, does with a batch::

    coder = SparseCoder(width, SparseCoderConfig(num_latents=..., k=...)); coder.b_dec.data = first batch's mean
    out = coder(batch, dead_mask=...); (out.fvu + alpha * out.auxk_loss).backward()
    coder.remove_gradient_parallel_to_decoder_directions(); optimiser.step(); coder.set_decoder_norm_to_unit_norm()

with its default optimiser (schedule-free sign descent) and with Adam, each at the rate its Trainer picks by default.
Ours is `companysim.sae_training.trainer.train`. Both have the auxiliary loss with the same weight and patience.

Activations are made up of sparse directions (``--data made``), or the residual stream of the default language model on
the bundled sample (``--data sample``; minutes for the language model, not counted). The loss compared is the fraction
of variance unexplained on rows held out of both. The last line is one JSON object: `ratio` is the default optimiser's
time over ours, `loss_ratio` its loss over ours, `max_difference` how far the two sides' encodings of the same rows by
the same weights differ, as a check that both train the same function.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")

from schedulefree import ScheduleFreeWrapper
from sparsify import SparseCoder, SparseCoderConfig
from sparsify.sign_sgd import SignSGD

from companysim.encoding.sae import SAE, load_sae
from companysim.sae_training.activations import StoredActivations, collect_activations
from companysim.sae_training.batches import batches
from companysim.sae_training.quality import measure
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.trainer import train

HELD_OUT = 4096


@dataclass(frozen=True)
class Result:
    """One side, trained once.

    Attributes
    ----------
    seconds, processor_seconds : float
        Of training alone.
    unexplained : float
        Fraction of variance unexplained on held-out rows.
    dead_share : float
    sae : SAE
    """

    seconds: float
    processor_seconds: float
    unexplained: float
    dead_share: float
    sae: SAE


def timed(make: Callable[[], SAE], held_out: torch.Tensor) -> Result:
    """Train and measure."""
    start, processor = time.perf_counter(), time.process_time()
    sae = make()
    seconds, processed = time.perf_counter() - start, time.process_time() - processor
    found = measure(sae, held_out)
    return Result(seconds, processed, found.fraction_unexplained, found.dead_share, sae)


def theirs(rows: torch.Tensor, spec: TrainingSpec, optimiser_name: str, folder: Path) -> SAE:
    """Loop eai-sparsify's coder and optimiser over our batches."""
    torch.manual_seed(spec.seed)
    config = SparseCoderConfig(num_latents=spec.latents, k=spec.k)
    coder = SparseCoder(rows.shape[1], config, dtype=torch.float32)
    if optimiser_name == "adam":
        rate = 2e-4 / (spec.latents / 2**14) ** 0.5
        optimiser: Any = torch.optim.Adam(coder.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: spec.rate(step) / spec.learning_rate)
    else:
        rate = 5e-3 / (spec.latents / 2**14) ** 0.5
        optimiser = ScheduleFreeWrapper(SignSGD(coder.parameters(), lr=rate), momentum=0.95)
        optimiser.train()
        schedule = None
    silent = torch.zeros(spec.latents, dtype=torch.long)
    stream = batches(StoredActivations(rows), spec.batch, spec.seed)
    for step in range(spec.steps):
        x = next(stream)[0].float()
        if step == 0:
            coder.b_dec.data = x.mean(0)
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, dead_mask=silent > spec.dead_after if spec.auxiliary else None)
        (out.fvu + spec.auxiliary * out.auxk_loss).backward()
        fired = torch.zeros_like(silent, dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        silent = torch.where(fired, 0, silent + spec.batch)
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        if schedule is not None:
            schedule.step()
    if schedule is None:
        optimiser.eval()
    coder.set_decoder_norm_to_unit_norm()
    coder.save_to_disk(folder)
    return load_sae(folder, decoder=True)


def made_rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Sparse sums of 4 * width directions with a dense part, far from zero mean and unit scale, as activations are."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(4 * width, width, generator=generator), dim=1)
    offset = 100 * torch.randn(width, generator=generator)
    parts = []
    for size in [65_536] * (count // 65_536) + [count % 65_536]:
        chosen = torch.randint(4 * width, (size, 16), generator=generator)
        strength = torch.rand(size, 16, generator=generator).square() * 60
        dense = torch.randn(size, width, generator=generator)
        parts.append(
            torch.nn.functional.embedding_bag(chosen, directions, per_sample_weights=strength, mode="sum") + dense
        )
    return (torch.cat(parts) + offset).bfloat16()


def sample_rows() -> torch.Tensor:
    """Residual stream of the default language model on the bundled sample, at the default hook."""
    from companysim.config import EncoderConfig
    from companysim.encoding.llm import ResidualStream
    from companysim.encoding.weights import resolve
    from companysim.universe import FILINGS, bundled, read_table

    texts = read_table(bundled("sample/filings.parquet"), FILINGS)["text"].tolist()
    known = EncoderConfig()
    stream = ResidualStream(resolve(known.model, print), known.hook, window=256, overlap=0, dtype="bfloat16")
    rows = collect_activations(stream, stream.windows([ids for ids, _ in stream.tokenise(texts)]))
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


def same_function(sae: SAE, rows: torch.Tensor, folder: Path) -> float:
    """Largest difference between the two sides' activations for the same weights, over the largest activation."""
    from companysim.encoding.sae import save_sae

    save_sae(sae, folder, dtype="float32")
    with torch.no_grad():
        found = SparseCoder.load_from_disk(folder).encode(rows.float())
    dense = torch.zeros(len(rows), sae.n_latents).scatter_(1, found.top_indices, found.top_acts)
    codes = sae.encode(rows)
    ours = torch.zeros_like(dense)
    ours[codes.token, codes.latent] = codes.value
    return float((ours - dense).abs().max() / dense.abs().max())


def main(arguments: list[str] | None = None) -> None:
    """Run both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("made", "sample"), default="made")
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("-k", type=int, default=32)
    parser.add_argument("--width", type=int, default=576, help="of made activations")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of ours")
    parser.add_argument("--repetitions", type=int, default=1)
    chosen = parser.parse_args(arguments)
    spec = TrainingSpec(
        latents=chosen.latents, k=chosen.k, tokens=chosen.steps * chosen.batch, batch=chosen.batch,
        dead_after=max(chosen.batch, chosen.steps * chosen.batch // 10),
    )  # fmt: skip
    rows = sample_rows() if chosen.data == "sample" else made_rows(chosen.rows + HELD_OUT, chosen.width)
    held_out, rows = rows[:HELD_OUT], rows[HELD_OUT:]
    print(
        f"{len(rows):,} {chosen.data} activations of width {rows.shape[1]}, {spec.latents:,} latents, k = {spec.k}, "
        f"{spec.steps} steps of {spec.batch}, {torch.get_num_threads()} threads"
    )
    ours = replace(spec, precision=chosen.precision)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        sides: dict[str, Callable[[], SAE]] = {
            "theirs, signum": lambda: theirs(rows, spec, "signum", place / "signum"),
            "theirs, adam": lambda: theirs(rows, spec, "adam", place / "adam"),
            "ours": lambda: train(StoredActivations(rows), ours),
        }
        results: dict[str, list[Result]] = {name: [] for name in sides}
        for _ in range(chosen.repetitions):
            for name, make in sides.items():
                found = timed(make, held_out)
                results[name].append(found)
                print(
                    f"{name:>15}: {found.seconds:7.1f} s ({found.processor_seconds:.1f} s of processor), "
                    f"{found.unexplained:.4f} unexplained, {found.dead_share:.2%} dead",
                    flush=True,
                )
        difference = same_function(results["ours"][-1].sae, held_out, place / "ours")

    def middle(name: str, figure: str) -> float:
        return statistics.median(getattr(result, figure) for result in results[name])

    line: dict[str, Any] = {"benchmark": "sae_training", "data": chosen.data, "precision": chosen.precision}
    line["ratio"] = middle("theirs, signum", "seconds") / middle("ours", "seconds")
    line["ratio_processor_time"] = middle("theirs, signum", "processor_seconds") / middle("ours", "processor_seconds")
    line["ratio_adam"] = middle("theirs, adam", "seconds") / middle("ours", "seconds")
    line["unexplained_ours"] = middle("ours", "unexplained")
    line["unexplained_theirs"] = middle("theirs, signum", "unexplained")
    line["unexplained_theirs_adam"] = middle("theirs, adam", "unexplained")
    line["loss_ratio"] = line["unexplained_theirs"] / line["unexplained_ours"]
    line["max_difference"] = difference
    line |= {"latents": spec.latents, "k": spec.k, "steps": spec.steps, "batch": spec.batch}
    print(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()}))


if __name__ == "__main__":
    main()
