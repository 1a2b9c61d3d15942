"""Pages of the site that are made from the repository's own files, so that they cannot fall behind.

mkdocs calls `on_config` and `on_files`. They add the reference (a page for each package, all of its modules), the
commands (from the command line itself), the notebooks with their stored outputs, and the cards of the bundled data.
"""

from __future__ import annotations

import ast
import base64
import html
import importlib
import inspect
import pkgutil
import re
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import nbformat
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.core import TyperArgument

import companysim
from companysim.cli import app
from companysim.config import RunConfig

ROOT = Path(__file__).parents[1]
CARDS = {"cards/sample.md": "data/sample/README.md", "cards/sae.md": "data/sae/README.md"}
TOP = "companysim"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the reference to the navigation."""
    pages: list[Any] = [{"Commands": "reference/commands.md"}, {"Settings": "reference/settings.md"}]
    pages += [{package.removeprefix(f"{TOP}."): page_of(package)} for package in packages()]
    assert config.nav is not None
    config.nav.append({"Reference": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and pictures."""
    made: dict[str, str | bytes] = {"reference/commands.md": commands(), "reference/settings.md": settings()}
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
        if name == TOP:
            continue  # its docstring is a doctest, which the tutorial shows
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


def settings() -> str:
    """Return the page of all settings with their defaults, and what config.py or the sample's file says of each."""
    said = comments(ROOT / "pipelines" / "sample.yaml") | remarks(Path(inspect.getfile(RunConfig)))
    parts = [
        "# Settings",
        "A configuration is a YAML file with any of these; what is left out keeps its default. `pipelines/sample.yaml` "
        "is one.",
        "An unknown key or an impossible value is refused with a sentence that names it.",
    ]
    for section, field in RunConfig.model_fields.items():
        fields = getattr(field.annotation, "model_fields", None)
        if fields is None:
            parts.append(f"`{section}` is `{field.default}` by default.")
            continue
        rows = []
        for key, own in fields.items():
            values = ", ".join(f"`{value}`" for value in get_args(own.annotation) if isinstance(value, str))
            told = [f"One of {values}." if values else "", plain(said.get((section, key), ""))]
            rows.append(f"| `{key}` | `{'null' if own.default is None else own.default}` | {' '.join(told).strip()} |")
        parts += [f"## {section}", "\n".join(["| setting | default | |", "|---|---|---|", *rows])]
    return "\n\n".join(parts)


def comments(path: Path) -> dict[tuple[str, str], str]:
    """Comments beside the settings of a YAML file, by section and setting."""
    sections = re.findall(r"^(\w+):\n((?:  .*\n)+)", path.read_text(), re.MULTILINE)
    found = [(name, re.findall(r"^  (\w+):[^#\n]*# (.*)$", lines, re.MULTILINE)) for name, lines in sections]
    return {(name, key): told for name, rows in found for key, told in rows}


def remarks(path: Path) -> dict[tuple[str, str], str]:
    """Docstrings of the settings in config.py, by section and setting."""
    kinds = {kind.name: kind.body for kind in ast.parse(path.read_text()).body if isinstance(kind, ast.ClassDef)}
    found = {}
    for section, field in RunConfig.model_fields.items():
        for own, told in pairwise(kinds.get(getattr(field.annotation, "__name__", ""), [])):
            if isinstance(own, ast.AnnAssign) and isinstance(told, ast.Expr):
                found[section, ast.unparse(own.target)] = " ".join(str(ast.literal_eval(told.value)).split())
    return found


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
