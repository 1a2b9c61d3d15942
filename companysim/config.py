"""One YAML file describes one run.

Every key has a typed default; an unknown key or an impossible value is a `ConfigError` that names it.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from companysim.errors import ConfigError

SAMPLE = "sample"
Share = Annotated[float, Field(gt=0, le=1)]
SaeSimilarity = Literal["pca_cosine", "log_idf_cosine", "cosine"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic would take yes for 1
            raise ValueError("no setting is yes or no")
        return value


class UniverseConfig(_Section):
    """Where the tables come from: ``sample`` or the path of a parquet or CSV file."""

    filings: str = SAMPLE
    companies: str = SAMPLE
    prices: str = SAMPLE
    as_of: date = date(2012, 12, 31)
    """A company is described by its last filing with ``filed`` on or before this day."""


class EncoderConfig(_Section):
    """How text becomes latents."""

    model: str = "smollm2-135m"
    hook: str = "layers.26"
    sae: str = SAMPLE
    embedding: str = "minilm-l6"
    window: Annotated[int, Field(ge=8)] = 512
    overlap: Annotated[int, Field(ge=0)] = 64
    batch_tokens: Annotated[int, Field(ge=8)] = 2048
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap >= self.window - 1:
            raise ValueError("overlap must be below window - 1")
        return self


class SimilarityConfig(_Section):
    """How latents become similarities."""

    sae: SaeSimilarity = "cosine"
    """Similarity of the default method. The published recipe, ``pca_cosine``, is always a row of its own."""
    pca_variance: Share = 0.9


class ClusteringConfig(_Section):
    """How similarities become groups."""

    share_of_pairs: Share = 0.01
    """Every similarity's spanning tree is cut where the share of all pairs that end up grouped is closest to this."""


class BenchmarkConfig(_Section):
    """Which years judge the groupings, and how firmly."""

    first_year: int = 2014
    last_year: int = 2016
    components: Annotated[int, Field(ge=0, le=8)] = 3
    """Principal components taken out of each year's returns for a second comparison; 0 for none."""
    null_draws: Annotated[int, Field(ge=1)] = 1000
    bootstrap_draws: Annotated[int, Field(ge=1)] = 1000


class BacktestConfig(_Section):
    """Walk-forward pairs trading; costs in basis points of traded notional, the borrow fee in percent a year."""

    formation_start: date = date(2007, 1, 4)
    formation_end: date = date(2012, 12, 31)
    trading_end: date = date(2016, 12, 30)
    p_value: Share = 0.01
    max_pairs: Annotated[int, Field(ge=1)] = 50
    entry: Annotated[float, Field(gt=0)] = 2.0
    exit: float = 0.0
    stop: Annotated[float, Field(gt=0)] = 4.0
    max_days: Annotated[int, Field(ge=1)] = 126
    cost_bp: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    borrow_percent: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    placebo_books: Annotated[int, Field(ge=1)] = 1000
    placebo_pairs: Annotated[int, Field(ge=1)] = 5000

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.formation_start < self.formation_end < self.trading_end:
            raise ValueError("formation_start, formation_end and trading_end must be in this order")
        if not self.exit < self.entry < self.stop:
            raise ValueError("exit, entry and stop must be in this order")
        return self


class RunConfig(_Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] = SAMPLE
    seed: int = 0
    universe: UniverseConfig = UniverseConfig()
    encoder: EncoderConfig = EncoderConfig()
    similarity: SimilarityConfig = SimilarityConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    benchmark: BenchmarkConfig = BenchmarkConfig()
    backtest: BacktestConfig = BacktestConfig()

    @model_validator(mode="after")
    def _no_hindsight(self) -> Self:
        if self.universe.as_of > self.backtest.formation_end:
            raise ValueError("universe.as_of lies after backtest.formation_end: the backtest would trade on later text")
        if self.benchmark.first_year > self.benchmark.last_year:
            raise ValueError("benchmark.first_year lies after benchmark.last_year")
        if self.benchmark.first_year <= self.universe.as_of.year:
            raise ValueError("benchmark.first_year must lie after universe.as_of: the text was not readable before")
        return self

    def to_yaml(self) -> str:
        """Return the configuration as YAML that `load_config` reads back unchanged."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(source: str | Path = SAMPLE) -> RunConfig:
    """Read a configuration.

    Parameters
    ----------
    source : str or path
        ``sample`` for the bundled run, or a YAML file. Paths inside the file are relative to it.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, has an unknown key or an impossible value.
    """
    if str(source) == SAMPLE:
        return RunConfig()
    path = Path(source)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path} ({error.strerror}): give a YAML file, or 'sample'"
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date such as 2012-02-30
        raise ConfigError(f"{path} is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings: write keys such as 'name: my-run', or use 'sample'")
    try:
        config = RunConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_sentence(error)}") from error
    return _anchored(config, path.parent.absolute())


def _sentence(error: ValidationError) -> str:
    """First problem of a validation error, in one sentence."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section: type[BaseModel] = RunConfig
        for part in first["loc"][:-1]:
            section = type(section.model_fields[str(part)].default)
        return f"unknown key {key!r}: known here are {', '.join(section.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return message
    return f"{key} is {first['input']!r}: {message[0].lower()}{message[1:]}"


def _anchored(config: RunConfig, folder: Path) -> RunConfig:
    """Resolve the paths of a configuration against its own folder; a model that is no folder there is a name."""

    def anchored(section: _Section, paths: tuple[str, ...], names: tuple[str, ...] = ()) -> dict[str, str]:
        values = {key: getattr(section, key) for key in (*paths, *names)}
        return {
            key: str(folder / value)
            for key, value in values.items()
            if value != SAMPLE and (key in paths or (folder / value).exists())
        }

    tables = anchored(config.universe, ("filings", "companies", "prices"))
    models = anchored(config.encoder, ("sae",), ("model", "embedding"))
    return config.model_copy(
        update={
            "universe": config.universe.model_copy(update=tables),
            "encoder": config.encoder.model_copy(update=models),
        }
    )
