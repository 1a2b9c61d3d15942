"""Measure how often the business description is found, and begins and ends at the right headings.

Usage: ``python pipelines/measure_item1.py --data ../shared/data``.

Two yardsticks on real filings, which stay where they are:

- 48 raw HTML documents. `item1_headings.csv` names, for each, the heading at which Item 1 begins and the one at which
  it ends, both read from the document's headings by eye; in a table of contents they carry a page number, so each names
  one line. A document is right if both are met.
- 1,020 descriptions that others extracted. Each is set before the heading of Item 1A, as a text file; it is right if
  the extractor finds its beginning and takes it whole. Texts without their heading cannot be found and are counted
  apart; in a few the text itself runs past the heading of Item 1A.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from pathlib import Path

import pandas as pd

from companysim.universe.sources.item1 import extract_business
from companysim.universe.sources.submission import read_submission

FACTS = Path(__file__).with_name("item1_headings.csv")
AFTER = (
    "\n\nItem 1A. Risk Factors\n\nThere are some.\n\nItem 1B. Unresolved Staff Comments\n\nNone.\n\n"
    "Item 2. Properties\n\nNone.\n\nPART II\n"
)
OWN_HEADING = re.compile(r"\bitems?\s*1\b\W*(?:and\s*2\W*)?(?:description\s+of\s+)?(?:our\s+)?business", re.IGNORECASE)


def documents(data: Path) -> pd.DataFrame:
    """Extract Item 1 of the raw documents and compare the headings with the facts.

    Returns
    -------
    DataFrame
        document, seconds, words, right, reason (of a failure, or what is wrong); one row a document.
    """
    facts = pd.read_csv(FACTS).set_index("document")
    rows = []
    for path, html in pd.read_parquet(data / "raw_10k_html_sample.parquet")[["path", "html"]].itertuples(index=False):
        name = path.rsplit("/", 1)[-1]
        started = time.perf_counter()
        found = extract_business(read_submission(html).document)
        seconds = time.perf_counter() - started
        fact = facts.loc[name]
        start, end = place(found.document, fact["start"]), place(found.document, fact["end"])
        wrong = found.reason
        if not wrong and found.start != start:
            wrong = f"begins at {found.heading!r}, not at {fact['start']!r}"
        elif not wrong and found.end + 1 != end:
            wrong = f"ends at {found.next_heading!r}, not at {fact['end']!r}"
        rows.append((name, seconds, found.words, not wrong, wrong))
    return pd.DataFrame(rows, columns=["document", "seconds", "words", "right", "reason"])


def place(document: str, heading: str) -> int:
    """Offset of the first line that is `heading`."""
    found = f"\n{document}\n".find(f"\n{heading}\n")
    if found < 0:
        raise SystemExit(f"the facts name a heading that is not there: {heading!r}")
    return found


def texts(data: Path) -> pd.DataFrame:
    """Extract each text from before a heading of Item 1A.

    Returns
    -------
    DataFrame
        accession, outcome (``whole``, ``no heading of its own``, ``runs past Item 1A itself``, or what is wrong).
    """
    rows = []
    for accession, text in pd.read_parquet(data / "item1_10k.parquet")[["accession", "item_1"]].itertuples(index=False):
        found = extract_business(text + AFTER)
        whole = found.document.index("\nItem 1A. Risk Factors\nThere are some.")
        if not found.reason and found.end >= whole:
            outcome = "whole"
        elif not OWN_HEADING.search(text[:9000]):
            outcome = "no heading of its own"
        elif not found.reason and re.match(r"item 1[ab]\W+(?:risk factors|unresolved)", found.next_heading, re.I):
            outcome = "runs past Item 1A itself"
        else:
            outcome = found.reason or f"ends at {found.next_heading!r}"
        rows.append((accession, outcome))
    return pd.DataFrame(rows, columns=["accession", "outcome"])


def main() -> None:
    """Print both measurements and each failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    found = documents(arguments.data)
    print(f"{found['right'].sum()} of {len(found)} documents with the right beginning and end; seconds a document: "
          f"median {statistics.median(found['seconds']):.2f}, most {found['seconds'].max():.2f}")  # fmt: skip
    for row in found[~found["right"]].itertuples():
        print(f"  {row.document}: {row.reason}")
    print(texts(arguments.data)["outcome"].value_counts().to_string())


if __name__ == "__main__":
    main()
