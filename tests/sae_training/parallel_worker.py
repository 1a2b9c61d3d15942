"""Run by torchrun in two processes: gradients of half a batch each, then a whole training."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from companysim.sae_training.activations import StoredActivations
from companysim.sae_training.coder import Coder, random_start
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.trainer import train

SPEC = TrainingSpec(latents=48, k=4, tokens=6400, batch=64, dead_after=500, learning_rate=5e-3)


def rows() -> torch.Tensor:
    """Activations with a few strong directions."""
    generator = torch.Generator().manual_seed(5)
    sparse = torch.rand(1000, 40, generator=generator) * (torch.rand(1000, 40, generator=generator) < 0.1)
    return 10 * sparse @ torch.randn(40, 16, generator=generator) + 3


def coder() -> tuple[Coder, torch.Tensor]:
    """An SAE, and latents said to be dead so that the auxiliary loss is part of the gradients."""
    dead = torch.zeros(48, dtype=torch.bool)
    dead[::5] = True
    return Coder(SPEC, random_start(48, torch.zeros(16), 0)), dead


def main(out: Path) -> None:
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    one, dead = coder()
    batch = rows()[:64].split(32)[accelerator.process_index]
    model = accelerator.prepare(one)  # held until after the backward pass, or nothing is averaged
    step = model(batch, dead)
    accelerator.backward(step.total)
    gradients = {name: parameter.grad.clone() for name, parameter in one.named_parameters()}
    sae = train(StoredActivations(rows()[accelerator.process_index :: 2]), SPEC, accelerator=accelerator)
    both = accelerator.gather(sae.encoder[None])
    assert torch.equal(both[0], both[1])  # the processes agree
    if accelerator.is_main_process:
        trained = {"encoder": sae.encoder, "bias": sae.bias, "decoder": sae.decoder, "b_dec": sae.b_dec}
        save_file({f"grad.{k}": v for k, v in gradients.items()} | {f"sae.{k}": v for k, v in trained.items()}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
