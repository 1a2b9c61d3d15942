"""The residual stream at several depths of a model, in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from companysim.encoding.llm import Padded, ResidualStream, Window

if TYPE_CHECKING:
    import torch


def deepest(hooks: Sequence[str]) -> str:
    """Return the hook of the highest block; what is no block, such as the embedding, counts as below all."""
    return max(hooks, key=lambda hook: int(match[1]) if (match := re.search(r"\.(\d+)", hook)) else -1)


def read_layers(
    stream: ResidualStream, hooks: Sequence[str], batch: Sequence[Window]
) -> tuple[dict[str, torch.Tensor], Padded]:
    """Run one batch and take the outputs of several modules.

    Parameters
    ----------
    stream : ResidualStream
        Not cut before the deepest of `hooks`.
    hooks : sequence of str
    batch : sequence of Window

    Returns
    -------
    outputs : dict of str to Tensor, shape (windows, tokens, width)
    padded : Padded
        Which tokens these are.

    Raises
    ------
    WeightsError
        If a module's output is no residual stream.
    """
    caught: dict[str, Any] = {}

    def keep(name: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            caught[name] = output[0] if isinstance(output, tuple) else output

        return hook

    padded = stream.padded(batch)
    handles = [stream.network.get_submodule(name).register_forward_hook(keep(name)) for name in hooks]
    try:
        stream.run(padded)
    finally:
        for handle in handles:
            handle.remove()
    return {name: stream.checked(caught.get(name), name) for name in hooks}, padded


def block_hooks(network: torch.nn.Module) -> list[str]:
    """Names of all blocks of a model, from the first to the last."""
    import torch

    name, blocks = next((n, m) for n, m in network.named_modules() if isinstance(m, torch.nn.ModuleList))
    return [f"{name}.{i}" for i in range(len(blocks))]
