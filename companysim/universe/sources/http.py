"""Fetching from a server that is shared and sometimes ill: slowly, again where it helps, and whole or not at all.

An answer counts only if its status, its content type, its announced length and its own end mark say that it is
complete. What may pass (429, 5xx, a broken connection, an answer that breaks off) is asked for again, each time after
twice the wait or after what the server names in ``Retry-After``.
"""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable
from typing import Self, TypeVar

import httpx

from companysim.errors import DataError

T = TypeVar("T")
_PASSING = frozenset((429, 500, 502, 503, 504))
MAX_WAIT = 300.0
"""Seconds; no server is waited for longer than this between two attempts."""


class DownloadError(DataError):
    """What was asked for did not arrive; asking again later may help."""


class RefusedError(DownloadError):
    """The server wants no more requests from this client, so that nothing further can be fetched now."""


class _Passing(Exception):
    """One attempt failed in a way that may pass."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


class Client:
    """Sends GET requests no faster than allowed and repeats those that failed for the moment.

    Parameters
    ----------
    user_agent : str
        Who asks. It is sent with each request and stands in no message or log.
    per_second : float
        Requests a second at most, over all threads.
    attempts : int
        Attempts in all for one address.
    wait : float
        Seconds before the second attempt; doubled before each further one.
    timeout : float
        Seconds without a byte after which an attempt has failed.
    refusal : str
        What the user can do when the server answers 403.
    """

    def __init__(
        self,
        user_agent: str,
        *,
        per_second: float = 8.0,
        attempts: int = 5,
        wait: float = 1.0,
        timeout: float = 30.0,
        refusal: str = "try again later",
    ) -> None:
        self.attempts, self.wait, self.refusal = attempts, wait, refusal
        self._interval = 1 / per_second
        self._next = 0.0
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._client = httpx.Client(headers={"User-Agent": user_agent}, timeout=timeout, follow_redirects=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(
        self, url: str, kind: str, read: Callable[[bytes], T], enough: Callable[[bytearray], int] | None = None
    ) -> T:
        """Fetch an address.

        Parameters
        ----------
        url : str
        kind : str
            What the content type must contain, such as ``json``.
        read : callable
            Turns the whole answer into the result; raises ValueError if the answer breaks off or is something else.
        enough : callable, optional
            Given what has arrived so far; where the result is not 0, the rest is not waited for.

        Raises
        ------
        RefusedError
            If the server answers 403, as the SEC does to who asks too fast or does not say who asks.
        DownloadError
            If there is no such address, or all attempts failed.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return self._attempt(url, kind, read, enough)
            except _Passing as error:
                if attempt == self.attempts:
                    raise DownloadError(f"{url}: {error} in each of {attempt} attempts: run it again later") from error
                self._pause(min(max(error.wait, self.wait * 2 ** (attempt - 1)), MAX_WAIT))
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Give up: whatever waits for its turn or its next attempt fails at once."""
        self._stopped.set()

    def _attempt(self, url: str, kind: str, read: Callable[[bytes], T], enough: Callable[[bytearray], int] | None) -> T:
        self._wait_for_turn()
        try:
            with self._client.stream("GET", url) as response:
                self._check(response, kind)
                arrived = bytearray()
                for chunk in response.iter_bytes():
                    arrived += chunk
                    if enough is not None and enough(arrived):
                        break
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Passing(_told(error)) from error
        try:
            return read(bytes(arrived))
        except ValueError as error:
            raise _Passing(f"the answer is not whole ({error})") from error

    def _check(self, response: httpx.Response, kind: str) -> None:
        status = response.status_code
        if status in _PASSING:
            raise _Passing(f"the server answered {status}", _retry_after(response.headers.get("Retry-After")))
        if status == 403:
            raise RefusedError(f"{response.url}: the server refuses requests (403): {self.refusal}")
        if status != 200:
            raise DownloadError(f"{response.url}: the server answered {status}: there may be no such document")
        found = response.headers.get("Content-Type", "nothing")
        if kind not in found:
            raise _Passing(f"the server sent {found.split(';')[0]} instead of {kind}")

    def _wait_for_turn(self) -> None:
        with self._turn:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._interval
        self._pause(start - now)

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise DownloadError("the download was stopped: run it again to go on")


def _retry_after(value: str | None) -> float:
    """Seconds a server asks to wait, given as such or as a date."""
    if value is None:
        return 0.0
    try:
        return float(value)
    except ValueError:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return 0.0


def _told(error: Exception) -> str:
    """Say what broke; some exceptions of httpx have no message of their own."""
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.RemoteProtocolError):
        return "the answer broke off"
    return " ".join(str(error).split()) or type(error).__name__
