"""Filings made up for tests of storage, and what a folder holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from companysim.config import EncoderConfig
from companysim.encoding.sae import SAE, save_sae

TRADES = "drills wells|lends money to retail customers|makes chips|sells drugs|mines coal|insures homes".split("|")


def filings(count: int, seed: int = 0) -> pd.DataFrame:
    """Short descriptions, ordered by filing_id, of different lengths."""
    rng = np.random.default_rng(seed)
    texts = [f"Company {i} {' and '.join(rng.choice(TRADES, rng.integers(1, 4)))}." for i in range(count)]
    return pd.DataFrame({"filing_id": [f"f{i:05d}" for i in range(count)], "text": texts})


def encoder_config(llm_path: Path, sae: SAE, folder: Path) -> EncoderConfig:
    """Configuration of the tiny Llama and an SAE written to `folder`."""
    save_sae(sae, folder / "sae", dtype="float32")
    return EncoderConfig(
        model=str(llm_path), hook="layers.1", sae=str(folder / "sae"), window=64, overlap=8, batch_tokens=1024
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
