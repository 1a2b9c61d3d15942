"""Begin an SAE with that of a neighbouring layer (Ghilardi et al. 2024, ACL anthology 2024.blackboxnlp-1.32).

Neighbouring residual streams share most directions but not their scale and centre: norms grow with depth. So the SAE is
fitted to the new layer by two numbers before training: by how much its input is scaled, and whether it is centred where
it was or on the new layer's mean. Both are chosen by what is left unexplained, and leaving it as it is is among the
choices. It serves either direction, from the layer before as well as from the one behind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from companysim.encoding.sae import SAE
from companysim.errors import WeightsError
from companysim.sae_training.coder import Start
from companysim.sae_training.quality import measure

RATIOS = tuple(2 ** (step / 2) for step in range(-4, 5))
ROWS = 2048


@dataclass(frozen=True, eq=False)
class Transfer:
    """An SAE fitted to another layer.

    Attributes
    ----------
    sae : SAE
        Reads raw activations of the new layer.
    ratio : float
        By which its input was scaled: the new layer's activations are so many times as large.
    centred : bool
        Whether b_dec was moved to the new layer's mean.
    fraction_unexplained : float
        Of the new layer, before any training.
    """

    sae: SAE
    ratio: float
    centred: bool
    fraction_unexplained: float


def transfer(sae: SAE, rows: torch.Tensor) -> Transfer:
    """Fit an SAE to activations of another layer.

    With scale r and centre c the SAE of ``x -> f(x - b) + b`` becomes ``x -> r f((x - c) / r) + c``.

    Parameters
    ----------
    sae : SAE
        With its decoder, on the device of the rows.
    rows : Tensor, shape (n, width)
        Raw activations; the first 2,048 are looked at.

    Raises
    ------
    WeightsError
        If the SAE has no decoder, another width, or normalises each token.
    """
    plain = _centred(sae, rows.shape[1])
    some = rows[:ROWS].float()
    centres = {False: plain.b_dec, True: rows.float().mean(0)}
    found = []
    for centred, centre in centres.items():
        assert centre is not None
        for ratio in sorted(RATIOS, key=lambda ratio: abs(ratio - 1)):
            moved = replace(
                plain,
                bias=plain.bias * ratio,
                threshold=None if plain.threshold is None else plain.threshold * ratio,
                shift=centre,
                b_dec=centre,
            )
            found.append(Transfer(moved, ratio, centred, measure(moved, some).fraction_unexplained))
    return min(found, key=lambda candidate: candidate.fraction_unexplained)


def start_of(sae: SAE, scale: float) -> Start:
    """Parameters of an SAE of raw activations, in units of activations divided by `scale`; decoder rows get norm 1."""
    assert sae.decoder is not None
    assert sae.b_dec is not None
    norms = sae.decoder.norm(dim=1).clamp(min=1e-8)
    threshold = None if sae.threshold is None else (sae.threshold * norms / scale)
    return Start(
        (sae.encoder * norms[:, None]).clone(), sae.bias * norms / scale, sae.decoder / norms[:, None],
        sae.b_dec / scale, threshold,
    )  # fmt: skip


def _centred(sae: SAE, width: int) -> SAE:
    """Return the same SAE in float32, subtracting b_dec from its input whether it did or not."""
    if sae.decoder is None or sae.b_dec is None:
        raise WeightsError("this SAE was loaded without its decoder: load it with decoder=True")
    if sae.width != width:
        raise WeightsError(
            f"the SAE to begin with reads vectors of {sae.width} numbers but the model's are {width} wide"
        )
    if sae.normalise != "none":
        raise WeightsError("the SAE to begin with normalises each token, which no SAE trained here does: take another")
    encoder, bias, b_dec = sae.encoder.float(), sae.bias.float(), sae.b_dec.float()
    if sae.shift is None:
        bias = bias + encoder @ b_dec
    elif not torch.equal(sae.shift, sae.b_dec):
        bias = bias + encoder @ (b_dec - sae.shift.float())
    return replace(
        sae,
        encoder=encoder,
        bias=bias,
        threshold=None if sae.threshold is None else sae.threshold.float(),
        shift=b_dec,
        decoder=sae.decoder.float(),
        b_dec=b_dec,
    )
