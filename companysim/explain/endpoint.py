"""Ask an OpenAI-compatible service, the user's own or another's: off unless a base URL is given.

The key comes from the environment alone. It is sent to the host of the base URL and nowhere else (redirects are
refused), never in clear text to another machine, and no message holds it.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from companysim.encoding.encode import clean
from companysim.errors import ConfigError, ServiceError

KEY = "OPENAI_API_KEY"
"""Environment variable of the key; a service on one's own machine may need none."""
LONGEST_ANSWER = 1 << 20
LONGEST_WAIT = 60.0
_LOCAL = ("localhost", "127.0.0.1", "::1")
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)


def endpoint(
    base_url: str, model: str, *, timeout: float = 60.0, attempts: int = 4, pause: float = 1.0, tokens: int = 32
) -> Callable[[str], str]:
    """Return a function that has a model of an OpenAI-compatible service answer a prompt.

    Parameters
    ----------
    base_url : str
        Such as ``http://localhost:8000/v1``; ``/chat/completions`` is added.
    model : str
        As the service calls it.
    timeout : float
        Seconds without a byte after which an attempt fails.
    attempts : int
        Of each prompt, where the service is busy (429), fails (5xx), or does not answer.
    pause : float
        Seconds before the second attempt, doubled before each further one; the service's ``Retry-After`` counts where
        it gives one, up to a minute.
    tokens : int
        Longest answer.

    Raises
    ------
    ConfigError
        If the URL is none, holds a password, or would carry the key in clear text to another machine, or the key is
        none a header can hold.
    ServiceError
        By the function returned: if the service refuses, cannot be reached or answers nonsense.
    """
    address = _checked(base_url)
    opener = urllib.request.build_opener(_NoRedirect)

    def complete(prompt: str) -> str:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": tokens,
        }
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if _key():
            headers["Authorization"] = f"Bearer {_key()}"
        for attempt in range(1, attempts + 1):
            request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
            try:
                with opener.open(request, timeout=timeout) as answer:
                    content = answer.read(LONGEST_ANSWER)
                    if answer.length and len(content) < LONGEST_ANSWER:
                        raise http.client.IncompleteRead(content, answer.length)
                    return _text(content, base_url)
            except urllib.error.HTTPError as error:
                with error:
                    reason = _hidden(_reason(error))
                if error.code not in _AGAIN or attempt == attempts:
                    raise ServiceError(_refusal(error.code, reason, base_url, model, attempt)) from None
                time.sleep(_wait(error.headers.get("Retry-After"), pause * 2 ** (attempt - 1)))
            except (OSError, http.client.HTTPException) as error:  # no connection, a timeout, a torn answer
                if attempt == attempts:
                    raise ServiceError(
                        f"{base_url} does not answer after {attempts} attempts ({_hidden(clean(str(error)))[:120]}): "
                        "check --base-url and whether the service runs"
                    ) from None
                time.sleep(pause * 2 ** (attempt - 1))
        raise ConfigError(f"attempts is {attempts}: allow at least one")

    return complete


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects, which would carry the key to a host nobody named."""

    def redirect_request(self, *request: Any) -> None:
        return None


def _checked(base_url: str) -> str:
    key = _key()
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{base_url!r} is no base URL: give one such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(f"the base URL of {host} holds more than an address: give the key in {KEY} instead")
    if parts.scheme == "http" and host not in _LOCAL and key:
        raise ConfigError(f"the key in {KEY} would go to {host} in clear text: give an https URL, or unset {KEY}")
    return base_url.rstrip("/") + "/chat/completions"


def _key() -> str:
    """Return the key, empty where there is none; an error of the library would quote one that no header can hold."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the key in {KEY} holds a line break or another sign no key has: set it again")
    return key


def _text(content: bytes, base_url: str) -> str:
    try:
        answer = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        answer = None
    if not isinstance(answer, str):
        start = _hidden(clean(content[:80].decode("utf-8", "replace")))
        raise ServiceError(f"{base_url} answers no chat completion but {start!r}: check --base-url")
    return answer


def _reason(error: urllib.error.HTTPError) -> str:
    """Return what the service says about its refusal, in one short line."""
    try:
        content = error.read(LONGEST_ANSWER)
        said: Any = json.loads(content)
        said = said.get("error", said) if isinstance(said, dict) else said
        said = said.get("message", said) if isinstance(said, dict) else said
    except (OSError, http.client.HTTPException, ValueError):
        said = error.reason
    return clean(str(said))[:200]


def _refusal(code: int, reason: str, base_url: str, model: str, attempts: int) -> str:
    if code in (401, 403):
        return f"{base_url} refuses the key ({code}, {reason}): set {KEY} to one it accepts"
    if 300 <= code < 400:
        return f"{base_url} redirects elsewhere ({code}): give the final address as --base-url"
    if code == 404:
        return f"{base_url} knows no such address or model {model!r} (404, {reason}): check --base-url and --model"
    if code in _AGAIN:
        return f"{base_url} is too busy or fails ({code}, {reason}) after {attempts} attempts: try again later"
    return f"{base_url} refuses the request ({code}, {reason}): check --model"


def _wait(asked: str | None, usual: float) -> float:
    """Seconds to wait: what the service asks for in seconds, or the usual."""
    try:
        seconds = float(asked) if asked is not None else usual
    except ValueError:  # a date
        seconds = usual
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else usual


def _hidden(text: str) -> str:
    """Return the text without the key: some services repeat it in their refusal."""
    key = _key()
    return text.replace(key, "***") if key else text
