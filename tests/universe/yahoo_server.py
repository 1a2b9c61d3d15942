"""A web server on loopback that answers as Yahoo's chart interface does, and fails when told to."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd

ZONE = "America/New_York"


@dataclass
class FakeYahoo:
    """Histories by symbol, and faults: what to answer instead, the next time a symbol's prices are asked for.

    A history is a frame indexed by day with close, adj_close and optionally volume, dividend, split. Faults are
    "429", "503", "truncated", "html" and "hang up".
    """

    histories: dict[str, pd.DataFrame]
    names: dict[str, str] = field(default_factory=dict)
    answers_for: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    asked: list[tuple[str, pd.Timestamp]] = field(default_factory=list)
    before_answer: Callable[[str], None] = lambda symbol: None
    address: str = ""

    def chart(self, symbol: str, query: dict[str, list[str]]) -> tuple[int, object]:
        if symbol not in self.histories:
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            return 404, {"chart": {"result": None, "error": error}}
        table = self.histories[symbol]
        days = pd.DatetimeIndex(table.index).tz_localize(ZONE)
        if "period1" in query:
            begin = pd.Timestamp(int(query["period1"][0]), unit="s", tz="UTC")
            table, days = table[days >= begin], days[days >= begin]
        stamps = [int((day + pd.Timedelta(hours=9.5)).timestamp()) for day in days]
        close = table["close"].tolist()
        events: dict[str, dict[str, object]] = {}
        for stamp, amount in zip(stamps, table.get("dividend", pd.Series(0.0, table.index)), strict=True):
            if amount:
                events.setdefault("dividends", {})[str(stamp)] = {"amount": amount, "date": stamp}
        for stamp, ratio in zip(stamps, table.get("split", pd.Series(0.0, table.index)), strict=True):
            if ratio:
                split = {"date": stamp, "numerator": ratio, "denominator": 1, "splitRatio": f"{ratio:g}:1"}
                events.setdefault("splits", {})[str(stamp)] = split
        session = {"timezone": "EST", "start": 0, "end": 0, "gmtoffset": -18000}
        meta = {
            "currency": "USD",
            "symbol": self.answers_for.get(symbol, symbol),
            "exchangeName": "NYQ",
            "instrumentType": "EQUITY",
            "firstTradeDate": 0,
            "gmtoffset": -18000,
            "timezone": "EST",
            "exchangeTimezoneName": ZONE,
            "longName": self.names.get(symbol, ""),
            "priceHint": 2,
            "currentTradingPeriod": {"pre": session, "regular": session, "post": session},
            "dataGranularity": "1d",
            "range": "",
            "validRanges": ["1d", "5d", "1mo", "max"],
        }
        volume = table["volume"].tolist() if "volume" in table else [100] * len(close)
        quote = {"open": close, "high": close, "low": close, "close": close, "volume": volume}
        result = {
            "meta": meta,
            "timestamp": stamps,
            "events": events,
            "indicators": {"quote": [quote], "adjclose": [{"adjclose": table["adj_close"].tolist()}]},
        }
        return 200, {"chart": {"result": [result], "error": None}}

    def summary(self, symbol: str) -> tuple[int, object]:
        if symbol not in self.profiles:
            error = {"code": "Not Found", "description": f"Quote not found for symbol: {symbol}"}
            return 404, {"quoteSummary": {"result": None, "error": error}}
        return 200, {"quoteSummary": {"result": [{"assetProfile": self.profiles[symbol]}], "error": None}}


@contextmanager
def serve(yahoo: FakeYahoo) -> Iterator[FakeYahoo]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            folder, _, symbol = parts.path.rpartition("/")
            symbol, query = unquote(symbol), parse_qs(parts.query)
            if folder == "/v8/finance/chart":
                if "period1" in query:
                    yahoo.asked.append((symbol, pd.Timestamp(int(query["period1"][0]), unit="s")))
                    yahoo.before_answer(symbol)
                fault = yahoo.faults[symbol].pop(0) if yahoo.faults[symbol] and "period1" in query else ""
                self._answer(*yahoo.chart(symbol, query), fault)
            elif folder == "/v10/finance/quoteSummary":
                self._answer(*yahoo.summary(symbol), "")
            elif parts.path == "/v1/test/getcrumb":
                self._send(200, b"crumb", "text/plain")
            elif folder.startswith("/v7/finance/quote") or parts.path == "/v7/finance/quote":
                self._answer(200, {"quoteResponse": {"result": [], "error": None}}, "")
            elif parts.path.startswith("/ws/fundamentals-timeseries"):
                self._answer(200, {"timeseries": {"result": [], "error": None}}, "")
            else:
                self._send(404, b"<html>nothing here</html>", "text/html")

        def _answer(self, status: int, content: object, fault: str) -> None:
            body = json.dumps(content).encode()
            if fault == "429":
                self._send(429, b"Too Many Requests", "text/plain")
            elif fault == "503":
                self._send(503, b"<html>Service Unavailable</html>", "text/html")
            elif fault == "html":
                self._send(200, b"<html>A consent page</html>", "text/html")
            elif fault == "truncated":
                self._send(200, body[: len(body) // 2], "application/json", length=len(body))
            elif fault == "hang up":
                self.close_connection = True
            else:
                self._send(status, body, "application/json")

        def _send(self, status: int, body: bytes, kind: str, length: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yahoo.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield yahoo
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
