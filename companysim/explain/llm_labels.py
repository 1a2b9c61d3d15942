"""Labels written by a language model that is shown the passages in which a latent fires most.

The model is any function from a prompt to an answer: `local_model` runs one here through transformers,
`companysim.explain.endpoint.endpoint` asks a service.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from companysim.encoding.encode import clean
from companysim.errors import WeightsError

Complete = Callable[[str], str]
"""Answers a prompt."""
SHOWN = 8
"""Passages of a prompt."""
LONGEST = 60
"""Characters of a label."""
INSTRUCTION = (
    "Each passage below comes from the description of a company. The words between << and >> are those on which one "
    "feature of a neural network responds. Say in two to six words what the passages have in common. Answer with "
    "these words only."
)


def llm_labels(
    snippets: pd.DataFrame, texts: Mapping[str, str], complete: Complete, latents: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """Have a language model name latents, one after the other.

    Parameters
    ----------
    snippets : DataFrame
        See `companysim.encoding.snippets.TopSnippets.to_frame`.
    texts : mapping of str to str
        Text by filing_id. Snippets of other filings are not shown.
    complete : callable
    latents : sequence of int
        Those to be named; one without a snippet is passed over.

    Yields
    ------
    latent, label : int, str
        As soon as the model has answered; the label is empty if the answer holds no word.
    """
    known = snippets[snippets["filing_id"].isin(texts)].sort_values(["latent", "rank"])
    groups = known.groupby("latent")
    for latent in latents:
        if latent in groups.groups:
            yield latent, parse(complete(prompt(passages(groups.get_group(latent).head(SHOWN), texts))))


def passages(snippets: pd.DataFrame, texts: Mapping[str, str]) -> list[str]:
    """Text of each snippet, the token on which the latent fires most between ``<<`` and ``>>``."""
    shown = []
    for row in snippets.to_dict("records"):
        text = clean(texts[row["filing_id"]])
        start, end, first, last = (int(row[name]) for name in ("start", "end", "peak_start", "peak_end"))
        shown.append(f"{text[start:first]}<<{text[first:last]}>>{text[last:end]}".strip())
    return shown


def prompt(shown: Sequence[str]) -> str:
    """Prompt that asks for the label of a latent with these passages."""
    listed = "\n".join(f"- {passage}" for passage in shown)
    return f"{INSTRUCTION}\n\n{listed}\n\nIn common:"


def parse(answer: str) -> str:
    """Label in a model's answer: its first line with a word, without quotes and bullets, cut at 60 characters."""
    lines = [clean(line) for line in answer.splitlines()]
    line = next((line for line in lines if re.search(r"[^\W\d_]", line)), "")
    line = re.sub(r"^(?:[-*\u2022\d.)\s]+|in common:|label:|answer:)+", "", line, flags=re.IGNORECASE)
    line = line.strip(" \"'`*.,:;<>\u201c\u201d")
    if len(line) > LONGEST:
        line = line[:LONGEST].rsplit(" ", 1)[0].rstrip(" ,.;:")
    return line


def local_model(model: str, device: str = "cpu", tokens: int = 24) -> Complete:
    """Return a function that has a causal language model of this machine answer a prompt, always the same way.

    Parameters
    ----------
    model : str
        A default model (``smollm2-135m``), a local directory or a hub id. No code of the model is run.
    device : str
    tokens : int
        Longest answer.

    Raises
    ------
    WeightsError
        If it cannot be loaded or is no causal language model.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from companysim.encoding.llm import quiet
    from companysim.encoding.weights import resolve

    quiet()
    place = resolve(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        network: Any = AutoModelForCausalLM.from_pretrained(place, trust_remote_code=False, dtype=torch.float32)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"cannot load the causal language model {model!r} ({reason}): give a local directory or a hub id"
        ) from error
    network = network.to(device).eval()

    def complete(prompt: str) -> str:
        told: Any = prompt
        if tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}]
            told = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        # A chat template writes the special tokens itself.
        read = tokenizer(told, return_tensors="pt", add_special_tokens=not tokenizer.chat_template).to(device)
        read.pop("token_type_ids", None)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        with torch.inference_mode():
            written = network.generate(**read, max_new_tokens=tokens, do_sample=False, pad_token_id=pad)
        return str(tokenizer.decode(written[0, read["input_ids"].shape[1] :], skip_special_tokens=True))

    return complete
