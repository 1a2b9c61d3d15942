"""A small conditional autoencoder: factors whose exposures follow from what is known of a company.

After Gu, Kelly and Xiu (2021, *Autoencoder asset pricing models*): exposures are a network of characteristics known
before the month, ``b_it = g(z_it)``; factors are linear in the returns of characteristic-managed portfolios,
``f_t = W x_t`` with ``x_t = (Z_t' Z_t)^-1 Z_t' r_t``; a return is ``b_it . f_t`` plus its residual. The weights are
fitted on the months up to a cut-off and applied to later ones.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Self

import numpy as np
import pandas as pd

from companysim.benchmark.factors import past_returns
from companysim.benchmark.returns import Windows
from companysim.errors import ConfigError, DataError


class ConditionalAutoencoder:
    """Latent factors with exposures that are a function of characteristics.

    Parameters
    ----------
    factors : int
        Number of latent factors.
    hidden : int
        Units of the one hidden layer of the exposures' network; 0 makes them linear (IPCA's form).
    until : int
        Last year the weights may see.
    epochs : int
        Passes over the training months, a month a batch.
    rate : float
        Adam's learning rate.
    l1 : float
        Penalty on the mean absolute weight of the exposures' network.
    seed : int

    Attributes
    ----------
    exposures_ : list of (weight, bias) ndarrays
        Layers of g.
    portfolios_ : ndarray, shape (factors, characteristics + 1)
        W.
    years_ : tuple of int
        Years the weights saw.
    """

    def __init__(
        self,
        until: int,
        factors: int = 3,
        hidden: int = 16,
        epochs: int = 60,
        rate: float = 0.01,
        l1: float = 1e-4,
        seed: int = 0,
    ) -> None:
        self.until = until
        self.factors = factors
        self.hidden = hidden
        self.epochs = epochs
        self.rate = rate
        self.l1 = l1
        self.seed = seed

    def fit(self, returns: pd.DataFrame, characteristics: np.ndarray | None = None) -> Self:
        """Fit the weights on the months up to `until`.

        Parameters
        ----------
        returns : DataFrame, shape (months, companies)
        characteristics : ndarray, shape (months, companies, p), optional
            Known before each month; `past_returns` by default. Each month they are ranked to [-0.5, 0.5], and a
            missing one is 0, the median.

        Raises
        ------
        ConfigError
            If a size is not positive.
        DataError
            If fewer than 12 months up to `until` have returns and characteristics.
        """
        import torch

        if min(self.factors, self.epochs) < 1 or self.hidden < 0:
            raise ConfigError("factors and epochs must be positive and hidden 0 or more")
        dated = returns.sort_index()
        past = pd.DatetimeIndex(dated.index).year <= self.until
        months = [month for month in self._months(dated, characteristics) if past[month[0]]]
        if len(months) < 12:
            raise DataError(f"{len(months)} months up to {self.until} can be learned from: 12 or more are needed")
        self.years_ = tuple(sorted({int(dated.index[place].year) for place, *_ in months}))
        scale = float(np.sqrt(np.mean([np.mean(r**2) for *_, r in months])))
        p = months[0][2].shape[1]
        generator = torch.Generator().manual_seed(self.seed)

        def made(rows: int, columns: int) -> Any:
            start = torch.randn(rows, columns, generator=generator, dtype=torch.float64) / np.sqrt(columns)
            return start.requires_grad_(True)

        sizes = [p, self.hidden, self.factors] if self.hidden else [p, self.factors]
        layers = [
            (made(b, a), torch.zeros(b, dtype=torch.float64, requires_grad=True))
            for a, b in pairwise(sizes)
        ]
        portfolios = made(self.factors, p)
        optimiser = torch.optim.Adam([portfolios, *(t for layer in layers for t in layer)], lr=self.rate)
        data = [tuple(torch.from_numpy(a) for a in (z, _managed(z, r) / scale, r / scale)) for _, _, z, r in months]
        for _ in range(self.epochs):
            for step in torch.randperm(len(data), generator=generator).tolist():
                z, x, r = data[step]
                b = z
                for depth, (weight, bias) in enumerate(layers):
                    b = b @ weight.T + bias
                    b = torch.relu(b) if depth < len(layers) - 1 else b
                penalty = sum(weight.abs().mean() for weight, _ in layers)
                loss = ((r - b @ (portfolios @ x)) ** 2).mean() + self.l1 * penalty
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        self.exposures_ = [(weight.detach().numpy(), bias.detach().numpy()) for weight, bias in layers]
        self.portfolios_ = portfolios.detach().numpy()
        return self

    def residuals(self, returns: pd.DataFrame, characteristics: np.ndarray | None = None) -> pd.DataFrame:
        """Return what the factors of each month leave, shape (months, companies); NaN where a month has too little.

        A month's factors are its own returns seen through the fitted weights; the exposures were known before it.
        """
        dated = returns.sort_index()
        left = np.full(dated.shape, np.nan)
        for place, known, z, r in self._months(dated, characteristics):
            b = z
            for depth, (weight, bias) in enumerate(self.exposures_):
                b = b @ weight.T + bias
                b = np.maximum(b, 0) if depth < len(self.exposures_) - 1 else b
            left[place, known] = r - b @ (self.portfolios_ @ _managed(z, r))
        return pd.DataFrame(left, dated.index, dated.columns)

    def windows(self, returns: pd.DataFrame, windows: Windows, characteristics: np.ndarray | None = None) -> Windows:
        """Residuals in the months of `windows`, all of which must lie after `until`.

        Raises
        ------
        ConfigError
            If a window holds a month the weights have seen.
        """
        seen = [year for year, part in windows.returns.items() if part.index[0].year <= self.until]
        if seen:
            raise ConfigError(f"the window {seen[0]} holds months up to {self.until}, which the weights have seen")
        left = self.residuals(returns, characteristics)
        found = {year: left.reindex(part.index).where(part.notna()) for year, part in windows.returns.items()}
        kind = f"{windows.kind}, residual of {self.factors} conditional autoencoder factors fitted to {self.until}"
        return Windows(found, windows.min_periods, kind)

    def _months(
        self, dated: pd.DataFrame, characteristics: np.ndarray | None
    ) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Month, companies with a return, their ranked characteristics and a constant, their returns."""
        values = dated.to_numpy(dtype=float)
        known = past_returns(dated)[0] if characteristics is None else characteristics
        if known.shape[:2] != values.shape:
            raise DataError(f"characteristics of shape {known.shape} do not fit returns of shape {values.shape}")
        found = []
        for place, (row, traits) in enumerate(zip(values, known, strict=True)):
            companies = np.flatnonzero(np.isfinite(row) & np.isfinite(traits).any(axis=1))
            if len(companies) <= traits.shape[1] + 1:
                continue
            ranks = pd.DataFrame(traits[companies]).rank(pct=True).to_numpy()
            middle = pd.DataFrame(ranks).mean().to_numpy()
            z = np.column_stack([np.nan_to_num(ranks - middle), np.ones(len(companies))])
            found.append((place, companies, z, row[companies]))
        return found


def _managed(z: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return of each characteristic-managed portfolio."""
    managed: np.ndarray = np.linalg.lstsq(z, r, rcond=None)[0]
    return managed
