"""Find runs, and listen: on this machine only, unless a host is named and a token set."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from companysim.errors import ConfigError, RunError
from companysim.serve.app import application
from companysim.serve.database import companies_of
from companysim.serve.guard import LOOPBACK
from companysim.workspace import CONFIG

TOKEN_LENGTH = 16


def find_runs(root: Path) -> dict[str, Path]:
    """Name and directory of a finished run and of those beside it, itself first.

    Raises
    ------
    RunError
        If there is no finished run in `root`.
    """
    root = root.resolve()
    if not _is_run(root):
        raise RunError(f"no finished run in {root}: make one with `companysim run --out {root}`")
    try:
        beside = sorted(path for path in root.parent.iterdir() if path != root and _is_run(path))
    except OSError:  # a folder one may enter but not list
        beside = []
    return {path.name: path for path in (root, *beside)}


def names_of(host: str, token: str | None) -> frozenset[str] | None:
    """Names under which a page bound to `host` may be asked for; None for any name.

    Raises
    ------
    ConfigError
        If the host is reachable from elsewhere and there is no token, or the token is short.
    """
    if token is not None and len(token) < TOKEN_LENGTH:
        raise ConfigError(
            f"the token has {len(token)} characters: give {TOKEN_LENGTH} or more, as `openssl rand -hex 16`"
        )
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        local, every = host.lower() == "localhost", False
    else:
        local, every = address.is_loopback, address.is_unspecified
    if local:
        return LOOPBACK | {host.lower()}
    if token is None:
        raise ConfigError(f"{host} can be reached from other machines: set COMPANYSIM_TOKEN, or stay on 127.0.0.1")
    return None if every else LOOPBACK | {host.lower()}


def listen(
    runs: dict[str, Path],
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> None:
    """Serve runs until interrupted.

    Parameters
    ----------
    runs : dict of str to Path
        From `find_runs`.
    host : str
        Address to bind.
    port : int
        0 for any free one.
    token : str, optional
        Asked of every request; required unless `host` is a loopback address.
    say : callable
        Told the address.

    Raises
    ------
    ConfigError
        If the address cannot be bound, or may not without a token.
    """
    app = application(runs, names_of(host, token), token)
    try:
        kind = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.create_server((host, port), family=kind)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host}:{port} ({error}): choose another --port") from error
    with bound:
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{bound.getsockname()[1]}/{'?token=...' if token else ''}")
        # No access log: an address may hold the token.
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[bound])


def _is_run(path: Path) -> bool:
    """Whether a folder holds a finished run; other programs have a summary.json and a config.yaml too."""
    return companies_of(path) is not None and (path / CONFIG).is_file()
