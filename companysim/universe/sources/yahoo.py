"""Daily prices from Yahoo through yfinance, kept in one parquet file a ticker and updated from where they end.

A file holds the whole history a ticker was asked for, adjusted as of the day it was fetched. An update asks for the
days since. A dividend or split among them, or a past value that has changed, means that Yahoo has adjusted the past
again: then, and only then, all of it is fetched anew. Files are written whole or not at all, so a stopped download
goes on.

Yahoo has no interface meant for this and answers one ticker at a time. It refuses whom it finds too eager (status
429), and keeps nothing of many companies that no longer trade: a panel from here holds survivors.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd
import pyarrow
import pyarrow.parquet

from companysim.errors import ConfigError, DataError
from companysim.workspace import remove_partial, write

CACHE = "cache"
MIRROR = "COMPANYSIM_YAHOO"
"""Environment variable: an address that answers in place of Yahoo's hosts."""
OVERLAP = 10
"""Calendar days an update fetches again, to notice a past that has changed."""
CHANGED = 1e-4
"""Relative change of an adjusted close from which the past counts as changed; Yahoo rounds to 5 to 7 digits."""
COLUMNS = ("adj_close", "close", "volume", "dividend", "split")
_EPOCH = "1900-01-01"
_REFUSED = "YFRateLimitError"
_TRANSIENT = ("connection", "timeout", "timed out", "incomplete", "json", "expecting", "status", "empty reply")


@dataclass(frozen=True)
class Download:
    """Prices of many tickers, and what became of each.

    Attributes
    ----------
    prices : DataFrame
        date, ticker, adj_close, close, volume, dividend, split; sorted by ticker and date.
    lines : DataFrame
        ticker, symbol (asked for at Yahoo), answered (the symbol Yahoo answered for; another one after a change of
        ticker), name, first, last (day with a price), status (new, updated, unchanged, adjusted again, kept, failed),
        reason (of kept and failed); sorted by ticker.
    """

    prices: pd.DataFrame
    lines: pd.DataFrame

    def summary(self) -> str:
        """Say in one line what became of the tickers."""
        counts = self.lines["status"].value_counts().sort_index()
        return ", ".join(f"{count} {status}" for status, count in counts.items())


@dataclass(frozen=True)
class _History:
    """What Yahoo answered for one symbol."""

    table: pd.DataFrame
    symbol: str
    name: str


class Yahoo:
    """Histories of single symbols, asked for again after a while where Yahoo is busy.

    Parameters
    ----------
    retries : int
        How often a request is repeated after status 429 or 5xx, a broken connection or an unreadable answer.
    pause : float
        Seconds before the first repetition; each further one waits twice as long.
    mirror : str, optional
        Address that answers in place of Yahoo's; the environment variable COMPANYSIM_YAHOO by default.

    Raises
    ------
    ConfigError
        If yfinance is not installed.
    """

    def __init__(self, retries: int = 4, pause: float = 2.0, mirror: str | None = None) -> None:
        try:
            import yfinance
        except ImportError as error:
            raise ConfigError("prices from Yahoo need yfinance: run pip install 'companysim[data]'") from error
        yfinance.config.debug.hide_exceptions = False  # a failure shall be raised here, not logged and forgotten
        yfinance.cache.get_cookie_cache().dummy = True  # it would keep cookies on disk, pickled
        logging.getLogger("yfinance").setLevel(logging.CRITICAL)
        self.retries = retries
        self.pause = pause
        self._refused = ""
        self._yfinance = yfinance
        self._session = _session(mirror or os.environ.get(MIRROR))

    def history(self, symbol: str, start: pd.Timestamp) -> _History:
        """Fetch daily prices from `start` to yesterday.

        Raises
        ------
        DataError
            If Yahoo does not know the symbol, has no price, or does not answer properly; the sentence says which.
        """
        if self._refused:  # it refuses an address, not a symbol: asking for others would only prolong that
            raise DataError(f"{symbol} was not asked for: {self._refused}")
        wait = self.pause
        for attempt in range(self.retries + 1):
            try:
                return self._ask(symbol, start)
            except Exception as error:  # yfinance raises what its HTTP, JSON and pandas code raises
                sentence, transient = _explained(symbol, error, attempt + 1)
                if not transient or attempt == self.retries:
                    if type(error).__name__ == _REFUSED:  # another thread's ordinary failure does not lift it
                        self._refused = sentence
                    raise DataError(sentence) from error
            time.sleep(wait)
            wait *= 2
        raise AssertionError("unreachable")

    def profile(self, symbol: str) -> dict[str, str]:
        """Sector and industry of a company in Yahoo's own scheme, empty where Yahoo names none.

        Raises
        ------
        DataError
            As `history`.
        """
        try:
            found = self._yfinance.Ticker(symbol, session=self._session).info
        except Exception as error:
            raise DataError(_explained(symbol, error, 1)[0]) from error
        return {key: str(found.get(key) or "") for key in ("sector", "industry")}

    def _ask(self, symbol: str, start: pd.Timestamp) -> _History:
        ticker = self._yfinance.Ticker(symbol, session=self._session)
        found = ticker.history(start=f"{start:%Y-%m-%d}", auto_adjust=False, actions=True, timeout=30)
        meta = ticker.history_metadata  # a lazy mapping: asking it for everything would send further requests
        if found.empty:
            raise DataError(f"Yahoo has no price of {symbol} since {start:%Y-%m-%d}: check the ticker and the dates")
        table = pd.DataFrame(
            {
                "adj_close": found["Adj Close"].astype(float),
                "close": found["Close"].astype(float),
                "volume": found["Volume"].astype(float),
                "dividend": found["Dividends"].astype(float),
                "split": found["Stock Splits"].astype(float),
            }
        )
        today = pd.Timestamp.now(found.index.tz).tz_localize(None).normalize()  # a day that may not have closed
        table.index = pd.DatetimeIndex(found.index).tz_localize(None).normalize().rename("date")
        table = table[(table.index < today) & (table["adj_close"] > 0)]
        return _History(table[~table.index.duplicated(keep="last")].sort_index(), *_named(meta, symbol))


def download(
    tickers: Sequence[str],
    folder: Path,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    *,
    symbols: dict[str, str] | None = None,
    source: Yahoo | None = None,
    batch: int = 50,
    workers: int = 4,
    rest: float = 1.0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Download:
    """Bring the cache of every ticker up to date and return all prices.

    Parameters
    ----------
    tickers : sequence of str
    folder : path
        The cache lies in its subfolder ``cache``, one file a ticker.
    start, end : Timestamp, optional
        First and last day wanted; the whole history by default. What is cached beyond `end` stays cached.
    symbols : dict of str to str, optional
        What Yahoo calls a ticker, where that differs; else the ticker with ``.`` written ``-`` (BRK.B is BRK-B).
    source : Yahoo, optional
    batch, workers, rest : int, int, float
        Tickers asked for without a pause, how many at once, and the seconds of the pause after them.
    report : callable
        Receives how many tickers are done, and how many there are.

    Raises
    ------
    DataError
        If there is no ticker, or not one of them has a price. Single failures are rows of `Download.lines`.
    """
    wanted = sorted({ticker.strip() for ticker in tickers} - {""})
    if not wanted:
        raise DataError("there is no ticker: give one or more")
    names = {ticker: (symbols or {}).get(ticker) or ticker.replace(".", "-") for ticker in wanted}
    yahoo = source or Yahoo()
    cache = folder / CACHE
    cache.mkdir(parents=True, exist_ok=True)
    remove_partial(cache)
    first = start if start is not None else pd.Timestamp(_EPOCH)
    lines: list[dict[str, Any]] = []
    parts = []
    pool = ThreadPoolExecutor(workers)
    try:
        for place in range(0, len(wanted), batch):
            if place:
                time.sleep(rest)
            for line in pool.map(
                lambda ticker: _refresh(yahoo, ticker, names[ticker], cache, first), wanted[place : place + batch]
            ):
                cached = _read(_file(cache, line["ticker"]))
                table = None if cached is None else cached[0].loc[start:end]
                if table is not None and len(table):
                    line |= {"first": table.index[0], "last": table.index[-1]}
                    parts.append(table.assign(ticker=line["ticker"]))
                lines.append(line)
                report(len(lines), len(wanted))
    finally:
        pool.shutdown(cancel_futures=True)  # whoever stops this does not want the rest of the batch
    known = pd.DataFrame(lines, columns=["ticker", "symbol", "answered", "name", "first", "last", "status", "reason"])
    if not parts:
        raise DataError(f"not one of {len(wanted)} tickers has a price; the first: {known['reason'].iloc[0]}")
    prices = pd.concat(parts).reset_index()[["date", "ticker", *COLUMNS]]
    return Download(prices.sort_values(["ticker", "date"], ignore_index=True), known)


def _refresh(yahoo: Yahoo, ticker: str, symbol: str, cache: Path, start: pd.Timestamp) -> dict[str, Any]:
    """Bring one ticker's file up to date and say what was done."""
    path = _file(cache, ticker)
    cached = _read(path)
    line: dict[str, Any] = {"ticker": ticker, "symbol": symbol, "answered": symbol, "name": "", "reason": ""}
    line |= {"first": pd.NaT, "last": pd.NaT}
    try:
        if cached is None or pd.Timestamp(cached[1]["start"]) > start or cached[1]["symbol"] != symbol:
            found, status = yahoo.history(symbol, start), "new"
        else:
            table, facts = cached
            asked = pd.Timestamp(facts["start"])
            recent = yahoo.history(symbol, max(table.index[-1] - pd.Timedelta(days=OVERLAP), asked))
            if _adjusted_again(table, recent.table):
                found, status = yahoo.history(symbol, asked), "adjusted again"
            else:
                later = recent.table[recent.table.index > table.index[-1]]
                found = _History(pd.concat([table, later]), recent.symbol, recent.name)
                status = "updated" if len(later) else "unchanged"
            start = asked
    except DataError as error:
        status = "failed" if cached is None else "kept"
        if cached is not None:
            line |= {"answered": cached[1]["answered"], "name": cached[1]["name"]}
        return line | {"status": status, "reason": str(error)}
    if status != "unchanged":
        facts = {"symbol": symbol, "answered": found.symbol, "name": found.name, "start": f"{start:%Y-%m-%d}"}
        _write(path, found.table, facts)
    return line | {"answered": found.symbol, "name": found.name, "status": status}


def _explained(symbol: str, error: Exception, attempts: int) -> tuple[str, bool]:
    """Return a sentence about an error, and whether waiting may help."""
    kind, text = type(error).__name__, " ".join(str(error).split()).split(". See https://curl")[0]
    tried = f", {attempts} attempts" if attempts > 1 else ""
    if isinstance(error, DataError):
        return text, False
    if kind == _REFUSED:
        return f"Yahoo refuses further requests (status 429 for {symbol}{tried}): wait an hour and run it again", True
    if kind in ("YFTzMissingError", "YFPricesMissingError", "YFTickerMissingError") or "404" in text:
        return f"Yahoo knows no prices of {symbol} ({text}): check the ticker, or give the one it has now", False
    described = f"{kind} {text}".lower()
    sentence = f"Yahoo's answer for {symbol} cannot be used ({kind}: {text[:160]}{tried}): run it again later"
    return sentence, any(word in described for word in _TRANSIENT)


def _adjusted_again(old: pd.DataFrame, new: pd.DataFrame) -> bool:
    """Whether the past of the cached prices is no longer what Yahoo says it is."""
    later = new[new.index > old.index[-1]]
    if later["dividend"].any() or later["split"].any():
        return True
    common = old.index.intersection(new.index)
    if not len(common):
        return True  # nothing to compare: the two cannot be joined safely
    ratio = new.loc[common, "adj_close"] / old.loc[common, "adj_close"]
    return bool((ratio - 1).abs().max() > CHANGED)


def _file(cache: Path, ticker: str) -> Path:
    return cache / f"{quote(ticker, safe='')}.parquet"


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, str]] | None:
    """Return cached prices and facts of a ticker; None if there are none or they cannot be read."""
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException):
        return None
    facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items() if key != b"pandas"}
    frame = table.to_pandas().set_index("date")
    return (frame, facts) if {"symbol", "answered", "name", "start"} <= set(facts) and len(frame) else None


def _write(path: Path, table: pd.DataFrame, facts: dict[str, str]) -> None:
    arrow = pyarrow.Table.from_pandas(table.reset_index(), preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **facts})
    write(path, lambda temporary: pyarrow.parquet.write_table(arrow, temporary))


def _named(meta: Mapping[str, Any], symbol: str) -> tuple[str, str]:
    name = meta.get("longName") or meta.get("shortName") or ""
    return str(meta.get("symbol") or symbol), str(name)


def _session(mirror: str | None) -> Any:
    """HTTP session of yfinance's own kind that stops at server errors, which yfinance would take for an answer."""
    from curl_cffi import requests

    target = urlsplit(mirror) if mirror else None

    class Session(requests.Session[Any]):
        def request(self, method: Any, url: str, *args: Any, **options: Any) -> Any:
            parts = urlsplit(url)
            if target is not None and (parts.hostname or "").endswith("yahoo.com"):
                url = parts._replace(scheme=target.scheme, netloc=target.netloc).geturl()
            response = super().request(method, url, *args, **options)
            if response.status_code >= 500:
                raise ConnectionError(f"status {response.status_code}")
            return response

    return Session(impersonate="chrome")
