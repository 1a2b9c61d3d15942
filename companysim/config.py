"""One YAML file describes one run.

Every key has a typed default; an unknown key or an impossible value is a `ConfigError` that names it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from companysim.errors import ConfigError

Device = Literal["cpu", "cuda", "mps"]
Dtype = Literal["float32", "bfloat16", "float16"]

SAMPLE = "sample"
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
SaeSimilarity = Literal["pca_cosine", "log_idf_cosine", "cosine"]
Pool = Literal["sum", "mean", "max", "count", "log_length"]


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
    """How text becomes latents.

    A model is a name of `companysim.encoding.weights.REGISTRY`, a local directory, or a hub id with its `revision`; an
    SAE is ``sample``, a local directory, or a hub id with the folder inside it, such as
    ``EleutherAI/sae-llama-3-8b-32x/layers.30``.
    """

    model: str = "smollm2-135m"
    revision: str | None = None
    hook: str = "layers.26"
    sae: str = SAMPLE
    sae_revision: str | None = None
    embedding: str = "minilm-l6"
    embedding_revision: str | None = None
    window: Annotated[int, Field(ge=8)] = 512
    overlap: Annotated[int, Field(ge=0)] = 64
    batch_tokens: Annotated[int, Field(ge=8)] = 2048
    device: Device = "cpu"
    dtype: Dtype = "float32"
    sae_dtype: Dtype = "float32"
    latent_budget_mb: Annotated[int, Field(ge=1)] = 64
    """Memory a block of tokens x latents may take while it is encoded."""

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap >= self.window - 1:
            raise ValueError("overlap must be below window - 1")
        return self


class SimilarityConfig(_Section):
    """How latents become similarities."""

    pool: Pool = "sum"
    """How a document's tokens are pooled; all pools come from one pass, see `companysim.encoding.pooling`."""
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
    """Walk-forward pairs trading; see `companysim.trading` for what each setting does.

    Costs are basis points of the value traded, rates percent a year, lengths trading days unless named otherwise.
    """

    formation_start: date = date(2007, 1, 4)
    formation_end: date = date(2012, 12, 31)
    trading_end: date = date(2016, 12, 30)
    roll_months: Annotated[int, Field(ge=1)] | None = None
    """Trade so many months, then choose again on a formation window moved by as many; null trades the first choice."""
    p_value: Share = 0.01
    fdr: Share = 0.05
    max_pairs: Annotated[int, Field(ge=1)] = 50
    entry: Annotated[float, Field(gt=0)] = 2.0
    exit: float = 0.0
    stop: Annotated[float, Field(gt=0)] = 4.0
    max_days: Annotated[int, Field(ge=1)] = 126
    reentry: Literal["crossing", "inside", "never"] = "crossing"
    pause: Annotated[int, Field(ge=0)] = 0
    zscore_days: Annotated[int, Field(ge=3)] | None = None
    hedge: Literal["beta", "dollar"] = "beta"
    lag: Annotated[int, Field(ge=1)] = 1
    delisted_after: Annotated[int, Field(ge=1)] = 10
    commission_bp: Rate = 1.0
    half_spread_bp: Rate = 4.0
    borrow_percent: Rate = 1.0
    cash_percent: Rate = 0.0
    delisting_return: Annotated[float, Field(ge=-1, allow_inf_nan=False)] = 0.0
    capital: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e6
    leverage: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    max_open: Annotated[int, Field(ge=1)] | None = None
    max_per_company: Annotated[int, Field(ge=1)] | None = None
    placebo_books: Annotated[int, Field(ge=1)] = 1000
    placebo_pairs: Annotated[int, Field(ge=1)] = 100_000
    """At least so many random pairs are tested a window for the placebo: all of them where there are no more, and never
    fewer than 20 times a grouping's own."""
    bootstrap_draws: Annotated[int, Field(ge=1)] = 2000
    trials: Annotated[int, Field(ge=1)] | None = None
    """Strategies tried in all, for the deflated Sharpe ratio; null, or fewer than the groupings, counts these."""

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
    seed: Annotated[int, Field(ge=0)] = 0
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
        config = RunConfig.model_validate(_content(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_sentence(error)}") from error
    return _anchored(config, path.parent.absolute())


def _content(path: Path) -> dict[str, Any]:
    """Keys of a YAML file."""
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
    return content


DATES = {"formation_start", "formation_end", "trading_end"}


class _BacktestFile(_Section):
    """A YAML file of which only the section `backtest` counts."""

    backtest: BacktestConfig = BacktestConfig()


def load_backtest(
    source: str | Path | None, dates: Callable[[], dict[str, date]], roll_months: int | None = None
) -> BacktestConfig:
    """Read the section `backtest` of a configuration, as a backtest of one's own tables needs it.

    Parameters
    ----------
    source : str or path, optional
        A YAML file; the other sections of a run's configuration may stand in it. None gives the defaults.
    dates : callable
        Gives formation_start, formation_end and trading_end; asked only if the file leaves one of them open.
    roll_months : int, optional
        If the file leaves it open.

    Raises
    ------
    ConfigError
        As `load_config`.
    """
    content = {} if source is None else _content(Path(source))
    further = set(content) - set(RunConfig.model_fields)
    if further:
        known = ", ".join(RunConfig.model_fields)
        raise ConfigError(f"{source}: unknown key {min(map(str, further))!r}: known here are {known}")
    given = content.get("backtest") or {}
    if not isinstance(given, dict):
        raise ConfigError(f"{source}: backtest is {given!r}: write its settings below it, such as 'entry: 2'")
    try:
        fitting = {} if DATES <= set(given) else dates()
        return _BacktestFile.model_validate({"backtest": {"roll_months": roll_months} | fitting | given}).backtest
    except ValidationError as error:
        raise ConfigError(f"{source or 'backtest'}: {_sentence(error)}") from error


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
    """Resolve the paths of a configuration against its own folder; a model or SAE that is no folder there is a name."""

    def anchored(section: _Section, paths: tuple[str, ...], names: tuple[str, ...] = ()) -> dict[str, str]:
        values = {key: getattr(section, key) for key in (*paths, *names)}
        return {
            key: str(folder / value)
            for key, value in values.items()
            if value != SAMPLE and (key in paths or (folder / value).exists())
        }

    tables = anchored(config.universe, ("filings", "companies", "prices"))
    sae = ((), ("sae",)) if "/" in config.encoder.sae else (("sae",), ())  # a hub id has a slash
    models = anchored(config.encoder, sae[0], ("model", "embedding", *sae[1]))
    return config.model_copy(
        update={
            "universe": config.universe.model_copy(update=tables),
            "encoder": config.encoder.model_copy(update=models),
        }
    )
