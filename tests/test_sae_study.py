"""The study runs through on a tiny world, is not run twice, and chooses without looking at later years."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))

import sae_study as module
from profile_yardsticks import Profiles

from companysim.benchmark import classification
from companysim.errors import RunError
from companysim.sae_training.spec import TrainingSpec
from tests import tiny


def profiles(texts: list[str], later: int = 0) -> Profiles:
    n = len(texts)
    correlations = {}
    for year in range(2003, 2021):
        rng = np.random.default_rng([year, later if year > 2013 else 0])
        correlations[year] = np.corrcoef(rng.normal(size=(n, 12)) + np.repeat(rng.normal(size=(3, 12)), n // 3, axis=0))
    codes = [f"{10 + i // (n // 3)}10" for i in range(n)]
    table = pd.DataFrame({"cik": range(n), "sic": codes, "gics": [f"{c}0000" for c in codes], "text": texts})
    sic, gics = (classification(name, table[name].tolist()) for name in ("sic", "gics"))
    return Profiles(table, correlations, sic, gics)


def test_whole_study_on_a_tiny_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.build(tmp_path / "world")
    texts = pd.read_csv(tmp_path / "world" / "filings.csv")["text"].tolist()
    filings = pd.DataFrame({"company": range(len(texts)), "text": texts})
    monkeypatch.setattr(module, "tfidf_similarity", lambda profiles: np.eye(len(profiles.companies)))
    study = module.Study(
        model=str(tmp_path / "world" / "llm"), blocks="layers", layer=1, depths=(0, 1, 2), widths=(24, 48),
        corpus_tokens=10_000, seeds=(0, 1),
        spec=TrainingSpec(latents=48, k=4, tokens=1600, batch=32, learning_rate=5e-3, dead_after=500),
        window=64, dtype="float32", out=tmp_path / "study",
    )  # fmt: skip
    monkeypatch.setattr(module, "resolve", lambda *arguments: "another model")
    results = module.run(study, filings, profiles(texts))
    assert list(results) == ["choices", "groups", "transfer", "grouped", "random", "patched", "companies"]
    assert results == json.loads((tmp_path / "study" / "results.json").read_text())
    transfer = results["transfer"]
    assert [row["tokens"] for row in transfer.values()] == [1600, 800, 400, 200] + 2 * [800, 400, 200]
    for moved, scratch in zip(
        transfer["from the layer before, 1/2 of the tokens"]["curve"], transfer["scratch"]["curve"], strict=True
    ):
        assert moved[0][1] < scratch[0][1]
    assert len(set(transfer["scratch"]["unexplained"])) == 2
    assert [name.split(":")[0] for name in results["grouped"]] == [f"layers.{i}" for i in (0, 1, 2) for _ in range(3)]
    companies = results["companies"]
    early = companies["to 2013"]
    assert {"SAE, block 1, 24 latents", "SAE, block 2, 48 latents", "residual mean, block 0"} <= set(early)
    best = max((n for n in early if n.startswith("SAE")), key=lambda n: early[n]["score"])
    late = [name for name in companies["after"] if name.startswith("SAE")]
    assert companies["chosen"] == best
    assert late == [f"{best}, seed 0", f"{best}, seed 1"]
    shown = module.markdown(results)
    assert shown.count("## ") == 8
    assert "nan" not in shown.lower().replace("-", "")
    # Again: everything is read, nothing trained.
    monkeypatch.setattr(module, "train", None)
    assert module.run(study, filings, profiles(texts)) == results
    with pytest.raises(RunError, match="holds a study with other choices"):
        module.run(replace(study, layer=0), filings, profiles(texts))


def test_held_out_texts_are_of_companies_that_were_not_trained_on() -> None:
    texts = [f"text {i}" for i in range(200)]
    filings = pd.DataFrame({"company": [i // 2 if i < 100 else i for i in range(200)], "text": texts})
    train, held = module.split(filings, 0)
    company = dict(zip(texts, filings["company"], strict=True))
    assert len(train) == 190
    assert 0 < len(held) < 10
    assert not {company[text] for text in train} & {company[text] for text in held}


def test_the_choice_does_not_see_later_years() -> None:
    texts = [f"text {i}" for i in range(30)]
    rng = np.random.default_rng(1)
    similarities = {f"SAE, {i}": [np.corrcoef(rng.normal(size=(30, 5))) for _ in range(2)] for i in range(6)}
    similarities["TF-IDF"] = [np.eye(30)]
    first, second = (module.judged(similarities, profiles(texts, later)) for later in (0, 7))
    assert first["to 2013"] == second["to 2013"]
    assert first["chosen"] == second["chosen"]
    row = f"{first['chosen']}, seed 0"
    assert first["after"][row]["top"] != second["after"][row]["top"]
    assert "TF-IDF" in first["after"]


def test_rows_of_layers_belong_together(tmp_path: Path) -> None:
    tiny.build(tmp_path / "world")
    texts = pd.read_csv(tmp_path / "world" / "filings.csv")["text"].tolist()
    stream = module.ResidualStream(str(tmp_path / "world" / "llm"), "layers.2", window=64, overlap=0, batch_tokens=256)
    windows = stream.windows([ids for ids, _ in stream.tokenise(texts)])
    module.collect(stream, ["layers.0", "layers.2"], windows, tmp_path / "parts")
    document = module.stored(tmp_path / "parts", "document")
    assert len(document) == len(module.stored(tmp_path / "parts", "layers.0")) == sum(len(w.tokens) for w in windows)
    for wanted in (0, 7):
        expected = stream.activations([w for w in windows if w.document == wanted]).hidden.sum(0)
        found = module.stored(tmp_path / "parts", "layers.2")[document == wanted].float().sum(0)
        assert float((found - expected).abs().max()) < 0.05
