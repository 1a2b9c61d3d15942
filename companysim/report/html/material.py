"""What the report needs of a run beyond its tables, each read or computed once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp

from companysim.benchmark import calendar_windows
from companysim.encoding.store import Store
from companysim.errors import RunError
from companysim.matrices import load_arrays
from companysim.results import Run
from companysim.universe import log_returns


def read_table(run: Run, name: str) -> pd.DataFrame:
    """Read a parquet file of a run; raises `RunError` if it is missing or damaged."""
    try:
        return pd.read_parquet(run.root / name)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {run.root / name} ({error}): run again to make it anew") from error


class Material:
    """Arrays of a run in the order of `Run.companies`.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def similarity(self) -> np.ndarray:
        """Cosine of the SAE vectors, shape (companies, companies)."""
        vectors = load_arrays(self.run.root / "similarity" / "sae.safetensors")["vectors"]
        found: np.ndarray = vectors @ vectors.T
        return found

    @cached_property
    def latents(self) -> sp.csr_array:
        """Rows of summed activations divided by their Euclidean norm, shape (companies, latents)."""
        summed = Store(self.run.root / "encoding").read(self.run.companies)[1].pooled.matrix().astype(float)
        norms = np.sqrt(np.asarray(summed.multiply(summed).sum(axis=1)).ravel())
        unit = sp.csr_array(sp.diags_array(np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)) @ summed)
        unit.sort_indices()
        return unit

    @cached_property
    def usual(self) -> np.ndarray:
        """Mean of `latents` over all companies, shape (latents,)."""
        return np.asarray(self.latents.mean(axis=0)).ravel()

    @cached_property
    def monthly(self) -> dict[int, np.ndarray]:
        """Correlations of monthly log returns by year: what the benchmark judges by."""
        years = self.run.summary["benchmark_years"]
        windows = calendar_windows(log_returns(self.run.prices), range(min(years), max(years) + 1))
        found = windows.correlations()
        return {year: found[year] for year in years}
