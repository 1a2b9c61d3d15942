"""The pages and answers of `companysim serve`."""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from companysim.errors import CompanySimError, ConfigError, RunError
from companysim.serve.database import COMPARED, Tables, companies_of
from companysim.serve.guard import LOOPBACK, Guard

TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json", "parquet": "application/vnd.apache.parquet"}
ASSETS = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}


def application(runs: dict[str, Path], hosts: frozenset[str] | None = LOOPBACK, token: str | None = None) -> Starlette:
    """Build the page over finished runs.

    Parameters
    ----------
    runs : dict of str to Path
        Name and directory of each run, the one to open first in front. Nothing outside them is read.
    hosts, token
        See `Guard`.

    Returns
    -------
    Starlette
        An ASGI application.
    """
    tables = {name: Tables(root) for name, root in runs.items()}

    def chosen(name: str) -> Tables:
        if name not in tables:
            raise RunError(f"no run {name!r} here: there are {', '.join(tables)}")
        return tables[name]

    def list_runs(request: Request) -> Response:
        found = []
        for name, own in tables.items():
            companies, report = companies_of(own.root), (own.root / "report.html").is_file()
            if companies is not None:  # else the run is being made anew
                found.append({"name": name, "companies": companies, "tables": own.names(), "report": report})
        if not found:
            raise RunError(f"no run here is finished: run {next(iter(tables))!r} again to its end")
        return JSONResponse({"runs": found, "compared": COMPARED})

    def table(request: Request) -> Response:
        asked = request.query_params
        page = chosen(request.path_params["run"]).page(
            request.path_params["table"],
            search=asked.get("search", ""),
            sort=asked.get("sort", ""),
            descending=asked.get("order") == "descending",
            limit=_whole(asked.get("limit", "50"), "limit"),
            offset=_whole(asked.get("offset", "0"), "offset"),
        )
        return JSONResponse(asdict(page))

    def download(request: Request) -> Response:
        run, name, form = (request.path_params[key] for key in ("run", "table", "form"))
        content = chosen(run).export(name, form, request.query_params.get("search", ""))
        headers = {"content-disposition": f'attachment; filename="{name}.{form}"'}
        return Response(content, media_type=TYPES[form], headers=headers)

    def compare(request: Request) -> Response:
        asked = request.query_params
        first, second = chosen(asked.get("first", "")), chosen(asked.get("second", ""))
        return JSONResponse(asdict(first.compare(second, asked.get("table", "benchmark"))))

    def report(request: Request) -> Response:
        name = request.path_params["run"]
        path = chosen(name).root / "report.html"
        if not path.is_file():
            raise RunError(f"run {name!r} has no report: write it with `companysim report {path.parent}`")
        # The report brings a stricter policy of its own; both would hold, and this page's allows no inline script.
        policy = {"content-security-policy": "frame-ancestors 'none'"}
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=policy)

    def fixed(request: Request) -> Response:
        name, kind = ASSETS[request.url.path]
        text = (files("companysim.serve") / "assets" / name).read_text(encoding="utf-8")
        return Response(text, media_type=kind)

    routes = [Route(path, fixed) for path in ASSETS]
    routes += [
        Route("/api/runs", list_runs),
        Route("/api/compare", compare),
        Route("/api/runs/{run}/{table}", table),
        Route("/download/{run}/{table}.{form}", download),
        Route("/report/{run}", report),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={CompanySimError: _sentence, HTTPException: _nothing},
    )


async def _sentence(request: Request, error: Exception) -> Response:
    """Answer a named error with its sentence."""
    return JSONResponse({"error": str(error)}, 400 if isinstance(error, ConfigError) else 404)


async def _nothing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": f"{error.detail}: open / for the page"}, error.status_code)


def _whole(text: Any, name: str) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 12):
        raise ConfigError(f"{name} is {text!r}: give a whole number")
    return int(text)
