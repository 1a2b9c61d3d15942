"""Encoding filings: transformers and eai-sparsify as their READMEs show it, against companysim, side by side.

Both sides run in this process, in turn, on the same documents and the same weights, and give the same thing: one vector
of summed latents a document. Theirs is what a user writes today, one window at a time::

    outputs = AutoModelForCausalLM.from_pretrained(...)(window, output_hidden_states=True)
    found = SparseCoder.load_from_disk(...).encode(outputs.hidden_states[i + 1])

Ours is `companysim.encoding.encode.encode`. Both cut texts into the same overlapping windows with a start token before
each, and both leave the start token, repeated context and massive activations out of the sum.

Cases: ``smollm2`` (default weights and SAE, the bundled sample, real long filings where they are at hand),
``llama-width`` (a small random Llama at the published SAE's size, 131,072 latents of width 4,096) and ``gpu``
(Llama-3-8B's shape and that SAE, random, bfloat16; with FLOPs as a share of the card's matrix product and the hours for
the published 27,888 filings). ``--tiny`` runs any case on a toy shape. The last line is one JSON object.

`ratio` is that of medians by the clock; `ratio_processor_time` is less disturbed by what else a shared machine does.

Memory is the peak of what tensors take beyond what is loaded, on the longest document: on the CPU the running sum over
the allocations that torch's profiler records, on CUDA the allocator's own peak. `memory_ratio` is at the same windows;
`memory_ratio_whole_text` lets theirs take the text in one pass up to the model's context, as sparsify's README does.

`flips` counts the tokens at which rounding exchanged the latent in the k-th place for the next one. `max_difference` is
the norm of the difference over the norm of a document's vector, without the latents so exchanged;
`max_difference_with_flips` counts them too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from sparsify import SparseCoder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from companysim.encoding.encode import clean, encode
from companysim.encoding.llm import ResidualStream, split
from companysim.encoding.sae import load_sae
from companysim.encoding.weights import SMOLLM2, ensure
from companysim.universe import bundled

MASSIVE = 5.0
CONTEXT = 8192  # tokens, of Llama-3 and of SmolLM2
ITEM1 = Path(__file__).resolve().parents[2] / "shared/data/item1_10k.parquet"
FILINGS, TOKENS_A_FILING = 27_888, 10_000


@dataclass(frozen=True)
class Case:
    """What is run. `shape` is that of a random Llama, empty for the default weights; `latents` that of its SAE."""

    hook: int
    shape: dict[str, Any] = field(default_factory=dict)
    latents: int = 0
    k: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    window: int = 512
    overlap: int = 64
    batch_tokens: int = 2048
    latent_budget_mb: int = 64
    documents: int = 60
    length: int = 0
    repetitions: int = 3


# 192 latents a token is what sparsify's README trains with.
CASES = {
    "smollm2": Case(hook=26),
    "llama-width": Case(
        hook=6,
        shape={"hidden_size": 4096, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 32,
               "num_key_value_heads": 8, "vocab_size": 32_000},
        latents=131_072, k=192, batch_tokens=512, documents=1, length=1500,
    ),
    "gpu": Case(
        hook=30,
        shape={"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
               "num_key_value_heads": 8, "vocab_size": 128_256},
        latents=131_072, k=192, device="cuda", dtype="bfloat16", window=2048, batch_tokens=8192, latent_budget_mb=256,
        documents=48, length=TOKENS_A_FILING,
    ),
}  # fmt: skip
TINY: dict[str, Any] = {
    "hook": 2,
    "shape": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
              "num_key_value_heads": 2, "vocab_size": 300},
    "latents": 256, "k": 8, "window": 128, "overlap": 16, "documents": 4, "length": 300, "repetitions": 1,
}  # fmt: skip


class Vectors(NamedTuple):
    """Summed latents and tokens on which each fires, documents x latents; tokens counted in each document."""

    total: np.ndarray
    count: np.ndarray
    tokens: np.ndarray


class Theirs:
    """AutoModelForCausalLM and SparseCoder, one window at a time."""

    def __init__(self, case: Case, model: Path, sae: Path) -> None:
        self.case, self.window = case, case.window
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, case.dtype))
        self.model = self.model.eval().to(case.device)
        # The decoder is not asked for. The file's dtype is kept, so a cast is needed for the bundled SAE in float16.
        self.sae = SparseCoder.load_from_disk(sae, device=case.device, decoder=False).to(getattr(torch, case.dtype))

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Encode and pool."""
        rows = [self._document(text) for text in texts]
        return Vectors(*(np.stack(parts) for parts in zip(*rows, strict=True)))

    @torch.inference_mode()
    def _document(self, text: str) -> tuple[np.ndarray, np.ndarray, int]:
        ids = self.tokenizer(clean(text), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        total = torch.zeros(self.sae.num_latents, dtype=torch.float64, device=self.case.device)
        count, tokens = torch.zeros_like(total), 0
        for start, stop, skip in split(len(ids), self.window - 1, self.case.overlap):
            window = torch.tensor([[self.tokenizer.bos_token_id, *ids[start:stop]]], device=self.case.device)
            outputs = self.model(window, output_hidden_states=True)
            hidden = outputs.hidden_states[self.case.hook + 1].flatten(0, 1)[1 + skip :]
            norms = hidden.float().norm(dim=1)
            hidden = hidden[norms <= MASSIVE * norms.median()]
            found = self.sae.encode(hidden)
            values, latents = found.top_acts.flatten().double(), found.top_indices.flatten()
            total.index_add_(0, latents, values)
            count.index_add_(0, latents, (values > 0).double())
            tokens += len(hidden)
        return total.cpu().numpy(), count.cpu().numpy(), tokens


class Ours:
    """`companysim.encoding.encode.encode`."""

    def __init__(self, case: Case, model: Path, sae: Path) -> None:
        self.budget = case.latent_budget_mb * 2**20
        self.sae = load_sae(sae, device=case.device, dtype=case.dtype)
        self.stream = ResidualStream(
            str(model),
            f"layers.{case.hook}",
            window=case.window,
            overlap=case.overlap,
            batch_tokens=case.batch_tokens,
            device=case.device,
            dtype=case.dtype,
            massive=MASSIVE,
        )

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Encode and pool."""
        encoded = encode(self.stream, self.sae, texts, latent_budget=self.budget)
        if encoded.failures:
            raise SystemExit(f"companysim could not encode a document: {next(iter(encoded.failures.values()))}")
        pooled = encoded.pooled
        return Vectors(pooled.matrix("sum").toarray(), pooled.matrix("count").toarray(), pooled.tokens)


def made_model(case: Case, folder: Path) -> None:
    """Write a random Llama of the case's shape, with a tokenizer of one token a byte."""
    symbols = ["<s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bare = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(**case.shape, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0)
    torch.set_default_dtype(getattr(torch, case.dtype))
    try:
        with torch.device(case.device):
            LlamaForCausalLM(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)


def made_sae(case: Case, folder: Path) -> None:
    """Write a random TopK SAE in sparsify's layout. The decoder, which neither side reads, is left out."""
    folder.mkdir()
    width, dtype = case.shape["hidden_size"], getattr(torch, case.dtype)
    generator = torch.Generator(case.device).manual_seed(1)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        made = torch.empty(shape, dtype=dtype, device=case.device)
        return made.normal_(0, scale, generator=generator).cpu()

    tensors = {
        "encoder.weight": normal(case.latents, width, scale=width**-0.5),
        "encoder.bias": normal(case.latents, scale=0.01),
        "b_dec": normal(width, scale=0.01),
    }
    save_file(tensors, folder / "sae.safetensors")
    config = {"activation": "topk", "k": case.k, "num_latents": case.latents, "d_in": width, "expansion_factor": 1}
    (folder / "cfg.json").write_text(json.dumps(config))


def texts_of(case: Case, long: int) -> list[str]:
    """Documents: random letters where `length` is set, else descriptions of the sample and real long filings."""
    if case.length:
        letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz    ", dtype=np.uint8)
        rng = np.random.default_rng(0)
        return ["x" + rng.choice(letters, case.length - 2).tobytes().decode() + "x" for _ in range(case.documents)]
    sample = pd.read_parquet(bundled("sample/filings.parquet")).sort_values("filing_id")["text"]
    texts = sample.iloc[np.linspace(0, len(sample) - 1, case.documents).astype(int)].tolist()
    if long and ITEM1.is_file():
        real = pd.read_parquet(ITEM1, columns=["accession", "item_1"])["item_1"]
        typical = (real.str.len() - real.str.len().mean()).abs().sort_values(kind="stable").index[:long]
        texts += real[typical].tolist()
    return texts


class Timing(NamedTuple):
    """Median seconds of one side by the clock and of the processor, and what it returned."""

    seconds: float
    processor: float
    vectors: Vectors


def timed(sides: Sequence[Callable[[Sequence[str]], Vectors]], texts: Sequence[str], repetitions: int) -> list[Timing]:
    """Time the sides in turn, so that what else the machine does falls on both."""
    clock: list[list[float]] = [[] for _ in sides]
    processor: list[list[float]] = [[] for _ in sides]
    for _ in range(repetitions):
        found = []
        for number, side in enumerate(sides):
            started = time.perf_counter(), time.process_time()
            found.append(side(texts))  # ends with the result on the host, so nothing is still under way
            clock[number].append(time.perf_counter() - started[0])
            processor[number].append(time.process_time() - started[1])
    medians = [map(statistics.median, taken) for taken in (clock, processor)]
    return [Timing(*parts) for parts in zip(*medians, found, strict=True)]


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """Largest sum of the tensors alive at once that `work` allocates."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    with tempfile.TemporaryDirectory() as folder:
        profile.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(f"{folder}/trace.json").read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    return max(0, int(np.cumsum([size for _, size in changes]).max(initial=0)))


def compared(theirs: Vectors, ours: Vectors) -> dict[str, float | int]:
    """Largest difference of a document's vectors, norm-wise, and what was exchanged at the k-th place."""
    same = theirs.count == ours.count
    size = np.linalg.norm(theirs.total, axis=1)
    difference = theirs.total - ours.total
    return {
        "max_difference": float((np.linalg.norm(difference * same, axis=1) / size).max()),
        "max_difference_with_flips": float((np.linalg.norm(difference, axis=1) / size).max()),
        "flips": int(np.abs(theirs.count - ours.count).sum() / 2),
        "tokens_left_out_differently": int(np.abs(theirs.tokens - ours.tokens).sum()),
    }


def matmul_rate(device: str, dtype: str, size: int) -> float:
    """FLOP/s of a large square matrix product of random numbers: the rate the device can be asked for."""
    left, right = torch.randn(2, size, size, device=device).to(getattr(torch, dtype))
    rates = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(10):
            product = left @ right
        product[0, 0].item()
        rates.append(10 * 2 * size**3 / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def flops_a_token(case: Case) -> float:
    """Multiply-adds, twice, that one token needs: blocks up to the hook, causal attention, the SAE's encoder."""
    shape = case.shape
    width, blocks = shape["hidden_size"], case.hook + 1
    keys = width * shape["num_key_value_heads"] // shape["num_attention_heads"]
    weights = 2 * width * width + 2 * width * keys + 3 * width * shape["intermediate_size"]
    attention = 2 * width * (case.window / 2)  # scores and their sum over values, half a window back on average
    return 2 * (blocks * (weights + attention) + width * case.latents)


def run(name: str, case: Case, scratch: Path, long: int) -> dict[str, Any]:
    """Build or find the weights, run both sides, and return what the last line says."""
    if case.shape:
        model, sae = scratch / "model", scratch / "sae"
        made_model(case, model)
        made_sae(case, sae)
    else:
        model, sae = ensure(SMOLLM2), bundled("sae")
    texts = texts_of(case, long)
    sides = Theirs(case, model, sae), Ours(case, model, sae)
    print(
        f"{name}: {len(texts)} documents on {case.device} in {case.dtype}, windows of {case.window} tokens, "
        f"{torch.get_num_threads()} threads\n"
        "theirs: every block, the head and all hidden states, one window at a time, then SparseCoder.encode\n"
        f"ours: blocks up to layers.{case.hook}, batches of {case.batch_tokens} tokens, latents in blocks of "
        f"{case.latent_budget_mb} MB",
        flush=True,
    )
    for side in sides:
        side([texts[0][:200]])  # warms up
    theirs, ours = timed(sides, texts, case.repetitions)
    longest = [max(texts, key=len)]
    peaks = [peak_bytes(partial(side, longest), case.device) / 2**20 for side in sides]
    sides[0].window = CONTEXT
    whole = peak_bytes(partial(sides[0], longest), case.device) / 2**20
    tokens = int(ours.vectors.tokens.sum())
    rates = tokens / theirs.seconds, tokens / ours.seconds
    result = {
        "benchmark": "encoding",
        "case": name,
        "ratio": theirs.seconds / ours.seconds,
        "ratio_processor_time": theirs.processor / ours.processor,
        "tokens_per_second_theirs": rates[0],
        "tokens_per_second_ours": rates[1],
        "peak_mb_theirs": peaks[0],
        "peak_mb_ours": peaks[1],
        "memory_ratio": peaks[0] / peaks[1],
        "peak_mb_theirs_whole_text": whole,
        "memory_ratio_whole_text": whole / peaks[1],
        **compared(theirs.vectors, ours.vectors),
        "documents": len(texts),
        "tokens": tokens,
        "threads": torch.get_num_threads(),
    }
    if name == "gpu":
        rate = matmul_rate(case.device, case.dtype, 8192 if case.device == "cuda" else 256)
        result |= {
            "matmul_tflops": rate / 1e12,
            "mfu": rates[1] * flops_a_token(case) / rate,
            "mfu_theirs": rates[0] * flops_a_token(case) / rate,
            "hours": FILINGS * TOKENS_A_FILING / rates[1] / 3600,
        }
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), default="smollm2")
    parser.add_argument("--tiny", action="store_true", help="a toy shape, to see that all of it works")
    parser.add_argument("--device", choices=["cpu", "cuda"])
    for name in ("window", "batch-tokens", "latent-budget-mb", "documents", "length", "repetitions"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--long", type=int, default=2, help="real filings added to the sample's descriptions")
    parser.add_argument("--scratch", type=Path, help="where the random weights go, up to 17 GB; a RAM disk is fast")
    given = parser.parse_args(arguments)
    case = replace(CASES[given.case], **TINY) if given.tiny else CASES[given.case]
    names = ("device", "window", "batch_tokens", "latent_budget_mb", "documents", "length", "repetitions")
    case = replace(case, **{name: value for name in names if (value := getattr(given, name)) is not None})
    if case.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"case {given.case} needs a CUDA device and there is none: try it with --device cpu --tiny")
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        result = run(given.case, case, Path(folder), given.long)
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in result.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
