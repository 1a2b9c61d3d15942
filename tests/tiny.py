"""A world small enough to run the whole pipeline in seconds: 18 companies of three industries, tiny random models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from companysim.encoding.sae import SAE, save_sae

INDUSTRIES = {
    "bank": "takes deposits makes loans branches mortgage credit interest customers fees lending deposits",
    "drill": "drills wells oil gas rigs barrels offshore reserves crude exploration production wells",
    "chip": "designs semiconductor chips wafers memory circuits fabs silicon devices computers circuits",
}
SIC = {"bank": "6021", "drill": "1311", "chip": "3674"}
GICS = {"bank": "40101010", "drill": "10102020", "chip": "45301020"}
PER_INDUSTRY = 6
EXTRA = "global services in the united states and abroad with competition regulation and cost".split()


def build(folder: Path, seed: int = 0) -> Path:
    """Write tables, models and ``config.yaml`` into `folder`; return the configuration's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows, codes = [], []
    for kind, words in INDUSTRIES.items():
        for number in range(PER_INDUSTRY):
            ticker, cik = f"{kind[:2].upper()}{number}", 1000 * (list(INDUSTRIES).index(kind) + 1) + number
            text = " ".join(rng.permutation(words.split() + list(rng.choice(EXTRA, 8))))
            company = f"{kind.title()} {number} Inc."
            rows.append((f"{cik}-2011", cik, ticker, company, 2011, "2012-03-01", text))
            codes.append((ticker, cik, company, SIC[kind], "made up", GICS[kind], "made up"))
    filings = pd.DataFrame(rows, columns=["filing_id", "cik", "ticker", "company", "fiscal_year", "filed", "text"])
    columns = ["ticker", "cik", "company", "sic", "sic_source", "gics", "gics_source"]
    companies = pd.DataFrame(codes, columns=columns)
    filings.to_csv(folder / "filings.csv", index=False)
    companies.to_csv(folder / "companies.csv", index=False)
    made_prices(companies["ticker"].tolist(), rng).to_parquet(folder / "prices.parquet", index=False)
    vocabulary = sorted({word for text in filings["text"] for word in text.split()})
    made_models(folder, vocabulary)
    config = {
        "name": "tiny",
        "universe": {"filings": "filings.csv", "companies": "companies.csv", "prices": "prices.parquet"},
        "encoder": {"model": "llm", "hook": "layers.1", "sae": "sae", "embedding": "bert", "window": 64, "overlap": 8},
        "clustering": {"share_of_pairs": 0.2},
        "benchmark": {"first_year": 2014, "last_year": 2015, "null_draws": 50, "bootstrap_draws": 50},
        "backtest": {"p_value": 0.2, "placebo_books": 20, "placebo_pairs": 60, "trading_end": "2015-12-31"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


def made_prices(tickers: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Nine years of prices; companies of an industry share a random walk and hover around it."""
    days = pd.bdate_range("2007-01-01", "2015-12-31")
    market = np.cumsum(rng.normal(0, 0.006, len(days)))
    columns = []
    for start in range(0, len(tickers), PER_INDUSTRY):
        industry = np.cumsum(rng.normal(0, 0.01, len(days)))
        for _ in range(min(PER_INDUSTRY, len(tickers) - start)):
            noise = np.zeros(len(days))
            shocks = rng.normal(0, 0.012, len(days))
            for day in range(1, len(days)):
                noise[day] = 0.97 * noise[day - 1] + shocks[day]
            columns.append(40 * np.exp(market + industry + noise))
    wide = pd.DataFrame(np.array(columns).T, index=days.rename("date"), columns=tickers)
    return wide.reset_index().melt("date", var_name="ticker", value_name="adj_close")


def made_models(folder: Path, vocabulary: list[str]) -> None:
    """A 3-block Llama, a 1-block Bert and an SAE of 24 latents, all with random weights."""
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=len(vocabulary) + 3, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1,
    )  # fmt: skip
    LlamaModel(llama).save_pretrained(folder / "llm")
    tokenizer(vocabulary, {"bos_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>"}).save_pretrained(
        folder / "llm"
    )
    bert = BertConfig(
        vocab_size=len(vocabulary) + 3, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    BertModel(bert).save_pretrained(folder / "bert")
    special = {"cls_token": "<s>", "sep_token": "<pad>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer(vocabulary, special).save_pretrained(folder / "bert")
    decoder = torch.nn.functional.normalize(torch.randn(24, 32), dim=1)
    zero = torch.zeros(32)
    sae = SAE(decoder.clone(), torch.zeros(24), k=4, shift=zero, decoder=decoder, b_dec=zero)
    save_sae(sae, folder / "sae", dtype="float32")


def tokenizer(vocabulary: list[str], special: dict[str, str]) -> PreTrainedTokenizerFast:
    """One token a word."""
    words = {word: i for i, word in enumerate(["<unk>", "<s>", "<pad>", *vocabulary])}
    bare = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=bare, **special)
