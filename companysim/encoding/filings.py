"""Encoding many filings: what a store lacks, shard by shard, here or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from companysim.encoding.encode import encode
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import BUDGET, SAE
from companysim.encoding.store import Store
from companysim.errors import DataError

Models = tuple[ResidualStream, SAE]
LoadModels = Callable[[], Models]


def encode_filings(
    load: LoadModels,
    filings: pd.DataFrame,
    store: Store,
    *,
    latent_budget: int = BUDGET,
    retry: bool = False,
    ray: str | None = None,
    report: Callable[[float, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda message: None,
) -> pd.DataFrame:
    """Encode the filings a store does not hold yet.

    Each shard is on disk before the next begins; a killed run goes on where it stopped and ends with the same bytes.

    Parameters
    ----------
    load : callable
        Returns the models; called only if a filing is missing. With `ray` it must be picklable.
    filings : DataFrame
        filing_id (unique) and text.
    store : Store
    latent_budget : int
        See `encode`.
    retry : bool
        Try filings again that failed before.
    ray : str, optional
        Address of a Ray cluster, or ``local``; shards are then encoded by one actor for each GPU or CPU slot.
    report : callable
        Receives the number of filings done, a fraction while a shard is under way, and in all.
    say : callable
        Receives a line about each damaged shard.

    Returns
    -------
    DataFrame
        The filings that failed: filing_id and reason, ordered by filing_id.

    Raises
    ------
    DataError
        If there is no filing.
    """
    if filings.empty:
        raise DataError("there is no filing to encode: give at least one")
    store.repair(say)
    shards = store.missing(filings, retry=retry)
    done = len(filings) - sum(map(len, shards))
    report(done, len(filings))
    if ray is not None:
        from companysim.encoding.ray_cluster import encode_on_ray

        for finished in encode_on_ray(load, shards, store, latent_budget, ray):
            done += finished
            report(done, len(filings))
    elif shards:
        models = load()
        for shard in shards:

            def advance(share: float, before: int = done, size: int = len(shard)) -> None:
                report(before + share * size, len(filings))

            encoded = encode(*models, shard["text"].tolist(), latent_budget=latent_budget, report=advance)
            store.write(shard, encoded)
            done += len(shard)
            report(done, len(filings))
    index = store.found(filings).sort_values("filing_id")
    failed = index[index["failure"] != ""]
    return failed[["filing_id", "failure"]].rename(columns={"failure": "reason"}).reset_index(drop=True)
