"""The control model and its SAE: `random_weights`, and the script that trains on it."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, LlamaForCausalLM

from companysim.config import EncoderConfig, RunConfig, load_config
from companysim.encoding.encode import encode
from companysim.encoding.llm import ResidualStream
from companysim.encoding.models import load_models
from companysim.encoding.random_weights import random_weights
from companysim.encoding.sae import load_sae
from companysim.errors import WeightsError
from companysim.sae_training.activations import collect_activations
from companysim.sae_training.quality import measure
from tests.encoding.conftest import WORDS, llama_config

PIPELINES = Path(__file__).parents[2] / "pipelines"


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_configuration_and_tokenizer_stay_and_weights_change(llm_path: Path, tmp_path: Path) -> None:
    path = random_weights(llm_path, tmp_path / "new" / "control")
    ours, theirs = (AutoConfig.from_pretrained(place).to_dict() for place in (path, llm_path))
    for key in ("architectures", "_name_or_path"):
        ours.pop(key, None), theirs.pop(key, None)
    assert ours == theirs
    text = "Öl und Gas <s> in Texas"
    assert AutoTokenizer.from_pretrained(path)(text) == AutoTokenizer.from_pretrained(llm_path)(text)
    ours, theirs = (AutoModel.from_pretrained(place).state_dict() for place in (path, llm_path))
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}
    assert all(torch.equal(ours[name], theirs[name]) == ("norm" in name) for name in ours)
    assert [*(tmp_path / "new").iterdir()] == [path]


def test_weights_are_drawn_by_the_initialiser_of_the_configuration(tmp_path: Path) -> None:
    config = llama_config(vocabulary=4096, layers=2)
    config.initializer_range, config.dtype = 0.07, "bfloat16"
    trained = tmp_path / "trained"
    LlamaForCausalLM(config).bfloat16().save_pretrained(trained)
    AutoTokenizer.from_pretrained(random_tokenizer(tmp_path)).save_pretrained(trained)
    state = AutoModel.from_pretrained(random_weights(trained, tmp_path / "control"), dtype="auto").state_dict()
    for name, tensor in state.items():
        assert tensor.dtype == torch.float32, name
        if "norm" in name:
            assert bool((tensor == 1).all())
        else:  # 5 standard errors of mean and standard deviation of N(0, 0.07^2)
            assert abs(float(tensor.mean())) < 5 * 0.07 / tensor.numel() ** 0.5, name
            assert abs(float(tensor.std()) / 0.07 - 1) < 5 / (2 * tensor.numel()) ** 0.5, name
    assert not torch.equal(state["layers.0.mlp.up_proj.weight"], state["layers.1.mlp.up_proj.weight"])
    assert "lm_head.weight" not in state


def random_tokenizer(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<s>", *WORDS])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<s>")), bos_token="<s>"
    )
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_seed_decides_every_byte_and_the_global_state_stays(llm_path: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    first = random_weights(llm_path, tmp_path / "a", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(7)
    (tmp_path / "b").mkdir()  # an empty directory is as good as none
    assert content(random_weights(str(llm_path), tmp_path / "b", seed=3)) == content(first)
    other = content(random_weights(llm_path, tmp_path / "c", seed=4))
    assert {name for name, data in content(first).items() if other[name] != data} == {"model.safetensors"}


def test_residual_stream_takes_it_unchanged(llm_path: Path, bert_path: Path, tmp_path: Path) -> None:
    ResidualStream(str(random_weights(llm_path, tmp_path / "llama")), "layers.1", window=32, overlap=8)
    ResidualStream(str(random_weights(bert_path, tmp_path / "bert")), "encoder.layer.0", window=32, overlap=8)


@pytest.mark.parametrize("occupied", ["file", "directory"])
def test_nothing_is_overwritten(llm_path: Path, tmp_path: Path, occupied: str) -> None:
    out = tmp_path / "out"
    kept = out if occupied == "file" else out / "notes.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(WeightsError, match="out is not empty: choose another directory"):
        random_weights(llm_path, out)
    assert kept.read_text() == "mine"


def test_model_that_cannot_be_read_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"cannot give '{tmp_path}/nowhere' random weights in {tmp_path}/out "):
        random_weights(tmp_path / "nowhere", tmp_path / "out")
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, with the first 40 companies of the sample and a batch a tiny training can fill."""
    monkeypatch.syspath_prepend(str(PIPELINES))
    module = importlib.import_module("random_control")
    read = module.read_table
    monkeypatch.setattr(module, "read_table", lambda *source: read(*source).sort_values("ticker").head(40))
    monkeypatch.setattr(module, "SAMPLE_SAE", replace(module.SAMPLE_SAE, batch=256))
    return module


def run(control: Any, llm_path: Path, out: Path, corpus: Path) -> dict[str, Any]:
    control.main(corpus=corpus, out=out, model=str(llm_path), hook="layers.1", latents=64, k=4, tokens=4096,
                 dtype="float32", seed=0)  # fmt: skip
    facts: dict[str, Any] = json.loads((out / "training.json").read_text())
    return facts


def test_script_trains_an_sae_that_reads_the_control(
    control: Any, llm_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "control"
    facts = run(control, llm_path, out, tmp_path / "no corpus")
    assert facts["corpus"] == "the bundled sample's descriptions"
    assert (facts["latents"], facts["k"], facts["tokens_seen"], facts["hook"]) == (64, 4, 4096, "layers.1")
    assert 0 < facts["fraction_unexplained"] < 1
    assert facts["held_out_tokens"] > facts["corpus_tokens"] > 1000  # 30 companies of 40 are held out
    assert "companysim run " in capsys.readouterr().out
    reader = ResidualStream(str(out / "model-0"), "layers.1", window=256, overlap=0, batch_tokens=8192)
    held_out = collect_activations(reader, control.sample_windows(reader, 0)[1])
    measured = measure(load_sae(out / "sae", decoder=True), held_out)
    assert measured.fraction_unexplained == pytest.approx(facts["fraction_unexplained"], abs=1e-4)
    stream, sae = load_models(
        EncoderConfig(model=str(out / "model-0"), sae=str(out / "sae"), hook="layers.1", window=256)
    )
    pooled = encode(stream, sae, ["Oil and gas wells in Texas.", "A bank."]).pooled
    assert np.diff(pooled.indptr).min() > 0
    weights, trained = (content(out / name) for name in ("model-0", "sae"))
    assert run(control, llm_path, out, tmp_path / "no corpus")["loss_curve"] == facts["loss_curve"]
    assert (content(out / "model-0"), content(out / "sae")) == (weights, trained)


def test_script_takes_the_texts_of_the_sample_sae_where_they_are(control: Any, llm_path: Path, tmp_path: Path) -> None:
    filings = [{"cik": i, "filing_date": "2020-01-01", "item_1": f"company {i} sells oil. " * 50} for i in range(40)]
    pd.DataFrame(filings).to_parquet(tmp_path / "item1_10k.parquet")
    pd.DataFrame({"text": [f"{i} wells" for i in range(700)]}).to_parquet(tmp_path / "latent_snippets.parquet")
    facts = run(control, llm_path, tmp_path / "out", tmp_path)
    assert facts["corpus"] == "as the sample SAE"
    windows = importlib.import_module("train_sample_sae").corpus_windows(
        ResidualStream(str(tmp_path / "out" / "model-0"), "layers.1", window=256, overlap=0), tmp_path, 0
    )
    assert facts["corpus_tokens"] <= sum(len(window.tokens) for window in windows[0]) <= facts["corpus_tokens"] + 5


def test_its_configuration_differs_from_the_sample_in_model_and_sae_only() -> None:
    config = load_config(PIPELINES / "random_control.yaml")
    assert config.encoder.model.endswith("runs/random_control/model-0")
    assert config.encoder.sae.endswith("runs/random_control/sae")
    encoder = config.encoder.model_copy(update={"model": EncoderConfig().model, "sae": EncoderConfig().sae})
    assert config.model_copy(update={"name": RunConfig().name, "encoder": encoder}) == RunConfig()
