"""Does an SAE fit the place it is said to read? Reconstruction error there and one block up and down.

Checkpoints say where they read in a name such as ``layers.26``, and the name is ambiguous: it may mean the output of
block 26 or its input (eai-sparsify trained on inputs before it hooked modules). Read one block off, an SAE still gives
latents, only worse ones. Its reconstruction tells: the true place leaves least of the variance unexplained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from companysim.encoding.llm import ResidualStream, Window
from companysim.encoding.sae import SAE
from companysim.errors import ConfigError, DataError, WeightsError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HookFit:
    """How well an SAE reconstructs the output of one module.

    Attributes
    ----------
    hook : str
    tokens : int
    fraction_unexplained : float
        ``sum |x - x_hat|^2 / sum |x - mean(x)|^2`` (FVU), as in `companysim.encoding.training.quality`; above 1 the
        reconstruction is worse than the mean.
    l0 : float
        Mean number of active latents per token.
    cosine : float
        Mean cosine of x and its reconstruction.
    """

    hook: str
    tokens: int
    fraction_unexplained: float
    l0: float
    cosine: float


@dataclass(frozen=True)
class Verification:
    """Fit of one SAE at several depths of a model.

    Attributes
    ----------
    model, hook : str
        The model, and where the SAE is said to read.
    fits : tuple of HookFit
        From the shallowest module to the deepest.
    """

    model: str
    hook: str
    fits: tuple[HookFit, ...]

    @property
    def claimed(self) -> HookFit:
        """The fit where the SAE is said to read."""
        return next(fit for fit in self.fits if fit.hook == self.hook)

    @property
    def best(self) -> HookFit:
        """The fit that leaves least unexplained; the claimed one if several do."""
        return min([self.claimed, *self.fits], key=lambda fit: fit.fraction_unexplained)

    def to_frame(self) -> pd.DataFrame:
        """One row a module, with the columns of `HookFit` and ``claimed``."""
        return pd.DataFrame([{**fit.__dict__, "claimed": fit.hook == self.hook} for fit in self.fits])

    def summary(self) -> str:
        """Say in a sentence or two whether the SAE is read at the right place."""
        best, claimed = self.best, self.claimed
        if best.fraction_unexplained >= 1:
            return (
                f"The SAE fits none of the {len(self.fits)} places tried: even at {best.hook} it leaves "
                f"{best.fraction_unexplained:.0%} of the variance unexplained, no less than the mean would. It is of "
                "another model, of another depth, or damaged."
            )
        if best.hook != claimed.hook:
            return (
                f"Another place fits better: at {best.hook} the SAE leaves {best.fraction_unexplained:.1%} of the "
                f"variance unexplained, at {claimed.hook}, where it is said to read, "
                f"{claimed.fraction_unexplained:.1%}. Read it at {best.hook}."
            )
        return (
            f"{claimed.hook} fits best of the {len(self.fits)} places tried: the SAE leaves "
            f"{claimed.fraction_unexplained:.1%} of the variance unexplained there, with {claimed.l0:.1f} active "
            "latents a token."
        )


def verify_sae(
    sae: SAE,
    model: str,
    texts: Sequence[str],
    hook: str | None = None,
    *,
    neighbours: int = 2,
    revision: str | None = None,
    window: int = 512,
    batch_tokens: int = 2048,
    device: str = "cpu",
    dtype: str = "float32",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Measure how well an SAE reconstructs the module it is said to read and those around it, in one pass.

    Parameters
    ----------
    sae : SAE
        With its decoder.
    model : str
        Local directory or hub id.
    texts : sequence of str
        A few thousand tokens of text like that which will be encoded.
    hook : str, optional
        Module the SAE is said to read, such as ``layers.26``; by default what its checkpoint says.
    neighbours : int
        Blocks tried on either side; the embedding counts as the block before the first.
    revision, window, batch_tokens, device, dtype
        Of the language model, see `companysim.encoding.llm.ResidualStream`.
    report : callable
        Receives the number of batches done and in all.

    Returns
    -------
    Verification
        As in encoding, the start token and massive activations are left out, at each module by its own norms.

    Raises
    ------
    ConfigError
        If neither `hook` nor the SAE says where it reads.
    DataError
        If the texts hold fewer than two tokens.
    WeightsError
        If the SAE has no decoder or does not fit the model, or the model has no such module.
    """
    import torch

    hook = hook or sae.hook
    if hook is None:
        raise ConfigError("the checkpoint does not say which module the SAE reads: give a hook, such as layers.12")
    if sae.decoder is None:
        raise WeightsError("this SAE was loaded without its decoder: load it with decoder=True")
    block = re.fullmatch(r"(?P<blocks>.*?)\.(?P<index>\d+)(?P<inner>(?:\..+)?)", hook)
    stream = ResidualStream(
        model,
        block["blocks"] if block else hook,  # nothing is cut yet
        revision=revision,
        window=window,
        overlap=0,
        batch_tokens=batch_tokens,
        device=device,
        dtype=dtype,
    )
    if sae.width != stream.width:
        raise WeightsError(f"the SAE reads vectors of {sae.width} numbers but the model's are {stream.width} wide")
    places = _places(stream.network, hook, block, neighbours, model)
    fits = {name: _Sums(torch.zeros(sae.width, dtype=torch.float64)) for name in places}
    batches = stream.batches(stream.windows([ids for ids, _ in stream.tokenise(texts)]))
    for done, batch in enumerate(batches, start=1):
        for name, rows in _read(stream, places, batch).items():
            fits[name].add(sae, rows)
        report(done, len(batches))
    if not batches or min(fit.tokens for fit in fits.values()) < 2:
        raise DataError("the texts hold fewer than two tokens: give more text")
    return Verification(model, hook, tuple(fit.result(name) for name, fit in fits.items()))


@dataclass
class _Sums:
    """Running sums over tokens at one module; in float64, so that the variance may be a difference of them."""

    total: torch.Tensor
    squares: float = 0.0
    error: float = 0.0
    active: int = 0
    cosines: float = 0.0
    tokens: int = 0

    def add(self, sae: SAE, rows: torch.Tensor) -> None:
        import torch

        codes = sae.encode(rows)
        x = sae.normalised(rows).double()
        found = sae.decode(codes, len(rows)).double()
        self.total += x.sum(0).cpu()
        self.squares += float(x.pow(2).sum())
        self.error += float((x - found).pow(2).sum())
        self.active += len(codes.value)
        self.cosines += float(torch.nn.functional.cosine_similarity(x, found).sum())
        self.tokens += len(rows)

    def result(self, hook: str) -> HookFit:
        spread = self.squares - float(self.total.pow(2).sum()) / self.tokens
        n = self.tokens
        return HookFit(hook, n, self.error / spread, self.active / n, self.cosines / n)


def _places(
    network: torch.nn.Module, hook: str, block: re.Match[str] | None, neighbours: int, model: str
) -> dict[str, torch.nn.Module]:
    """Modules to read, the embedding standing before block 0; the blocks behind the last of them are dropped."""
    embedding = _embedding(network)
    if block is not None:
        name, index, inner = block["blocks"], int(block["index"]), block["inner"]
    elif hook == embedding:
        name, index, inner = _block_list(network), -1, ""
    else:
        raise ConfigError(f"hook {hook!r} names no block of {model!r} and not its embedding: give one like layers.12")
    blocks: Any = network.get_submodule(name)
    if index >= len(blocks):
        raise WeightsError(f"model {model!r} has {len(blocks)} blocks, so no {hook!r}: count from 0")
    last = min(index + neighbours, len(blocks) - 1)
    del blocks[last + 1 :]
    names = [f"{name}.{i}{inner}" for i in range(max(index - neighbours, 0), last + 1)]
    if index - neighbours < 0 and not inner and embedding is not None:
        names.insert(0, embedding)
    try:
        return {name: network.get_submodule(name) for name in names}
    except AttributeError as error:
        raise WeightsError(f"model {model!r} has no module {hook!r}: name a block, such as layers.12") from error


def _embedding(network: Any) -> str | None:
    """Name of the module that embeds tokens."""
    table = network.get_input_embeddings()
    return next((name for name, module in network.named_modules() if module is table), None)


def _block_list(network: torch.nn.Module) -> str:
    """Name of the list of blocks."""
    import torch

    lists = (name for name, module in network.named_modules() if isinstance(module, torch.nn.ModuleList))
    return str(next(lists))


def _read(
    stream: ResidualStream, places: dict[str, torch.nn.Module], batch: Sequence[Window]
) -> dict[str, torch.Tensor]:
    """Run one batch and return, for each place, the rows of its counted tokens, shape (n, width), float32."""
    caught: dict[str, Any] = {}

    def keep(name: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            caught[name] = output[0] if isinstance(output, tuple) else output

        return hook

    padded = stream.padded(batch)
    handles = [module.register_forward_hook(keep(name)) for name, module in places.items()]
    try:
        stream.run(padded)
    finally:
        for handle in handles:
            handle.remove()
    rows = {}
    for name in places:
        hidden = stream.checked(caught.get(name), name)
        rows[name] = hidden[stream.kept(hidden, padded)].float()
    return rows
