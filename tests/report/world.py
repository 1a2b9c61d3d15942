"""A finished tiny run with hostile names, texts and labels, for the report and the page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import companysim as cs
from companysim.workspace import write_parquet
from tests.tiny import build

HOSTILE = "<script>window.hacked = 1</script>"
IMAGE = "<img src=x onerror='window.hacked = 2'>"
BREAKOUT = "</script><script>window.hacked = 3</script><!-- & \u2028 </style>"


def made_run(folder: Path) -> cs.Run:
    """Run the pipeline on 18 companies, the first of which has markup in name and text; label latents with markup."""
    config = build(folder / "world")
    for table in ("filings", "companies"):
        found = pd.read_csv(folder / "world" / f"{table}.csv", dtype=str)
        found.loc[found["ticker"] == "BA0", "company"] = HOSTILE
        if table == "filings":
            row = found["ticker"] == "BA0"
            found.loc[row, "text"] = f"{BREAKOUT} {found.loc[row, 'text'].iloc[0]} {IMAGE}"
        found.to_csv(folder / "world" / f"{table}.csv", index=False)
    run = cs.run(config, folder / "runs" / "tiny")
    labels = pd.read_parquet(run.root / "explain" / "labels.parquet")
    labels["label"] = IMAGE + labels["label"]
    write_parquet(run.root / "explain" / "labels.parquet", labels)
    return cs.Run(run.root)
