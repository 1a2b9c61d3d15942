"""Train the bundled sample SAE and write its card.

Usage: ``python pipelines/train_sample_sae.py --corpus ../shared/data --out data/sae``.

The corpus folder holds ``item1_10k.parquet`` (business sections of 10-K filings; columns cik, filing_date, item_1) and
``latent_snippets.parquet`` (short snippets of 10-Ks; column text). No text of it is written anywhere: the card's
example snippets come from the bundled sample's own descriptions.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from companysim.config import EncoderConfig
from companysim.encoding.llm import ResidualStream, Window
from companysim.encoding.sae import load_sae, save_sae
from companysim.encoding.weights import resolve
from companysim.sae_training.activations import StoredActivations, collect_activations
from companysim.sae_training.quality import measure
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.trainer import Record, train
from companysim.universe import FILINGS, bundled, read_table

SAMPLE_SAE = TrainingSpec(latents=4096, k=32, tokens=4_000_000, learning_rate=1e-3)
HELD_OUT_COMPANIES = 30
HELD_OUT_SNIPPETS = 600
SNIPPETS = 12_000
SHOWN_LATENTS = 20


def corpus_windows(stream: ResidualStream, folder: Path, seed: int) -> tuple[list[Window], list[Window]]:
    """Windows to train on and windows of companies held out.

    Each business section gives its first two windows and up to three at random places, so that long filings do not
    drown short ones; the snippets are whole windows of their own.
    """
    rng = np.random.default_rng(seed)
    filings = pd.read_parquet(folder / "item1_10k.parquet").drop_duplicates("item_1").dropna(subset=["cik"])
    filings = filings.assign(cik=filings["cik"].map(str)).sort_values(["cik", "filing_date"])
    held = set(rng.permutation(sorted(filings["cik"].unique()))[:HELD_OUT_COMPANIES])
    size = stream.room
    train: list[Window] = []
    test: list[Window] = []
    for cik, text in zip(filings["cik"], filings["item_1"], strict=True):
        tokens = np.asarray(stream.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        whole = len(tokens) // size
        if whole:
            chosen = {0, 1} | set(rng.choice(whole, size=min(whole, 3), replace=False).tolist())
            pieces = [Window(0, tokens[i * size : (i + 1) * size], i * size, 0) for i in sorted(chosen) if i < whole]
            (test if cik in held else train).extend(pieces)
    snippets = pd.read_parquet(folder / "latent_snippets.parquet")["text"]
    picked = snippets.iloc[rng.choice(len(snippets), size=min(SNIPPETS, len(snippets)), replace=False)].tolist()
    tokenised = [ids for ids, _ in stream.tokenise(picked)]
    test += stream.windows(tokenised[:HELD_OUT_SNIPPETS])
    train += stream.windows(tokenised[HELD_OUT_SNIPPETS:])
    return train, test


def fit(
    stream: ResidualStream, train_windows: list[Window], test_windows: list[Window], spec: TrainingSpec, out: Path
) -> dict[str, Any]:
    """Collect activations, train, write the SAE to `out`, and return the figures of its card."""
    started = time.perf_counter()

    def progress(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            print(f"collecting {done}/{total} batches, {time.perf_counter() - started:.0f} s", flush=True)

    test = collect_activations(stream, test_windows)
    rows = collect_activations(stream, train_windows, report=progress)
    curve: list[tuple[int, float]] = []

    def log(record: Record) -> None:
        curve.append((record.tokens, record.unexplained))
        seconds = time.perf_counter() - started
        print(f"{record.tokens:>10,} tokens  loss {record.unexplained:.4f}  {seconds:.0f} s", flush=True)

    save_sae(train(StoredActivations(rows), spec, report=log), out)
    measured = measure(load_sae(out, decoder=True), test)  # after rounding to float16, as it is shipped
    return {
        "hook": stream.hook,
        "latents": spec.latents,
        "k": spec.k,
        "corpus_tokens": len(rows),
        "tokens_seen": spec.tokens,
        "held_out_tokens": measured.tokens,
        "fraction_unexplained": round(measured.fraction_unexplained, 4),
        "l0": round(measured.l0, 2),
        "dead_share": round(measured.dead_share, 4),
        "seconds": round(time.perf_counter() - started),
        "seed": spec.seed,
        "loss_curve": [[seen, round(loss, 4)] for seen, loss in curve[:: max(1, len(curve) // 25)]],
    }


def example_snippets(path: Path, model: str, hook: str, seed: int) -> list[tuple[int, float, str]]:
    """For random latents: activation and surroundings of the strongest token in the bundled sample."""
    sae = load_sae(path)
    stream = ResidualStream(model, hook, window=512)
    texts = read_table(bundled("sample/filings.parquet"), FILINGS).sort_values("ticker")["text"].tolist()
    best = np.zeros(sae.n_latents)
    where: list[np.ndarray | None] = [None] * sae.n_latents
    # No token is left out here, massive activations included: the strongest token is shown whatever it is.
    stream.massive = float("inf")
    for batch in stream.batches(stream.windows([ids for ids, _ in stream.tokenise(texts)])):
        hidden, place, position = stream.activations(batch)
        token, latent, value = (part.numpy() for part in sae.encode(hidden))
        order = np.lexsort((value, latent))
        last = np.append(np.diff(latent[order]) > 0, True) if len(order) else np.zeros(0, dtype=bool)
        for peak in order[last]:
            if value[peak] > best[latent[peak]]:
                row = int(token[peak])
                window = batch[int(place[row])]
                best[latent[peak]] = value[peak]
                where[latent[peak]] = np.concatenate([[int(position[row]) - window.start], window.tokens])
    rows = []
    for latent in sorted(np.random.default_rng(seed).choice(np.flatnonzero(best > 0), SHOWN_LATENTS, replace=False)):
        found = where[latent]
        assert found is not None
        at, tokens = int(found[0]), found[1:]
        before, word, after = (
            stream.tokenizer.decode(tokens[max(0, at - 9) : at]),
            stream.tokenizer.decode(tokens[at : at + 1]),
            stream.tokenizer.decode(tokens[at + 1 : at + 6]),
        )
        rows.append((int(latent), float(best[latent]), f"{before}**{word.strip()}**{after}".strip()))
    return rows


def main(
    corpus: Annotated[Path, typer.Option(help="Folder of the training text.")] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="Where the SAE is written.")] = Path("data/sae"),
    hook: Annotated[str, typer.Option(help="Module whose output is modelled.")] = EncoderConfig().hook,
    latents: int = SAMPLE_SAE.latents,
    k: int = SAMPLE_SAE.k,
    tokens: int = SAMPLE_SAE.tokens,
    dtype: Annotated[str, typer.Option(help="Of the language model while collecting activations.")] = "bfloat16",
    seed: int = 0,
) -> None:
    """Collect activations, train, measure, and write SAE, training log and the figures of the card."""
    model = resolve(EncoderConfig().model, print)
    stream = ResidualStream(model, hook, window=256, overlap=0, batch_tokens=8192, dtype=dtype)
    spec = replace(SAMPLE_SAE, latents=latents, k=k, tokens=tokens, seed=seed)
    facts = {"model": EncoderConfig().model, **fit(stream, *corpus_windows(stream, corpus, seed), spec, out)}
    facts["examples"] = example_snippets(out, model, hook, seed)
    (out / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps({key: facts[key] for key in facts if key not in ("loss_curve", "examples")}))


if __name__ == "__main__":
    torch.manual_seed(0)
    typer.run(main)
