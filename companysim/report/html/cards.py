"""What the run is made of: cards of data and models, the settings, and how to cite it."""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import Any

from markdown_it import MarkdownIt

import companysim
from companysim.config import SAMPLE
from companysim.results import Run
from companysim.universe import bundled

PAPER = (
    "Molinari, M., et al. Interpretable Company Similarity with Sparse Autoencoders. "
    "arXiv:2412.02605, ACL 2025 (industry)."
)


def facts(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Cards of data, models and trading as pairs of a name and a value, all of the run's own files."""
    summary, config = run.summary, run.config
    universe, encoder = summary["universe"], summary["encoder"]
    book = config.backtest
    years = universe["years"]
    dropped = ", ".join(f"{reason}: {count}" for reason, count in universe["dropped"].items() if count) or "none"
    theta = summary["clustering"]["sae"]
    costs = f"{book.commission_bp:g} bp commission, {book.half_spread_bp:g} bp half spread a leg"
    return [
        (
            "Data",
            [
                ("companies", f"{universe['companies']:,}"),
                ("left out", dropped),
                ("descriptions", f"fiscal {_span(years)}, readable by {config.universe.as_of}"),
                ("prices", f"{universe['prices'][0]} to {universe['prices'][1]}"),
                ("codes", f"SIC of {universe['with_sic']:,}, GICS of {universe['with_gics']:,} companies"),
            ],
        ),
        (
            "Models",
            [
                ("language model", f"{encoder['model']}, residual stream at {encoder['hook']}"),
                ("sparse autoencoder", str(encoder["sae"])),
                ("tokens", f"{encoder['tokens']:,}"),
                ("similarity", f"{encoder['similarity']}, latents pooled by {config.similarity.pool}"),
                (
                    "clusters",
                    f"spanning tree cut at distance {theta['theta']:.4f} ({theta['theta_z']:+.2f} in z units)",
                ),
                ("sentence embedding", config.encoder.embedding),
            ],
        ),
        (
            "Trading protocol of this run",
            [
                ("formation", f"{book.formation_start} to {book.formation_end}"),
                ("trading", f"to {book.trading_end}, " + _roll(book.roll_months)),
                ("selection", f"Engle-Granger p < {book.p_value:g}, at most {book.max_pairs} pairs"),
                ("rules", f"enter at |z| {book.entry:g}, exit {book.exit:g}, stop {book.stop:g}, {book.max_days} days"),
                ("fills", f"{book.lag} trading day(s) after the signal"),
                ("costs", f"{costs}, {book.borrow_percent:g} % borrow a year"),
                ("placebo", f"{book.placebo_books:,} books of random pairs, seed {config.seed}"),
            ],
        ),
    ]


def sample_cards(run: Run) -> list[tuple[str, str]]:
    """Cards of the bundled data and SAE as HTML, where the run uses them; raw HTML in them is shown as text."""
    render = MarkdownIt("commonmark", {"html": False}).enable("table")
    wanted = []
    if SAMPLE in (run.config.universe.filings, run.config.universe.companies, run.config.universe.prices):
        wanted.append(("Data card of the sample", "sample/README.md"))
    if run.config.encoder.sae == SAMPLE:
        wanted.append(("Model card of the sample's SAE", "sae/README.md"))
    return [(title, render.render(_lower(bundled(name).read_text(encoding="utf-8")))) for title, name in wanted]


def ladder() -> dict[str, Any]:
    """Sharpe ratios of the published protocol, its faults off one by one: facts of docs/STUDY.md, Trading, section 1.

    Returns
    -------
    dict
        ``columns``, and ``rows`` of text in the order of the file ``ladder.csv`` beside this module.
    """
    text = (files("companysim.report.html") / "assets" / "ladder.csv").read_text(encoding="utf-8")
    columns, *rows = csv.reader(text.splitlines())
    return {"columns": columns, "rows": rows}


def citation(run: Run) -> str:
    """BibTeX of the software as used for this run."""
    return (
        "@software{companysim,\n"
        "  title   = {companysim: company similarity from language-model latents},\n"
        "  author  = {{The companysim founders}},\n"
        f"  version = {{{companysim.__version__}}},\n"
        f"  note    = {{run {run.config.name}, {run.summary['universe']['companies']} companies, "
        f"{run.config.encoder.model} at {run.config.encoder.hook}}}\n"
        "}"
    )


def _span(years: list[int]) -> str:
    return f"year {years[0]}" if len(years) == 1 else f"years {min(years)} to {max(years)}"


def _roll(months: int | None) -> str:
    return "pairs chosen once" if months is None else f"chosen again every {months} months"


def _lower(text: str) -> str:
    """Move headings of a card two levels down, below those of the page."""
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in text.splitlines())
