"""The same shards on a Ray cluster: Ray Data hands them out, one actor for each GPU or CPU slot encodes them.

The store's folder must be one that every node sees. Actors write their shards themselves, so what travels over the
network is text; a run that is killed, driver or node, resumes from the folder as on one machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from companysim.encoding.encode import encode
from companysim.encoding.store import Store
from companysim.errors import ConfigError, RunError

if TYPE_CHECKING:
    from companysim.encoding.filings import LoadModels

LOCAL = "local"


class _Actor:
    """Holds the models and encodes one shard a call."""

    def __init__(self, load: LoadModels, folder: str, latent_budget: int) -> None:
        self.models = load()
        self.store, self.latent_budget = Store(folder), latent_budget

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for ids, texts, prints in zip(batch["filing_id"], batch["text"], batch["print"], strict=True):
            shard = pd.DataFrame({"filing_id": list(ids), "text": list(texts), "print": list(prints)})
            self.store.write(shard, encode(*self.models, shard["text"].tolist(), latent_budget=self.latent_budget))
        return {"filings": np.array([len(ids) for ids in batch["filing_id"]])}


def encode_on_ray(
    load: LoadModels, shards: list[pd.DataFrame], store: Store, latent_budget: int, address: str
) -> Iterator[int]:
    """Encode shards on a cluster; yields the number of filings of each shard as it is finished.

    Parameters
    ----------
    load : callable
        Returns the models inside an actor; must be picklable.
    shards : list of DataFrame
        From `Store.missing`.
    store : Store
    latent_budget : int
    address : str
        ``local`` starts a cluster of this machine's cores; ``auto`` or ``ray://host:port`` joins one.

    Raises
    ------
    ConfigError
        If Ray is not installed or the cluster cannot be reached.
    RunError
        If an actor fails, for instance because it cannot load the models.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError("Ray is not installed: pip install 'companysim[ray]'") from error
    if not shards:
        return
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray.init(
            address=None if address == LOCAL else address,
            _node_ip_address="127.0.0.1" if address == LOCAL else None,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"no Ray cluster at {address!r} ({' '.join(str(error).split())[:200]})") from error
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        resources: dict[str, float] = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        slots = min(gpus or int(resources["CPU"]), len(shards))
        rows = [{name: shard[name].tolist() for name in ("filing_id", "text", "print")} for shard in shards]
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(load, str(store.folder.absolute()), latent_budget),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=slots),
            num_gpus=1 if gpus else 0,
            num_cpus=0 if gpus else 1,
        )
        for row in done.iter_rows():
            yield int(row["filings"])
    except ray.exceptions.RayError as error:  # of what an actor raised only the text comes back
        last = str(error).strip().splitlines()[-1].strip()
        raise RunError(f"a Ray actor failed: {last.removeprefix('companysim.errors.')}") from error
    finally:
        ray.shutdown()
