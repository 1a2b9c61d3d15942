"""Speed and boundaries of Item 1 against edgartools' parser, on 48 real annual reports.

Usage: ``python benchmarks/item1.py --data ../shared/data``. Both sides read the same HTML in this process, document by
document, one right after the other. edgartools builds the whole document with its tables, of which this asks for Item 1
alone; it keeps page numbers and page heads, which can make it differ here. What is right is known from
`pipelines/item1_headings.csv`: a description is right if its letters begin and end as those between the two headings
do; whether it holds the heading itself is left open.
The last line is one JSON object; `max_difference` is the largest relative difference of the number of letters.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from companysim.universe.sources.item1 import extract_business
from companysim.universe.sources.submission import read_submission

os.environ.setdefault("EDGAR_LOCAL_DATA_DIR", tempfile.mkdtemp())  # edgartools writes there when it is imported
sys.path.insert(0, str(Path(__file__).parents[1]))
ENDS = 60


def letters(text: str) -> str:
    """Letters and digits alone, so that only words count."""
    return re.sub(r"[\W_]+", "", text).lower()


def right(text: str, truth: str, heading: str) -> bool:
    """Whether a description begins and ends as the true one does, with its heading or without."""
    bare = truth.removeprefix(letters(heading))
    return letters(text).startswith((truth[:ENDS], bare[:ENDS])) and letters(text).endswith(truth[-ENDS:])


def main() -> None:
    """Run both sides and print the figures."""
    from edgar.documents import HTMLParser, ParserConfig

    from pipelines.measure_item1 import FACTS, place

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    facts = pd.read_csv(FACTS).set_index("document")
    sample = pd.read_parquet(parser.parse_args().data / "raw_10k_html_sample.parquet")
    rows = []
    for path, html in sample[["path", "html"]].itertuples(index=False):
        started = time.perf_counter()
        found = extract_business(read_submission(html).document)
        ours = time.perf_counter() - started
        started = time.perf_counter()
        sections = HTMLParser(ParserConfig(form="10-K")).parse(html.decode("utf-8", "replace")).sections
        name = next((name for name in ("part_i_item_1", "business") if name in sections), None)
        text = sections[name].text() if name else ""
        theirs = time.perf_counter() - started
        start, end = facts.loc[path.rsplit("/", 1)[-1], ["start", "end"]]
        truth = letters(found.document[place(found.document, start) : place(found.document, end)])
        difference = abs(len(letters(text)) / len(truth) - 1)
        rows.append((ours, theirs, right(found.text, truth, start), right(text, truth, start), difference))
        print(f"{path.rsplit('/', 1)[-1]}: {ours:.2f} s, {theirs:.2f} s", "" if rows[-1][3] else "(theirs differs)")
    table = pd.DataFrame(rows, columns=["ours", "theirs", "right_ours", "right_theirs", "difference"])
    result = {
        "benchmark": "item1",
        "ratio": table["theirs"].sum() / table["ours"].sum(),
        "max_difference": table["difference"].max(),
        "documents": len(table),
        "right_ours": int(table["right_ours"].sum()),
        "right_theirs": int(table["right_theirs"].sum()),
        "median_seconds_ours": statistics.median(table["ours"]),
        "median_seconds_theirs": statistics.median(table["theirs"]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
