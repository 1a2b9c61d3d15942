"""How large the report of 2,000 companies is, and how soon it stands, beside the same map alone by plotly.

    python benchmarks/report.py [--companies 2000] [--run runs/sample]

Without ``--run`` a run is made first: made-up companies of made-up industries through the whole pipeline with tiny
random models. Both files are then opened by the same headless Chromium in turn, from disk, in a fresh context each
time: ours until its script is done and two frames are painted, with map, tables, search and charts, plotly's until its
marks are drawn, with nothing but the map. The last line is one JSON object: ``ratio`` is plotly's median time over
ours, ``max_difference`` the largest deviation of a headline figure in the report from ``summary.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import yaml
from playwright.sync_api import Browser, sync_playwright

import companysim as cs
from companysim.report.html import write_report
from companysim.report.html.page import page_data

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.tiny import made_models

PER_INDUSTRY = 16


def world(folder: Path, companies: int, seed: int = 0) -> Path:
    """Write tables, models and ``config.yaml`` of so many companies; return the configuration's path."""
    rng = np.random.default_rng(seed)
    words = [f"{a}{b}{c}" for a in "bcdfglmnprst" for b in "aeiou" for c in ("ran", "let", "mon", "dis", "ker", "pol")]
    industry = np.arange(companies) // PER_INDUSTRY
    own = [rng.choice(words, 12) for _ in range(industry[-1] + 1)]
    texts = [" ".join(rng.permutation([*rng.choice(own[k], 70), *rng.choice(words, 70)])) for k in industry]
    tickers = [f"T{i:04d}" for i in range(companies)]
    rows = pd.DataFrame({"cik": np.arange(1, companies + 1), "ticker": tickers})
    rows["company"] = [f"{texts[i].split()[0].title()} {i} Incorporated" for i in range(companies)]
    filings = rows.assign(filing_id=[f"{i}-2011" for i in rows["cik"]], fiscal_year=2011, filed="2012-03-01")
    filings["text"] = texts
    filings.to_parquet(folder / "filings.parquet")
    sic = [f"{1000 + 60 * int(k):04d}" for k in industry]
    gics = [f"{10 + 5 * int(k % 11)}10{10 + int(k % 80)}10" for k in industry]
    codes = {"sic": sic, "sic_source": "made up", "gics": gics, "gics_source": "made up"}
    rows.assign(**codes).to_parquet(folder / "companies.parquet")
    days = pd.bdate_range("2011-01-03", "2014-12-31")
    walks = [np.cumsum(rng.normal(0, 0.01, (len(days), count)), axis=0) for count in (1, len(own), companies)]
    logs = walks[0] + walks[1][:, industry] + walks[2]
    wide = pd.DataFrame(40 * np.exp(logs), index=days.rename("date"), columns=tickers)
    wide.reset_index().melt("date", var_name="ticker", value_name="adj_close").to_parquet(folder / "prices.parquet")
    made_models(folder, sorted(set(words)))
    config = {
        "name": "many",
        "universe": {"filings": "filings.parquet", "companies": "companies.parquet", "prices": "prices.parquet"},
        "encoder": {"model": "llm", "hook": "layers.1", "sae": "sae", "embedding": "bert", "window": 256, "overlap": 8},
        "clustering": {"share_of_pairs": 0.003},
        "benchmark": {"first_year": 2013, "last_year": 2014, "null_draws": 20, "bootstrap_draws": 20, "components": 0},
        "backtest": {
            "formation_start": "2011-01-03", "trading_end": "2014-12-31", "placebo_books": 20, "placebo_pairs": 60,
        },
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


def plotly_map(data: dict[str, Any], path: Path) -> None:
    """Write the map alone, with the same hover, as plotly's self-contained file."""
    frame = pd.DataFrame(data["companies"])
    figure = go.Figure(
        go.Scatter(
            x=frame["x"], y=frame["y"], mode="markers", marker={"color": frame["cluster"]},
            text=frame["ticker"] + " " + frame["name"] + "<br>" + frame["text"],
        )
    )  # fmt: skip
    figure.write_html(path, include_plotlyjs=True)


def opened(browser: Browser, path: Path, ready: str) -> float:
    """Seconds from asking for a file until it is ready and two frames have been painted."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    started = time.perf_counter()
    page.goto(f"file://{path}")
    page.wait_for_function(ready)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    seconds = time.perf_counter() - started
    context.close()
    return seconds


def deviation(text: str, summary: dict[str, Any]) -> float:
    """Largest difference between a written headline figure and the summary, beyond the rounding of what is written."""
    worst = 0.0
    for path, shown in re.findall(r'data-from="([\w.]+)">([-\d.,]+%?)</td>', text):
        value: Any = summary
        for part in path.split("."):
            value = value[int(part)] if isinstance(value, list) else (value or {}).get(part)
        if isinstance(value, int | float) and shown != "-":
            bare, scale = shown.rstrip("%").replace(",", ""), 100 if shown.endswith("%") else 1
            rounding = 0.5 * 10.0 ** -len(bare.partition(".")[2])
            worst = max(worst, abs(float(bare) - scale * value) - rounding)
    return max(worst, 0.0)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--companies", type=int, default=2000)
    parser.add_argument("--run", type=Path, help="a finished run instead of a made-up one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="where the report and the run are kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run = cs.Run(given.run) if given.run else cs.run(world(folder, given.companies), folder / "run")
        ours, theirs = (folder / name for name in ("report.html", "plotly.html"))
        started = time.perf_counter()
        write_report(run, ours)
        written = time.perf_counter() - started
        plotly_map(page_data(run), theirs)
        ready = {
            ours: "() => document.documentElement.dataset.ready === 'yes'",
            theirs: "() => document.querySelectorAll('path.point').length > 0",
        }
        seconds: dict[Path, list[float]] = {ours: [], theirs: []}
        with sync_playwright() as started_playwright:
            browser = started_playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            for _ in range(given.repeats):
                for path, condition in ready.items():
                    seconds[path].append(opened(browser, path.resolve(), condition))
            browser.close()
        mine, other = (float(np.median(seconds[path])) for path in (ours, theirs))
        result = {
            "benchmark": "report",
            "companies": len(run.companies),
            "ratio": round(other / mine, 2),
            "max_difference": deviation(ours.read_text(encoding="utf-8"), run.summary),
            "seconds_ours": round(mine, 2),
            "seconds_plotly": round(other, 2),
            "megabytes_ours": round(ours.stat().st_size / 1e6, 2),
            "megabytes_plotly": round(theirs.stat().st_size / 1e6, 2),
            "seconds_to_write": round(written, 1),
        }
    print(f"{result['companies']} companies, median of {given.repeats} openings of each file")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
