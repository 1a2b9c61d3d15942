"""Two processes on the CPU (gloo) do what one does with a batch twice the size."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from companysim.errors import ConfigError
from companysim.sae_training import trainer
from companysim.sae_training.activations import StoredActivations
from companysim.sae_training.batches import Position, batches
from tests.sae_training.parallel_worker import SPEC, coder, rows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("parallel") / "out.safetensors"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # accelerate's own launcher starts one process on a CPU; torchrun starts two, which accelerate then finds.
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    command += ["-m", "tests.sae_training.parallel_worker", str(out)]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(out)


@pytest.mark.slow
def test_gradients_equal_those_of_the_whole_batch(found: dict[str, torch.Tensor]) -> None:
    one, dead = coder()
    one(rows()[:64], dead).total.backward()
    for name, parameter in one.named_parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) > 1e-4
        torch.testing.assert_close(found[f"grad.{name}"], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_training_equals_one_process_with_the_same_batches(
    found: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def together(
        source: object, size: int, seed: int, start: Position, agree: Callable[[int], int]
    ) -> Iterator[tuple[torch.Tensor, Position]]:
        halves = [batches(StoredActivations(rows()[rank::2]), size // 2, seed, start) for rank in range(2)]
        for (first, position), (second, _) in zip(*halves, strict=True):
            yield torch.cat([first, second]), position

    monkeypatch.setattr(trainer, "batches", together)
    sae = trainer.train(StoredActivations(rows()), SPEC)
    for name in ("encoder", "bias", "decoder", "b_dec"):
        torch.testing.assert_close(found[f"sae.{name}"], getattr(sae, name), rtol=1e-3, atol=1e-4)


def test_a_batch_must_divide_among_the_processes() -> None:
    class Three:
        num_processes = 3

    with pytest.raises(ConfigError, match="a batch of 64 cannot be divided among 3 processes"):
        trainer.train(StoredActivations(rows()), SPEC, accelerator=Three())
