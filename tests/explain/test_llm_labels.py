"""Labels by a language model: what it is shown, what is made of its answer, and a real tiny model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from companysim.errors import WeightsError
from companysim.explain.llm_labels import LONGEST, SHOWN, llm_labels, local_model, parse, passages, prompt
from tests.tiny import tokenizer

TEXT = "It drills  wells in the Gulf and sells oil."
WORDS = "oil gas bank wells drills".split()
SNIPPETS = pd.DataFrame(
    [(latent, rank, filing, 9.0 - rank, 0, 25, 3, 9) for latent in (4, 2) for rank, filing in ((2, "b"), (1, "a"))],
    columns=["latent", "rank", "filing_id", "value", "start", "end", "peak_start", "peak_end"],
)


def test_passages_mark_the_token_in_the_cleaned_text() -> None:
    assert passages(SNIPPETS.head(1), {"b": TEXT}) == ["It <<drills>> wells in the Gu"]


def test_the_model_is_shown_the_strongest_passages_and_asked_latent_by_latent() -> None:
    many = pd.concat([SNIPPETS.assign(rank=SNIPPETS["rank"] + shift) for shift in range(0, 20, 2)])
    asked: list[str] = []

    def complete(question: str) -> str:
        asked.append(question)
        return f' "Oil drilling {len(asked)}."\nBecause of the wells.'

    texts = {"a": TEXT, "b": "We drill holes in the ground for others."}
    named = list(llm_labels(many.sample(frac=1, random_state=0), texts, complete, [2, 99, 4]))
    assert named == [(2, "Oil drilling 1"), (4, "Oil drilling 2")]  # 99 has no passage
    assert asked[0].count("<<") == SHOWN + 1  # the instruction names the marks
    assert asked[0] == prompt(passages(many[many["latent"] == 2].sort_values("rank").head(SHOWN), texts))
    only = list(llm_labels(many, {"a": TEXT}, complete, [2]))
    assert only
    assert "holes" not in asked[-1]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Oil drilling", "Oil drilling"),
        ('\n\n  "Oil drilling."\nSecond line', "Oil drilling"),
        ("Label: **Oil drilling**", "Oil drilling"),
        ("1. Oil drilling", "Oil drilling"),
        ("- In common: `oil`", "oil"),
        ("", ""),
        ("...\n--\n123", ""),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("a" * 200, "a" * LONGEST),
        ("word " * 40, " ".join(["word"] * 12)),
    ],
)
def test_a_label_is_the_first_line_with_a_word(answer: str, label: str) -> None:
    found = parse(answer)
    assert found == label
    assert len(found) <= LONGEST
    assert found.isprintable()


def test_a_stopped_model_leaves_what_it_named() -> None:
    def complete(question: str) -> str:
        if done:
            raise KeyboardInterrupt
        return "oil"

    done: list[tuple[int, str]] = []
    named = llm_labels(SNIPPETS, {"a": TEXT, "b": TEXT}, complete, [2, 4])
    done.append(next(named))
    with pytest.raises(KeyboardInterrupt):
        next(named)
    assert done == [(2, "oil")]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causal")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS) + 3, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    special = {"bos_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<pad>"}
    tokenizer(WORDS, special).save_pretrained(folder)
    return folder


def test_a_local_model_answers_greedily(causal: Path) -> None:
    complete = local_model(str(causal), tokens=1)
    network = LlamaForCausalLM.from_pretrained(causal).eval()
    for question in ([3, 4, 6], [5], [7, 7, 3, 4]):
        with torch.inference_mode():
            best = int(network(torch.tensor([question])).logits[0, -1].argmax())
        expected = WORDS[best - 3] if best > 2 else ""  # special tokens are not written
        assert complete(" ".join(WORDS[token - 3] for token in question)) == expected


def test_a_chat_model_is_asked_through_its_template(causal: Path, tmp_path: Path) -> None:
    chat = tmp_path / "chat"
    shutil.copytree(causal, chat)
    (chat / "chat_template.jinja").write_text("{% for m in messages %}gas {{ m['content'] }} bank{% endfor %}")
    plain, templated = local_model(str(causal), tokens=4), local_model(str(chat), tokens=4)
    assert templated("oil") == plain("gas oil bank")
    assert templated("oil wells") == plain("gas oil wells bank")


def test_what_is_no_causal_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot load the causal language model .*nowhere.*give a local directory"):
        local_model(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="cannot load the causal language model"):
        local_model(str(tmp_path))
