"""Make the control of the sample run: a language model of random weights and an SAE trained on it.

Usage: ``python pipelines/random_control.py``, then ``companysim run pipelines/random_control.yaml``.

Model and SAE are made as those of the sample are, but for the weights: same architecture, tokenizer, hook and recipe,
and the same texts where the corpus folder of train_sample_sae.py is present; elsewhere the bundled sample's own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from train_sample_sae import HELD_OUT_COMPANIES, SAMPLE_SAE, corpus_windows, fit

from companysim.config import EncoderConfig
from companysim.encoding.llm import ResidualStream, Window
from companysim.encoding.random_weights import random_weights
from companysim.encoding.weights import resolve
from companysim.universe import FILINGS, bundled, read_table
from companysim.workspace import write_text

CONFIG = Path(__file__).with_suffix(".yaml")


def sample_windows(stream: ResidualStream, seed: int) -> tuple[list[Window], list[Window]]:
    """Windows of the bundled descriptions to train on, and those of companies held out."""
    filings = read_table(bundled("sample/filings.parquet"), FILINGS).sort_values("ticker")
    companies = sorted(filings["ticker"].unique())
    held = np.random.default_rng(seed).permutation(companies)[:HELD_OUT_COMPANIES]

    def windows(texts: list[str]) -> list[Window]:
        return stream.windows([ids for ids, _ in stream.tokenise(texts)])

    apart = filings["ticker"].isin(held)
    return windows(filings.loc[~apart, "text"].tolist()), windows(filings.loc[apart, "text"].tolist())


def main(
    corpus: Annotated[Path, typer.Option(help="Folder of the training text, if any.")] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="Where model and SAE are written.")] = Path("runs/random_control"),
    model: Annotated[str, typer.Option(help="Model whose shape and tokenizer are used.")] = EncoderConfig().model,
    hook: Annotated[str, typer.Option(help="Module whose output is modelled.")] = EncoderConfig().hook,
    latents: int = SAMPLE_SAE.latents,
    k: int = SAMPLE_SAE.k,
    tokens: Annotated[int, typer.Option(help="Activations seen in training.")] = SAMPLE_SAE.tokens,
    dtype: Annotated[str, typer.Option(help="Of the language model while collecting activations.")] = "bfloat16",
    seed: int = 0,
) -> None:
    """Draw the weights, train an SAE on their activations, and write both with the training log."""
    control = out / f"model-{seed}"
    if not control.exists():  # one that a stopped run left is whole: it is put there in one move
        random_weights(resolve(model, print), control, seed)
    stream = ResidualStream(str(control), hook, window=256, overlap=0, batch_tokens=8192, dtype=dtype)
    present = (corpus / "item1_10k.parquet").exists()
    windows = corpus_windows(stream, corpus, seed) if present else sample_windows(stream, seed)
    spec = replace(SAMPLE_SAE, latents=latents, k=k, tokens=tokens, seed=seed)
    facts = {
        "model": f"{model} with random weights, seed {seed}",
        "corpus": "as the sample SAE" if present else "the bundled sample's descriptions",
        **fit(stream, *windows, spec, out / "sae"),
    }
    write_text(out / "training.json", json.dumps(facts, indent=1) + "\n")
    print(json.dumps({key: facts[key] for key in facts if key != "loss_curve"}))
    print(f"run the sample with it: companysim run {CONFIG}, whose encoder is {control} with {out / 'sae'} by default")


if __name__ == "__main__":
    typer.run(main)
