"""Put the report together: a template, one style sheet, one script and one block of data in a single file.

Nothing is fetched: the content security policy allows the one script and the one style sheet by their digests and
forbids everything else. The template escapes what it writes; the data block escapes ``<``, ``>`` and ``&``, so that no
text can end it; the script writes text as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

import companysim
from companysim.report.console import NAMES, backtest_sentence, benchmark_sentence, robust_sentence
from companysim.report.html.cards import PAPER, citation, facts, ladder, sample_cards
from companysim.report.html.companies import company_rows, peer_rows
from companysim.report.html.explained import cluster_rows
from companysim.report.html.headline import backtest_cells, benchmark_cells
from companysim.report.html.latents import latent_rows, spare_labels
from companysim.report.html.material import Material
from companysim.report.html.series import equity_series, frontier_series, theta_series
from companysim.results import Run
from companysim.workspace import write_text, writing

SCRIPTS = ("dom.js", "chart.js", "plots.js", "map.js", "search.js", "company.js", "pages.js", "main.js")


def write_report(run: Run, path: str | Path) -> Path:
    """Write the report of a finished run into one self-contained HTML file.

    Parameters
    ----------
    run : Run
    path : path
        Written atomically. The same run gives the same bytes.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    RunError
        If a file of the run is missing or damaged, or `path` cannot be written.
    """
    target, text = Path(path), render(run)
    with writing(target):
        write_text(target, text)
    return target


def render(run: Run) -> str:
    """Return the report as HTML."""
    style, script = asset("report.css"), "\n".join(asset(name) for name in SCRIPTS)
    summary = run.summary
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("report.html.jinja")).render(
        title=f"companysim: {run.config.name}",
        version=companysim.__version__,
        summary=summary,
        policy=_policy(style, script),
        style=style,
        script=script,
        data=embedded(page_data(run)),
        tables=[table for table in (benchmark_cells(run), benchmark_cells(run, "benchmark_before")) if table],
        backtest=backtest_cells(run),
        said={
            "benchmark": benchmark_sentence(summary["benchmark"]),
            "robust": robust_sentence(summary["benchmark_robust"], run.config.benchmark.components),
            "backtest": backtest_sentence(summary["backtest"]),
        },
        facts=facts(run),
        cards=sample_cards(run),
        settings=run.config.to_yaml(),
        ladder=ladder(),
        citation=citation(run),
        paper=PAPER,
    )


def page_data(run: Run) -> dict[str, Any]:
    """Everything the script draws, as plain values."""
    material = Material(run)
    clusters = cluster_rows(material)
    tickers = run.companies["ticker"].tolist()
    owner = {tickers[row]: number for number, cluster in enumerate(clusters) for row in cluster["members"]}
    peers = peer_rows(material)
    latents = latent_rows(material, clusters, peers)
    used = {latent for rows in peers for peer in rows for latent in peer["why"]}
    used |= {latent["latent"] for cluster in clusters for latent in cluster["latents"]}
    companies = company_rows(material, owner, run.config.seed)
    used |= {latent for company in companies for latent in company["latents"]}
    years = run.config.benchmark
    return {
        "companies": companies,
        "peers": peers,
        "clusters": clusters,
        "latents": latents,
        "labels": spare_labels(material, latents, used),
        "frontier": frontier_series(material),
        "theta": theta_series(material),
        "equity": equity_series(material),
        "names": NAMES,
        "years": f"{years.first_year}-{years.last_year}",
    }


def embedded(data: Any) -> str:
    """Write JSON that is safe inside a script element, whatever the text in it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


@cache
def asset(name: str) -> str:
    """Text of a file of this package's ``assets``."""
    return (files("companysim.report.html") / "assets" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content security policy that allows exactly this style sheet and this script."""
    allowed = {kind: _digest(text) for kind, text in (("script-src", script), ("style-src", style))}
    rules = [f"{kind} 'sha256-{value}'" for kind, value in allowed.items()]
    return "; ".join(["default-src 'none'", *rules, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
