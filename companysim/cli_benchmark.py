"""`companysim benchmark`: the fair comparison on a user's own tables."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from companysim.errors import ConfigError
from companysim.report.terminal import terminal

if TYPE_CHECKING:
    import pandas as pd

    from companysim.benchmark.study import Study


class Window(StrEnum):
    """Which months judge a year."""

    calendar = "calendar"
    after_filing = "after_filing"


KEYS = (
    "features returns classification first_year last_year window share_of_pairs without factors components autoencoder "
    "clip null_draws bootstrap_draws seed"
).split()


def benchmark_command(
    features: Annotated[
        list[Path] | None,
        typer.Option(help="Vectors, a similarity, pairs or a partition (parquet or CSV); may be given several times."),
    ] = None,
    returns: Annotated[Path | None, typer.Option(help="Long: return, log_return or adj_close; wide: returns.")] = None,
    classification: Annotated[Path | None, typer.Option(help="Table with ticker and sic, gics or ff48.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of these options; flags come first.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV tables, HTML and PNG figures.")] = None,
    first_year: Annotated[int | None, typer.Option(help="First year that judges.")] = None,
    last_year: Annotated[int | None, typer.Option(help="Last year that judges.")] = None,
    window: Annotated[Window | None, typer.Option(help="Calendar years, or the 12 months after 'filed'.")] = None,
    share_of_pairs: Annotated[float | None, typer.Option(help="Where spanning trees are cut; 0.01 by default.")] = None,
    without: Annotated[list[int] | None, typer.Option(help="Year to leave out in a second set of figures.")] = None,
    factors: Annotated[
        list[Path] | None, typer.Option(help="Factor returns, a file of French's data library; several are joined.")
    ] = None,
    components: Annotated[int | None, typer.Option(min=0, help="Principal components to take out.")] = None,
    autoencoder: Annotated[int | None, typer.Option(min=0, help="Conditional autoencoder factors to take out.")] = None,
    clip: Annotated[bool | None, typer.Option("--clip", help="Pull extreme returns to past limits.")] = None,
    null_draws: Annotated[int | None, typer.Option(min=1, help="Random partitions; 1000 by default.")] = None,
    bootstrap_draws: Annotated[
        int | None, typer.Option(min=1, help="Resamples of firms and years; 1000 by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all draws.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
) -> None:
    """Judge your own vectors, similarities or groups by stock returns, against SIC, GICS and Fama-French 48.

    Every figure comes with a 95 % interval from resampled firms and years; MC with what random clusters of the same
    sizes give; differences of methods with p-values adjusted for their number.
    """
    from rich.console import Console

    from companysim.benchmark.study import run_study

    arguments = locals()
    given: dict[str, Any] = {name: arguments[name] for name in KEYS if arguments[name] not in (None, [])}
    settings = _from_file(config) | given if config is not None else given
    for name in ("features", "returns", "classification"):
        if name not in settings:
            raise ConfigError(f"--{name} is missing: give a parquet or CSV file (see `companysim benchmark --help`)")
    with Console(stderr=True).status("comparing") as status:
        study = run_study(
            features=settings.pop("features"),
            returns=settings.pop("returns"),
            codes=settings.pop("classification"),
            advance=lambda done, total: status.update(f"comparing, {done} of {total} years"),
            **settings,
        )
    if out is not None:
        write_study(study, out)
    if as_json:
        typer.echo(json.dumps(json.loads(study.to_frame().to_json(orient="records")), indent=1))
    elif as_csv:
        typer.echo(study.to_frame().to_csv(index=False), nl=False)
    else:
        _print(study, terminal())
        if out is not None:
            typer.echo(f"Results: {out}/")


def write_study(study: Study, folder: Path) -> None:
    """Write a study's tables as CSV and its figures as HTML and PNG.

    Raises
    ------
    ConfigError
        If the folder cannot be written.
    """
    from companysim.report.benchmark_figure import frontier_chart, theta_chart, years_chart
    from companysim.workspace import write_csv, write_text

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in study_tables(study).items():
            write_csv(folder / f"{name}.csv", table)
        write_text(folder / "summary.txt", study.summary() + "\n")
        raw = study.comparisons["raw"]
        figures = raw.estimates["figure"].tolist()
        matched = next((figure for figure in figures if figure.startswith("at_")), "pair_weighted")
        frontier_chart(study.frontier, raw.value("all_pairs", "pair_weighted")).save(folder, "frontier")
        years_chart(raw, matched).save(folder, "years")
        if study.curves:
            theta_chart(study.curves).save(folder, "theta")
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} ({error.strerror}): choose another --out") from error


def study_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Return every table of a study by name; a column says which returns a row is of."""
    import pandas as pd

    def all_kinds(part: str) -> pd.DataFrame:
        comparisons = study.comparisons.items()
        frames: list[pd.DataFrame] = [getattr(found, part).assign(returns=kind) for kind, found in comparisons]
        return pd.concat(frames, ignore_index=True)

    tables = {name: all_kinds(name) for name in ("estimates", "partitions", "differences", "yearly", "counts")}
    missing = [windows.to_frame().assign(returns=kind) for kind, windows in study.windows.items()]
    tables |= {"missing": pd.concat(missing, ignore_index=True), "frontier": study.frontier}
    if study.extremes is not None:
        tables["extremes"] = study.extremes.to_frame()
    tables |= {f"theta_{name}": curve.to_frame() for name, curve in study.curves.items()}
    return tables


def _print(study: Study, console: Any) -> None:
    from companysim.benchmark.table import headline
    from companysim.report.console import benchmark_table

    for kind, comparison in study.comparisons.items():
        rows = headline(comparison, study.groupings)
        for row in rows[:-1]:
            row["matched"] = dict(list(row["matched"].items())[:2])  # what fits a line; all of them are in the tables
        years = sorted(study.windows[kind].returns)
        table = benchmark_table(rows, years, wide=console.width >= 130)
        table.title = f"{len(study.companies)} companies, {kind} returns {years[0]}-{years[-1]}"
        console.print(table)
    console.print(study.summary())


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path} ({' '.join(str(error).split())}): give a YAML file") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings: write keys such as 'returns: returns.parquet'")
    unknown = [str(key) for key in content if key not in KEYS]
    if unknown:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}: known are {', '.join(KEYS)}")
    found: dict[str, Any] = {}
    for key, value in content.items():
        several = key in ("features", "factors", "without")
        values = value if isinstance(value, list) else [value]
        if key in ("features", "factors", "returns", "classification"):
            values = [path.parent / str(entry) for entry in values]  # relative to the file that names them
        elif key == "window":
            values = [_one_of(path, value)]
        elif key != "share_of_pairs" and not all(isinstance(entry, int) for entry in values):
            raise ConfigError(f"{path}: {key} is {value!r}: it must be a whole number")
        elif key == "share_of_pairs" and not isinstance(value, float | int):
            raise ConfigError(f"{path}: share_of_pairs is {value!r}: it must be a number")
        found[key] = values if several else values[0]
    return found


def _one_of(path: Path, value: Any) -> Window:
    if value not in list(Window):
        raise ConfigError(f"{path}: window is {value!r}: choose {' or '.join(Window)}")
    return Window(value)
