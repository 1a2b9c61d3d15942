"""`companysim sae train`, `groups` and `evaluate` as a user meets them, killed and started again too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from companysim import cli_sae_training
from companysim.cli_sae import app
from companysim.encoding.sae import load_sae
from companysim.errors import CompanySimError, ConfigError, DataError, RunError, WeightsError
from tests import tiny

SMALL = [
    "--latents", 48, "-k", 4, "--tokens", 6400, "--batch", 64, "--dead-after", 2000, "--held-out", 6,
    "--learning-rate", 5e-3,
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    tiny.build(folder)
    return folder


def source(world: Path) -> list[object]:
    return ["--model", world / "llm", "--text", world / "filings.csv"]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(error: type[CompanySimError], words: str, *arguments: object) -> None:
    with pytest.raises(error, match=words):
        run(*arguments)


def test_train_writes_sae_curve_figures_and_card(world: Path, tmp_path: Path) -> None:
    shown = run("train", *source(world), "--hooks", "layers.1", "--out", tmp_path, *SMALL)
    folder = tmp_path / "layers.1"
    assert f"{folder} holds the SAE" in shown
    assert shown.count("unexplained") == 100
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "README.md", "cfg.json", "loss.csv", "sae.safetensors", "training.json",
    }  # fmt: skip
    curve = pd.read_csv(folder / "loss.csv")
    assert curve["tokens"].tolist() == [64 * (i + 1) for i in range(100)]
    assert curve["unexplained"].iloc[-1] < 0.6 * curve["unexplained"].iloc[0]
    facts = json.loads((folder / "training.json").read_text())
    assert facts["fraction_unexplained"] < 0.7
    assert facts["spec"]["latents"] == 48
    assert (facts["hooks"], facts["tokens_seen"]) == (["layers.1"], 6400)
    card = (folder / "README.md").read_text()
    assert f"| fraction unexplained | {facts['fraction_unexplained']:.4g} |" in card
    assert load_sae(folder, decoder=True).hook == "layers.1"
    refused(RunError, "already holds a trained SAE", "train", *source(world), "--hooks", "layers.1", "--out", tmp_path)
    # Another SAE begins with it, from the layer behind.
    again = run(
        "train", *source(world), "--hooks", "layers.2", "--out", tmp_path, *SMALL, "--init-from", folder, "--on-disk"
    )
    assert again.count("unexplained") == 100
    moved = pd.read_csv(tmp_path / "layers.2" / "loss.csv")
    assert moved["unexplained"].iloc[0] < 0.8 * curve["unexplained"].iloc[0]
    assert not (tmp_path / "layers.2" / "buffer").exists()
    # And evaluate gives the figures of the same layer on any text.
    told = json.loads(run("evaluate", folder, *source(world), "--json"))
    assert told["hook"] == "layers.1"
    assert told["fraction_unexplained"] == pytest.approx(facts["fraction_unexplained"], abs=0.2)
    assert told["cross_entropy_recovered"] is None  # the tiny model has no head
    table = run("evaluate", folder, *source(world))
    assert "fraction unexplained" in table
    assert "never" in table


def test_group_of_layers_and_random_weights(world: Path, tmp_path: Path) -> None:
    hooks = "layers.0, layers.1"
    chosen = [
        *SMALL,
        "--kind",
        "batchtopk",
        "--random-weights",
        "--seed",
        1,
    ]  # the tiny model's own weights are of seed 0
    run("train", *source(world), "--hooks", hooks, "--out", tmp_path, *chosen)
    folder = tmp_path / "layers.0_layers.1"
    facts = json.loads((folder / "training.json").read_text())
    assert facts["hooks"] == ["layers.0", "layers.1"]
    assert "random weights, seed 1" in facts["model"]
    (place,) = tmp_path.glob("random-weights-1-*")
    control = load_file(place / "model.safetensors")
    trained = load_file(world / "llm" / "model.safetensors")
    assert not torch.equal(control["embed_tokens.weight"], trained["embed_tokens.weight"])
    assert load_sae(folder).activation == "jumprelu"
    # The SAE names the control as its model, and another model's control is another.
    assert json.loads((folder / "cfg.json").read_text())["metadata"]["model_name"] == str(place)
    shutil.copytree(world / "llm", tmp_path / "other")
    short = ["--tokens", 64, "--batch", 64, "--random-weights", "--seed", 1, "--latents", 48, "-k", 4]
    run("train", "--model", tmp_path / "other", *source(world)[2:], "--hooks", "layers.2", "--out", tmp_path, *short)
    assert len([*tmp_path.glob("random-weights-1-*")]) == 2


def test_a_finished_run_tidies_what_a_kill_left(world: Path, tmp_path: Path) -> None:
    arguments = ["train", *source(world), "--hooks", "layers.1", "--out", tmp_path, *SMALL, "--held-out", 0]
    run(*arguments)
    folder = tmp_path / "layers.1"
    assert json.loads((folder / "training.json").read_text())["held_out_tokens"] == 0
    (folder / "buffer").mkdir()
    for name in ("checkpoint.safetensors", "buffer/part"):
        (folder / name).write_bytes(b"left")
    refused(RunError, "already holds a trained SAE", *arguments)
    assert not (folder / "checkpoint.safetensors").exists()
    assert not (folder / "buffer").exists()


def test_groups_lists_and_chooses(world: Path) -> None:
    found = json.loads(run("groups", *source(world), "--json"))
    assert [row["groups"] for row in found["groupings"]] == [1, 2, 3]
    assert found["hooks"] == ["layers.0", "layers.1", "layers.2"]
    chosen = json.loads(run("groups", *source(world), "--groups", 2, "--json"))["groupings"]
    assert chosen == [found["groupings"][1]]
    assert "layers.0..2" in run("groups", *source(world))
    refused(ConfigError, "3 layers do not make 4 groups", "groups", *source(world), "--groups", 4)


def test_mistakes_are_named_errors(world: Path, tmp_path: Path) -> None:
    train = ["train", "--model", world / "llm", "--out", tmp_path, *SMALL]
    text = ["--text", world / "filings.csv"]
    refused(WeightsError, r"no module 'layers\.9'", *train, *text, "--hooks", "layers.9")
    refused(WeightsError, r"no module 'layers\.x'", *train, *text, "--hooks", "layers.x,layers.1")
    refused(ConfigError, "no hook is given", *train, *text, "--hooks", " ")
    refused(DataError, "no text at", *train, "--text", tmp_path / "none.parquet", "--hooks", "layers.1")
    refused(DataError, "has no column 'body'", *train, *text, "--column", "body", "--hooks", "layers.1")
    refused(DataError, "fill no batch of 4,096", *train, *text, "--hooks", "layers.1", "--batch", 4096)
    refused(ConfigError, "choose topk, batchtopk or jumprelu", *train, *text, "--kind", "gated")
    refused(ConfigError, "TensorBoard is not installed", *train, *text, "--hooks", "layers.1", "--tensorboard")
    refused(ConfigError, "does not say what it reads", "evaluate", world / "sae", *text)
    for words, options in (
        ("device is 'banana': choose cpu, cuda or mps", ["--device", "banana"]),
        ("torch finds no such device here", ["--device", "mps" if torch.cuda.is_available() else "cuda"]),
        ("dtype is 'fp16': choose float32, bfloat16 or float16", ["--dtype", "fp16"]),
    ):
        refused(ConfigError, words, *train, *text, "--hooks", "layers.1", *options)
        refused(ConfigError, words, "groups", *source(world), *options)
        refused(ConfigError, words, "evaluate", world / "sae", *source(world), "--hook", "layers.1", *options)
        refused(ConfigError, words, "verify", world / "sae", "--model", world / "llm", "--hook", "layers.1", *options)
    refused(ConfigError, "dtype is 'fp16'", *train, *text, "--save-dtype", "fp16")
    refused(ConfigError, "all of them", *train, *text, "--held-out", 1)
    assert not [*tmp_path.iterdir()] or not (tmp_path / "layers.1" / "training.json").exists()


def test_what_accelerate_is_configured_for_changes_nothing(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("plain", "configured"):
        run("train", *source(world), "--hooks", "layers.1", "--out", tmp_path / name, *SMALL, "--tokens", 640)
        found.append(load_file(tmp_path / name / "layers.1" / "sae.safetensors"))
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_progress_knows_the_time_left_of_a_long_run() -> None:
    now = 0.0
    bars = cli_sae_training._progress()
    bars.get_time = lambda: now
    task = bars.add_task("SAE", total=100)
    for done in range(1, 11):
        now = 40.0 * done  # a record every 40 seconds
        bars.update(task, completed=done)
    assert bars.tasks[0].time_remaining == pytest.approx(3600, rel=0.15)


@pytest.mark.slow
def test_killed_training_continues_the_same_curve(world: Path, tmp_path: Path) -> None:
    """SIGKILL at an arbitrary moment; the curve afterwards is the curve of a run that was never stopped."""
    options = [*source(world), "--hooks", "layers.1", *SMALL, "--checkpoint-every", 320]

    def start(name: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "companysim",
            "sae",
            "train",
            *map(str, options),
            "--out",
            str(tmp_path / name),
        ]
        surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    whole, stopped = start("whole"), start("stopped")
    curve = tmp_path / "stopped" / "layers.1" / "loss.csv"
    while stopped.poll() is None and not (curve.is_file() and len(curve.read_text().splitlines()) > 30):
        time.sleep(0.005)
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    assert stopped.returncode == -signal.SIGKILL
    assert (curve.parent / "checkpoint.safetensors").is_file()
    assert not (curve.parent / "training.json").exists()
    resumed = start("stopped")
    for process in (resumed, whole):
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
        assert ("going on after" in errors) == (process is resumed)
    found, expected = (pd.read_csv(tmp_path / name / "layers.1" / "loss.csv") for name in ("stopped", "whole"))
    pd.testing.assert_frame_equal(found.drop(columns="seconds"), expected.drop(columns="seconds"), rtol=0, atol=1e-6)
    ours, theirs = (load_file(tmp_path / name / "layers.1" / "sae.safetensors") for name in ("stopped", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
