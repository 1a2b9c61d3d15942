"""`companysim sae` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from companysim.cli_sae import app
from companysim.encoding.sae import load_sae, save_sae
from companysim.encoding.training import TrainingSpec, train_topk
from companysim.errors import CompanySimError, ConfigError, DataError, WeightsError
from tests import tiny
from tests.encoding.test_verify import rows_at


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world, with an SAE trained on its model's block 1 in a folder that claims block 0."""
    folder = tmp_path_factory.mktemp("world")
    tiny.build(folder)
    rows = rows_at(folder / "llm", "layers.1", pd.read_csv(folder / "filings.csv")["text"].tolist())
    spec = TrainingSpec(latents=48, k=6, tokens=40_000, batch=64, learning_rate=5e-3)
    save_sae(train_topk(rows, spec), folder / "saes" / "layers.0", dtype="float32")
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(error: type[CompanySimError], words: str, *arguments: object) -> None:
    with pytest.raises(error, match=words):
        run(*arguments)


def test_inspect_prints_what_the_checkpoint_says(world: Path) -> None:
    shown = run("inspect", world / "saes" / "layers.0")
    for words in ("sparsify", "topk, k = 6", "x - b_dec", "layers.0", "float32", "encoder.weight 48x32"):
        assert words in shown


def test_inspect_as_json(world: Path) -> None:
    found = json.loads(run("inspect", world / "sae", "--json"))
    assert (found["format"], found["latents"], found["width"], found["k"]) == ("sparsify", 24, 32, 4)
    assert found["hook"] is None
    assert found["tensors"]["encoder.weight"] == [24, 32]


def test_inspect_says_when_no_hook_is_stated() -> None:
    assert "check it with `companysim sae verify`" in run("inspect", "sample")


def test_verify_points_out_the_better_place(world: Path) -> None:
    arguments = ["--model", world / "llm", "--texts", world / "filings.csv", "--documents", 18]
    shown = run("verify", world / "saes" / "layers.0", *arguments)
    assert "layers.0 (claimed)" in shown
    assert "Another place fits better: at layers.1" in shown
    told = json.loads(run("verify", world / "saes" / "layers.0", *arguments, "--hook", "layers.1", "--json"))
    assert told["summary"].startswith("layers.1 fits best of the 4 places tried")
    assert [fit["hook"] for fit in told["fits"]] == ["embed_tokens", "layers.0", "layers.1", "layers.2"]


def test_documents_and_neighbours_bound_the_work(world: Path) -> None:
    arguments = ["--model", world / "llm", "--texts", world / "filings.csv", "--json", "--neighbours", 0]
    few, more = (
        json.loads(run("verify", world / "saes" / "layers.0", *arguments, "--documents", n))["fits"] for n in (2, 6)
    )
    assert len(few) == len(more) == 1
    assert few[0]["tokens"] < more[0]["tokens"]


def test_mistakes_are_named_errors(world: Path, tmp_path: Path) -> None:
    sae, model = world / "saes" / "layers.0", ["--model", world / "llm"]
    refused(WeightsError, r"holds 1 SAE in subfolders \(layers\.0\)", "inspect", world / "saes")
    refused(WeightsError, "no folder .*nowhere", "inspect", tmp_path / "nowhere")
    refused(ConfigError, "does not name its language model: give --model", "verify", sae)
    refused(DataError, "no file .*none.csv", "verify", sae, *model, "--texts", tmp_path / "none.csv")
    pd.DataFrame({"words": ["a"]}).to_csv(tmp_path / "bad.csv")
    refused(DataError, "column 'text' is missing", "verify", sae, *model, "--texts", tmp_path / "bad.csv")
    texts = ["--texts", world / "filings.csv"]
    refused(ConfigError, "does not say which module", "verify", world / "sae", *model, *texts)
    refused(WeightsError, "has 3 blocks", "verify", sae, *model, *texts, "--hook", "layers.7")


def test_decoder_is_needed(world: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = world / "saes" / "layers.0"
    tensors = load_file(source / "sae.safetensors")
    save_file({name: t for name, t in tensors.items() if name != "W_dec"}, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text((source / "cfg.json").read_text())
    assert load_sae(tmp_path).k == 6
    assert json.loads(run("inspect", tmp_path, "--json"))["decoder"] is False
    arguments = ["--model", world / "llm", "--hook", "layers.1"]
    refused(WeightsError, "but not decoded", "verify", tmp_path, *arguments)
