"""What the documentation shows exists: commands, settings, names, files; and the site builds without the network."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
import yaml

import companysim as cs
from companysim.cli import app
from companysim.config import RunConfig, load_backtest, load_config
from companysim.results import Run
from tests.scripts import repository_script

ROOT = Path(__file__).parents[1]
if not (ROOT / "docs").is_dir():
    pytest.skip("the documentation is part of the repository, not of the package", allow_module_level=True)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")),
         *sorted((ROOT / "data").glob("*/README.md")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]  # fmt: skip
INLINE = re.compile(r"(?<!`)`((?:companysim|make|python) [^`\n]+)`")
LINE = re.compile(r"^(?:    )?((?:companysim|make|python)\s.*?)(?:\s+#.*)?$")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def text_of(path: Path) -> str:
    """Text of a page, of a notebook its markdown cells."""
    if path.suffix == ".md":
        return path.read_text()
    import json

    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def commands(text: str) -> list[str]:
    """Commands shown in a page: indented, in a fence without a language or of a shell, or between back-ticks."""
    prose = FENCE.sub(lambda match: match[2] if match[1] in ("", "bash", "sh") else "", text)
    shown = [match[1] for line in prose.splitlines() if line.startswith("    ") and (match := LINE.match(line))]
    shown += [line for kind, block in FENCE.findall(text) if kind in ("", "bash") for line in block.splitlines()]
    shown = [command for command in shown if command.startswith(("companysim ", "make ", "python "))]
    return [*shown, *INLINE.findall(prose)]


def blocks(language: str) -> list[Any]:
    """Fenced blocks of a language on all pages."""
    found = []
    for path in PAGES:
        for number, (kind, block) in enumerate(FENCE.findall(text_of(path)), start=1):
            if kind == language:
                found.append(pytest.param(block, id=f"{path.relative_to(ROOT)}-{number}"))
    return found


SHOWN = sorted({(str(path.relative_to(ROOT)), command) for path in PAGES for command in commands(text_of(path))})


def test_commands_are_found() -> None:
    assert commands("Text `companysim run` and\n\n    companysim peers X  # why\n\n```\nmake run\n```\n") == [
        "companysim peers X",
        "make run",
        "companysim run",
    ]
    assert commands("```python\nmake = 1\n```\n\n    makeshift\n") == []
    assert len(SHOWN) > 60


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_a_shown_command_parses(page: str, command: str) -> None:
    program, *arguments = shlex.split(command.replace("TABLE", "clusters"))
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets)
    elif program == "python":
        if arguments[0] == "-m":
            importlib.util.find_spec(arguments[1])
            return
        source = (ROOT / arguments[0]).read_text()
        for option in (argument for argument in arguments if argument.startswith("--")):
            name = option.removeprefix("--").replace("-", "_")
            assert option in source or re.search(rf"\b{name}: ", source), option
    else:
        parse(arguments)


def parse(arguments: list[str]) -> None:
    """Parse as the command line does; a wrong name, option or value raises."""
    command, name = typer.main.get_command(app), "companysim"
    while arguments and getattr(command, "commands", None):
        if arguments[0].startswith("--"):
            assert arguments[0] in ("--help", "--version")
            return
        name, *arguments = arguments
        command = command.commands[name]
    if arguments and "--help" not in arguments:  # without any, the command is only spoken of
        command.make_context(name, arguments)


@pytest.mark.parametrize("wrong", ["nonsense", "run --nonsense", "show nonsense", "peers -k many"])
def test_a_wrong_command_does_not_parse(wrong: str) -> None:
    with pytest.raises(Exception, match=r"nonsense|valid integer"):
        parse(shlex.split(wrong))


@pytest.mark.parametrize("block", blocks("yaml"))
def test_a_shown_configuration_is_valid(block: str, tmp_path: Path) -> None:
    (tmp_path / "shown.yaml").write_text(block)
    if list(yaml.safe_load(block)) == ["backtest"]:
        load_backtest(tmp_path / "shown.yaml", dict)
    else:
        assert isinstance(load_config(tmp_path / "shown.yaml"), RunConfig)


@pytest.mark.parametrize("block", blocks("python"))
def test_names_in_shown_code_exist(block: str) -> None:
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("companysim"):
            module = importlib.import_module(node.module or "")
            for name in node.names:
                assert hasattr(module, name.name), name.name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            home = {"cs": cs, "run": Run}.get(node.value.id)
            assert home is None or hasattr(home, node.attr), ast.unparse(node)


def test_settings_named_in_prose_exist() -> None:
    dump = RunConfig().model_dump()
    named = {name for path in PAGES for name in re.findall(rf"`((?:{'|'.join(dump)})\.\w+)`", text_of(path))}
    assert len(named) > 5
    for name in named:
        section, key = name.split(".")
        assert isinstance(dump[section], dict), name
        assert key in dump[section], name


def test_names_of_the_package_in_prose_exist() -> None:
    named = {name for path in PAGES for name in re.findall(r"`(companysim(?:\.\w+)+)`", text_of(path))}
    assert named
    for name in named:
        module, last = name.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), last) or importlib.util.find_spec(name), name


# ---- the site ----


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs")
    pytest.importorskip("nbformat")
    return repository_script("docs/hooks.py")


def test_every_public_module_has_its_place_in_the_reference(hooks: ModuleType) -> None:
    placed = [name for modules in hooks.packages().values() for name in modules]
    home = Path(cs.__file__).parent
    there = {
        ".".join(path.relative_to(home.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in home.rglob("*.py")
        if not path.name.startswith("cli") and path.name != "__main__.py"
    }
    assert set(placed) == there
    assert len(placed) == len(there)


def test_the_page_of_commands_has_all_of_them_and_their_options(hooks: ModuleType) -> None:
    page = hooks.commands()
    for command in ("run", "encode", "peers", "show", "benchmark", "backtest", "sae inspect", "sae verify"):
        assert f"## companysim {command}\n" in page
    assert "| `--bootstrap-draws` |" in page
    assert "`--window calendar/after_filing`" in page
    assert "TABLE benchmark/figures/" in page
    assert "runs/NAME by default" in page


def test_the_page_of_settings_has_all_of_them(hooks: ModuleType) -> None:
    page = hooks.settings()
    for section in RunConfig().model_dump().values():
        for key, default in section.items() if isinstance(section, dict) else ():
            assert f"| `{key}` | `{'null' if default is None else default}` |" in page
    row = next(line for line in page.splitlines() if line.startswith("| `latent_budget_mb`"))
    assert row.endswith("| Memory a block of tokens x latents may take while it is encoded. |")  # config.py's words
    assert "| `device` | `cpu` | One of `cpu`, `cuda`, `mps`. |" in page
    row = next(line for line in page.splitlines() if line.startswith("| `entry`"))
    assert row.endswith("| in formation-window standard deviations of the spread |")  # those of sample.yaml


def test_plain_text_is_no_html(hooks: ModuleType) -> None:
    assert hooks.plain("a <b> `<c>` | d") == "a &lt;b&gt; `<c>` \\| d"


def test_a_table_loses_its_styles_only(hooks: ModuleType) -> None:
    style = "<style scoped>\n    .x {}\n\n</style>"
    table = f'<div>\n{style}\n<table border="1" class="dataframe">\n  <td>1</td>\n</table>\n</div>'
    assert hooks.plain_table(table) == "<div>\n<table>\n  <td>1</td>\n</table>\n</div>"


def test_strict_is_strict() -> None:
    settings = (ROOT / "mkdocs.yml").read_text()
    config = yaml.safe_load(settings)
    assert config["strict"] is True
    assert set(config["validation"]["links"].values()) == {"warn"}
    assert config["theme"]["font"] is False
    assert "http" not in settings


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 25
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"([^\"]+)\"", page.read_text())
        assert loaded
        assert [place for place in loaded if re.match(r"(?:https?:)?//", place)] == []


@pytest.mark.slow
def test_the_site_holds_reference_notebooks_and_cards(site: Path) -> None:
    assert 'id="companysim.benchmark.comparison.compare"' in (site / "reference" / "benchmark.html").read_text()
    assert 'id="companysim.results.Run.peers_of_text"' in (site / "reference" / "companysim.html").read_text()
    for name in ("01_explore_clusters", "02_benchmark_similarity", "03_backtest_pairs"):
        page = (site / "notebooks" / f"{name}.html").read_text()
        (picture,) = re.findall(rf'src="({name}_\d+\.png)"', page)
        assert (site / "notebooks" / picture).read_bytes().startswith(b"\x89PNG")
        assert ".ipynb" not in page
    assert "430 large US companies" in (site / "cards" / "sample.html").read_text()
    assert not (site / "hooks.py").exists()


def test_dependencies_of_the_site_are_those_of_the_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(entry.startswith("mkdocs-material") for entry in extras["docs"])
    assert any(entry.startswith("mkdocstrings[python]") for entry in extras["docs"])
