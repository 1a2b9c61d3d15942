"""Pages of the site that are made from the repository's own files, so that they cannot fall behind.

mkdocs calls `on_config` and `on_files`. They add the reference (a page for each package, all of its modules), the
commands (from the command line itself), the notebooks with their stored outputs, and the cards of the bundled data.
"""

from __future__ import annotations

import base64
import html
import importlib
import inspect
import pkgutil
import re
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import nbformat
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.core import TyperArgument

import companysim
from companysim.cli import app

ROOT = Path(__file__).parents[1]
CARDS = {"cards/sample.md": "data/sample/README.md", "cards/sae.md": "data/sae/README.md"}
TOP = "companysim"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the reference to the navigation."""
    pages: list[Any] = [{"Commands": "reference/commands.md"}]
    pages += [{package.removeprefix(f"{TOP}."): page_of(package)} for package in packages()]
    assert config.nav is not None
    config.nav.append({"Reference": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and pictures."""
    made: dict[str, str | bytes] = {"reference/commands.md": commands()}
    made |= {page_of(package): reference(package, modules) for package, modules in packages().items()}
    made |= {page: (ROOT / source).read_text() for page, source in CARDS.items()}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        made |= pages_of_notebook(path)
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def packages() -> dict[str, list[str]]:
    """Public modules by package. What belongs to the command line is documented by its commands."""
    found: dict[str, list[str]] = {TOP: [TOP]}
    for module in sorted(pkgutil.walk_packages(companysim.__path__, f"{TOP}."), key=lambda module: module.name):
        own = module.name.split(".")[1]
        if own.startswith("_") or own == "cli" or own.startswith("cli_"):
            continue
        package = f"{TOP}.{own}" if module.ispkg or module.name.count(".") > 1 else TOP
        found.setdefault(package, []).append(module.name)
    return found


def page_of(package: str) -> str:
    """Path of a package's page."""
    return f"reference/{package.removeprefix(f'{TOP}.')}.md"


def reference(package: str, modules: list[str]) -> str:
    """Return a package's page: what it offers, then module by module."""
    home = importlib.import_module(package)
    public = getattr(home, "__all__", [])
    parts = [f"# {package}"]
    if public:
        parts.append(f"`from {package} import ...` offers {', '.join(f'`{name}`' for name in public)}.")
    for name in modules:
        own = [member for member in public if getattr(vars(home).get(member), "__module__", None) == package]
        # What a package only passes on is shown where it is written.
        parts.append(f"::: {name}" + (f"\n    options: {{members: {own or 'false'}}}" if name == package else ""))
    return "\n\n".join(parts)


def commands() -> str:
    """Return the page of all commands, from what ``--help`` knows."""
    root = typer.main.get_command(app)
    parts = ["# Commands", "Every command has `--help`. Bad input ends with one sentence and exit code 2."]
    waiting = [("companysim", root)]
    while waiting:
        name, command = waiting.pop(0)
        subcommands = getattr(command, "commands", {})
        if subcommands:
            waiting = [(f"{name} {own}", sub) for own, sub in subcommands.items()] + waiting
        else:
            hints = get_type_hints(command.callback)
            rows = [
                f"| `{usage(parameter, hints[parameter.name])}` | {plain(getattr(parameter, 'help', None) or '')} |"
                for parameter in command.params
                if parameter.name in hints
            ]
            parts += [
                f"## {name}",
                plain(inspect.cleandoc(command.help or "")),
                "\n".join(["| argument or option | |", "|---|---|", *rows]),
            ]
    return "\n\n".join(parts)


def usage(parameter: Any, hint: Any) -> str:
    """Name of an argument or option, and the values it may take."""
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, StrEnum)]
    names = parameter.name.upper() if isinstance(parameter, TyperArgument) else ", ".join(parameter.opts)
    return " ".join([names, *("/".join(kind) for kind in kinds)])


def plain(text: str) -> str:
    """Return text in which only back-ticks mean anything: ``runs/<name>`` is no HTML."""
    pieces = text.replace("|", "\\|").split("`")
    return "`".join(piece if place % 2 else html.escape(piece, quote=False) for place, piece in enumerate(pieces))


def pages_of_notebook(path: Path) -> dict[str, str | bytes]:
    """Return a notebook as a page, and its pictures as files beside it."""
    notebook = nbformat.read(path, as_version=4)
    made: dict[str, str | bytes] = {}
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace(".ipynb)", ".md)").replace("(../docs/", "(../"))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{path.stem}_{len(made)}.png"
                made[f"notebooks/{picture}"] = base64.b64decode(data["image/png"])
                parts.append(f"![figure]({picture})")
            elif "text/html" in data:
                parts.append(plain_table(data["text/html"]))
            else:
                parts.append(f"```text\n{(data.get('text/plain') or output.get('text', '')).rstrip()}\n```")
    made[f"notebooks/{path.stem}.md"] = "\n\n".join(parts)
    return made


def plain_table(table: str) -> str:
    """Return a table as pandas writes it, without its styles, so that the site's own apply."""
    without = re.sub(r"<style.*?</style>", "", re.sub("<table[^>]*>", "<table>", table), flags=re.DOTALL)
    return "\n".join(line for line in without.splitlines() if line.strip())
