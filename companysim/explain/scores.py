"""Can a label be believed? Detection and fuzzing scores in the format of EleutherAI's delphi.

A label is worth what it predicts. Detection: given the label and a passage, does the latent fire in it? Fuzzing: given
the label and a passage with marked words, is it the marked words the latent fires on? Half of the passages are ones in
which it fires; the score is the balanced accuracy, the mean of sensitivity and specificity, 0.5 for a judge that
guesses (Paulo et al. 2024, arXiv 2410.13928).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from companysim.errors import ConfigError, DataError
from companysim.workspace import write_text

FIRES = 0.3
"""Share of a passage's largest activation from which a token is marked, as in delphi."""
NOT_ACTIVE = -1.0
"""Distance of a passage in which the latent does not fire."""
_NAME = re.compile(r"(?P<module>.+)_latent(?P<latent>\d+)\.(?:txt|json)")
_FIELDS = ("str_tokens", "activations", "distance", "activating", "prediction", "probability", "correct")


@dataclass(frozen=True)
class Example:
    """One passage of a score file.

    Attributes
    ----------
    str_tokens : tuple of str
        Its tokens as text.
    activations : tuple of float
        Of the latent on each token.
    distance : float
        Tenth of the latent's passages it belongs to, 0 the strongest; -1 if the latent does not fire in it.
    activating : bool
        Whether the latent fires in it; in fuzzing, whether the marks are right.
    prediction : bool or None
        What the judge said; None before it was asked, or if its answer could not be read.
    probability : float or None
        How sure it was, where it says.
    """

    str_tokens: tuple[str, ...]
    activations: tuple[float, ...]
    distance: float
    activating: bool
    prediction: bool | None = None
    probability: float | None = None

    @property
    def correct(self) -> bool | None:
        """Whether the judge was right; None without a prediction."""
        return None if self.prediction is None else self.prediction == self.activating

    @property
    def text(self) -> str:
        """The passage."""
        return "".join(self.str_tokens)

    def marks(self, share: float = FIRES) -> list[tuple[int, int]]:
        """Characters of `text` where runs of tokens above `share` of its largest activation begin and end."""
        peak = max(self.activations, default=0.0)
        ends = np.cumsum([0, *map(len, self.str_tokens)])
        runs: list[tuple[int, int]] = []
        for place, value in enumerate(self.activations):
            if value > 0 and value >= share * peak:
                start, end = int(ends[place]), int(ends[place + 1])
                runs = [*runs[:-1], (runs[-1][0], end)] if runs and runs[-1][1] == start else [*runs, (start, end)]
        return runs

    def marked(self, share: float = FIRES) -> str:
        """Return the passage with `marks` between ``<<`` and ``>>``."""
        shown, done = "", 0
        for start, end in self.marks(share):
            shown += f"{self.text[done:start]}<<{self.text[start:end]}>>"
            done = end
        return shown + self.text[done:]


def read_scores(path: str | Path) -> list[Example]:
    """Read one score file of delphi: a JSON list of passages.

    Raises
    ------
    DataError
        If the file is missing or is no such list.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
        return [_example(row) for row in rows]
    except OSError as error:
        raise DataError(f"cannot read the scores {path} ({error.strerror}): give a score file of delphi") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is no score file of delphi ({reason}): it needs a list of passages") from error


def _example(row: Mapping[str, Any]) -> Example:
    tokens, values = row["str_tokens"], row["activations"]
    if len(tokens) != len(values) or not all(isinstance(token, str) for token in tokens):
        raise ValueError("a passage needs as many activations as tokens")
    said, sure = row["prediction"], row.get("probability")
    if said is not None and said not in (0, 1):  # booleans in some versions, 0 and 1 in others
        raise ValueError(f"prediction is {said!r}")
    return Example(
        tuple(tokens),
        tuple(float(value) for value in values),
        float(row["distance"]),
        bool(row["activating"]),
        None if said is None else bool(said),
        None if sure is None else float(sure),
    )


def write_scores(path: str | Path, examples: Sequence[Example]) -> None:
    """Write one score file as delphi writes it.

    Predictions are 0, 1 or null; where the latent does not fire all activations are 0, so that the marks of such a
    passage are not kept.
    """
    rows = []
    for example in examples:
        row = asdict(example) | {"correct": example.correct}
        row["prediction"] = None if example.prediction is None else int(example.prediction)
        if example.distance == NOT_ACTIVE:
            row["activations"] = [0.0] * len(example.activations)
        rows.append({field: row[field] for field in _FIELDS})
    write_text(Path(path), json.dumps(rows))


def read_folder(folder: str | Path) -> dict[int, list[Example]]:
    """Read the score files ``<module>_latent<number>.txt`` of a folder, by latent.

    Raises
    ------
    DataError
        If there is none, or files of several modules.
    """
    found = {path: match for path in sorted(Path(folder).glob("*")) if (match := _NAME.fullmatch(path.name))}
    modules = sorted({match["module"] for match in found.values()})
    if len(modules) != 1:
        have = f"files of the modules {', '.join(modules)}" if modules else "no file <module>_latent<number>.txt"
        raise DataError(f"{folder} has {have}: give a folder with the scores of one module")
    return dict(sorted((int(match["latent"]), read_scores(path)) for path, match in found.items()))


def write_folder(folder: str | Path, module: str, scores: Mapping[int, Sequence[Example]]) -> None:
    """Write the scores of the latents of a module, such as ``layers.26``, one file each."""
    for latent, examples in scores.items():
        write_scores(Path(folder) / f"{module}_latent{latent}.txt", examples)


@dataclass(frozen=True)
class LabelScores:
    """Scores of the labels of many latents.

    Attributes
    ----------
    table : DataFrame
        One row a latent: latent, activating and other (passages judged of either kind), unread (answers that could not
        be read, left out), sensitivity, specificity, balanced_accuracy, low, high. NaN where a kind is missing.
    level : float
        Of the intervals low to high.
    """

    table: pd.DataFrame
    level: float = 0.95

    def to_frame(self) -> pd.DataFrame:
        """Return the `table`."""
        return self.table

    def mean(self, figure: str = "balanced_accuracy", draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
        """Mean of a figure over latents, and its interval: latents are resampled."""
        values = self.table[figure].dropna().to_numpy(dtype=float)
        if not len(values):
            return float("nan"), float("nan"), float("nan")
        rows = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
        tail = (1 - self.level) / 2
        low, high = np.quantile(values[rows].mean(axis=1), [tail, 1 - tail])
        return float(values.mean()), float(low), float(high)

    def summary(self) -> str:
        """One line."""
        known = self.table.dropna(subset="balanced_accuracy")
        value, low, high = self.mean()
        return (
            f"{len(known)} of {len(self.table)} latents scored: balanced accuracy {value:.3f} "
            f"({low:.3f} to {high:.3f}) in the mean, {known['balanced_accuracy'].median():.3f} in the median; above "
            f"chance for {(known['low'] > 0.5).mean():.0%}, below for {(known['high'] < 0.5).mean():.0%}"
        )


def score(scores: Mapping[int, Sequence[Example]], level: float = 0.95) -> LabelScores:
    """Score labels whose passages have been judged.

    Parameters
    ----------
    scores : mapping of int to sequence of Example
        Judged passages by latent.
    level : float
        Of the intervals; see `balanced_accuracy`.
    """
    rows = [(latent, one.activating, one.prediction) for latent, examples in scores.items() for one in examples]
    table = pd.DataFrame(rows, columns=["latent", "activating", "prediction"])
    return score_table(table, level)


def score_table(judged: pd.DataFrame, level: float = 0.95) -> LabelScores:
    """Score labels from a table of judged passages.

    Parameters
    ----------
    judged : DataFrame
        latent, activating, prediction (1, 0, or missing where the answer could not be read); one row a passage.
    level : float

    Raises
    ------
    DataError
        If a column is missing.
    """
    missing = sorted({"latent", "activating", "prediction"} - set(judged.columns))
    if missing:
        raise DataError(f"the judged passages have no column {', '.join(missing)}: give latent, activating, prediction")
    said = pd.to_numeric(judged["prediction"])
    fires = judged["activating"].astype(bool)
    counts = (
        pd.DataFrame(
            {
                "activating": fires & said.notna(),
                "hits": fires & (said == 1),
                "other": ~fires & said.notna(),
                "rejections": ~fires & (said == 0),
                "unread": said.isna(),
            }
        )
        .groupby(judged["latent"].to_numpy())
        .sum()
    )
    table = counts[["activating", "other", "unread"]].rename_axis("latent").reset_index()
    with np.errstate(invalid="ignore"):
        table["sensitivity"] = (counts["hits"] / counts["activating"]).to_numpy()
        table["specificity"] = (counts["rejections"] / counts["other"]).to_numpy()
    hits, activating, rejections, other = (
        counts[name].to_numpy() for name in ("hits", "activating", "rejections", "other")
    )
    value, low, high = balanced_accuracy(hits, activating, rejections, other, level)
    return LabelScores(table.assign(balanced_accuracy=value, low=low, high=high), level)


def balanced_accuracy(
    hits: np.ndarray, activating: np.ndarray, rejections: np.ndarray, other: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of sensitivity and specificity, with an interval that holds for small counts.

    Wilson's intervals of the two shares are joined as Newcombe (1998, method 10) joins those of a difference: with
    shares p, q within (l_p, u_p) and (l_q, u_q) the mean lies between ``(p + q)/2 - sqrt((p - l_p)^2 + (q - l_q)^2)/2``
    and ``(p + q)/2 + sqrt((u_p - p)^2 + (u_q - q)^2)/2``. In simulations it covers
    90 to 94 % at five passages of either kind where it promises 95, and 95 to 98 % from ten on.

    Parameters
    ----------
    hits, activating : ndarray of int
        Passages in which the latent fires that the judge recognised, and how many there are.
    rejections, other : ndarray of int
        The same of passages in which it does not.
    level : float
        Between 0 and 1.

    Returns
    -------
    value, low, high : ndarray
        NaN where either kind has no passage.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}: give a share between 0 and 1, such as 0.95")
    (p, p_low, p_high), (q, q_low, q_high) = _wilson(hits, activating, level), _wilson(rejections, other, level)
    value = (p + q) / 2
    return value, value - np.hypot(p - p_low, q - q_low) / 2, value + np.hypot(p_high - p, q_high - q) / 2


def _wilson(count: np.ndarray, of: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share and its interval by Wilson (1927)."""
    z = norm.ppf((1 + level) / 2)
    n = np.where(np.asarray(of) > 0, of, np.nan)
    share = count / n
    centre, scale = (share + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n)
    half = scale * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return share, np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def predicted(example: Example, said: bool | None, probability: float | None = None) -> Example:
    """Return the passage with a judge's answer."""
    return replace(example, prediction=said, probability=probability)
