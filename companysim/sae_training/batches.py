"""Batches from chunks of activations, from any position on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from companysim.errors import DataError
from companysim.sae_training.activations import Activations

if TYPE_CHECKING:
    import torch


class Position(NamedTuple):
    """Place in the stream of batches.

    Attributes
    ----------
    epoch : int
        Passes over the text that are complete.
    document : int
        Where the chunk in hand begins.
    batch : int
        Batches taken from it.
    """

    epoch: int = 0
    document: int = 0
    batch: int = 0


BEGINNING = Position()


def batches(
    source: Activations,
    size: int,
    seed: int,
    start: Position = BEGINNING,
    agree: Callable[[int], int] = lambda available: available,
) -> Iterator[tuple[torch.Tensor, Position]]:
    """Endless batches of shuffled rows, each with the position behind it.

    Each chunk is shuffled by seed, epoch and place, so batches depend on the position and on nothing that came before.
    Rows that fill no batch are left to the next epoch's shuffle.

    Parameters
    ----------
    source : Activations
    size : int
        Rows of a batch.
    seed : int
    start : Position
    agree : callable
        Number of batches of a chunk here -> what all processes have.

    Raises
    ------
    DataError
        If a pass over the whole text fills no batch.
    """
    import torch

    epoch, document, taken = start
    rows_of_pass = batches_of_pass = 0
    while True:
        rows, after = source.chunk(document)
        available = agree(len(rows) // size)
        rows_of_pass, batches_of_pass = rows_of_pass + len(rows), batches_of_pass + available
        generator = torch.Generator().manual_seed(_mixed(seed, epoch, document))
        order = torch.randperm(len(rows), generator=generator).to(rows.device)
        for batch in range(taken, available):
            yield rows[order[batch * size : (batch + 1) * size]], Position(epoch, document, batch + 1)
        del rows, order  # one chunk in memory, not two, while the next is made
        taken = 0
        document = after or 0
        if after is None:
            if not batches_of_pass and start == BEGINNING:
                raise DataError(
                    f"the text gives {rows_of_pass:,} activations, which fill no batch of {size:,}: give more text, a "
                    "smaller batch or a larger buffer"
                )
            epoch, rows_of_pass, batches_of_pass = epoch + 1, 0, 0


def _mixed(*numbers: int) -> int:
    """One seed from several whole numbers."""
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
