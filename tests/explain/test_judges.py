from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from companysim.encoding.pooling import Pooled
from companysim.errors import ConfigError, DataError
from companysim.explain.corpus import Corpus
from companysim.explain.judges import TOKENS, by_model, by_terms, halves, judged, passages
from companysim.explain.scores import Example, score
from companysim.similarity import Cosine

OIL, BANK = 1, 2
FILLER = "the company has been doing what it does for many years and will go on doing it as well as ever it can".split()


def corpus(count: int = 24, order: np.ndarray | None = None) -> Corpus:
    """Companies of 70 words, a token each. Latent 0 fires in all on word 3, latent 1 on "oil" in the even ones at word
    40, latent 2 on "bank" in every third at word 69, latent 3 in none.
    """
    rows = np.arange(count) if order is None else order
    texts, entries, starts = [], [], []
    for row in rows:
        words = (FILLER * 4)[:70]
        fires = [(0, 3, 1.0 + row)]
        for latent, place, word, every in ((OIL, 40, "oil", 2), (BANK, 69, "bank", 3)):
            if row % every == 0:
                words[place] = word
                fires.append((latent, place, 1.0 + row))
        tokens = [words[0], *(f" {word}" for word in words[1:])]
        texts.append("".join(tokens))
        starts.append(np.cumsum([0, *map(len, tokens)]).astype(np.int32))
        entries.append(fires)
    flat = [entry for fires in entries for entry in fires]
    peak = np.array([value for _, _, value in flat], dtype=np.float32)
    pooled = Pooled(
        indptr=np.cumsum([0, *map(len, entries)]),
        latent=np.array([latent for latent, _, _ in flat], dtype=np.int32),
        total=peak,
        peak=peak,
        count=np.ones(len(flat), dtype=np.int32),
        token=np.array([token for _, token, _ in flat], dtype=np.int32),
        tokens=np.full(len(rows), 70),
        n_latents=4,
    )
    companies = pd.DataFrame({"ticker": [f"T{row:02d}" for row in rows], "text": texts})
    return Corpus(companies, pooled, starts, pd.DataFrame(), sp.csr_array(pooled.matrix()), Cosine())


def test_passages_of_both_kinds_each_of_another_company() -> None:
    own = corpus()
    found = passages(own, range(24))
    assert set(found) == {OIL, BANK}  # latent 0 fires everywhere, latent 3 nowhere
    yes, no = found[BANK][:8], found[BANK][8:]
    assert [one.activating for one in found[BANK]] == [True] * 8 + [False] * 8
    assert all(one.marked().endswith("<< bank>>") for one in yes)  # word 69 is the last of the third run of 32
    assert {len(one.str_tokens) for one in yes} == {70 - 2 * TOKENS}
    assert not any("bank" in one.text or any(one.activations) for one in no)
    assert {one.distance for one in no} == {-1.0}
    values = {max(one.activations): one.distance for one in yes}
    assert [values[value] for value in sorted(values, reverse=True)] == [10 * place // 8 for place in range(8)]
    oil = found[OIL][:12]
    assert all(" oil" in one.str_tokens and one.text.startswith(" ") for one in oil)
    assert {one.str_tokens.index(" oil") for one in oil} == {40 - TOKENS}


def test_only_the_companies_asked_for_and_at_most_the_limit() -> None:
    own = corpus()
    found = passages(own, [0, 1, 2, 3, 4], latents=[OIL])[OIL]
    assert [one.activating for one in found] == [True, True, False, False]
    texts = [own.companies["text"].iloc[row] for row in range(5)]
    assert all(any(one.text in text for text in texts) for one in found)
    assert len(passages(own, range(24), limit=3)[OIL]) == 6


def test_draws_go_by_ticker_whatever_the_order() -> None:
    order = np.random.default_rng(0).permutation(24)
    one, two = passages(corpus(), range(24), limit=4), passages(corpus(order=order), range(24), limit=4)
    as_set = {latent: {str(example) for example in examples} for latent, examples in one.items()}
    assert as_set == {latent: {str(example) for example in examples} for latent, examples in two.items()}
    assert passages(corpus(), range(24), limit=4, seed=1) != one


def test_terms_judge_the_passage_or_its_marked_words() -> None:
    one = Example((" river", " bank", "s", " lend", "ing"), (0.0, 1.0, 0.0, 0.0, 0.0), 0.0, True)
    assert by_terms("lend, money", one, "detection")
    assert not by_terms("lend, money", one, "fuzzing")
    assert by_terms("banks", one, "fuzzing")  # the marked token is part of the word
    assert not by_terms("river", one, "fuzzing")  # the word before the mark is not
    assert not by_terms("", one, "detection")


def test_a_right_label_scores_high_and_a_wrong_one_does_not() -> None:
    own = corpus()
    for kind in ("detection", "fuzzing"):
        found = passages(own, range(24), kind)
        table = score({latent: judged("oil", examples, kind) for latent, examples in found.items()}).table
        # "oil" is in none of the passages in which the bank's latent fires, so that label says no to all of them.
        assert table.set_index("latent").loc[OIL, "balanced_accuracy"] == 1
        assert table.set_index("latent").loc[BANK, "sensitivity"] == 0


def test_fuzzing_marks_a_token_at_random_where_the_latent_is_silent() -> None:
    found = passages(corpus(60), range(60), "fuzzing")[OIL][20:]
    assert not any(one.activating for one in found)
    assert {len(one.marks()) for one in found} == {1}
    assert len({one.marks()[0] for one in found}) > 5


def test_no_label_predicts_nothing() -> None:
    found = passages(corpus(), range(24))[OIL]
    assert [one.prediction for one in judged("", found, "detection")] == [False] * 24
    assert score({OIL: judged("", found, "detection")}).table["balanced_accuracy"].tolist() == [0.5]
    assert [one.prediction for one in judged("", found[:1], "fuzzing", by_model(lambda prompt: "1"))] == [False]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("1", True),
        ("0.", False),
        ("Yes, it is.", True),
        ("I say: NO", False),
        ("perhaps", None),
        ("", None),
        ("10", None),
    ],
)
def test_a_models_answer_is_read(answer: str, said: bool | None) -> None:
    asked = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return answer

    one = Example((" oil", " well"), (1.0, 0.0), 0.0, True)
    assert [e.prediction for e in judged("oil wells", [one], "fuzzing", by_model(ask))] == [said]
    assert "oil wells" in asked[0]
    assert "<< oil>> well" in asked[0]
    judged("oil wells", [one], "detection", by_model(ask))
    assert "<<" not in asked[1]


def test_halves_by_ticker() -> None:
    tickers = [f"T{i:02d}" for i in range(31)]
    first = halves(tickers)
    assert first.sum() == 16
    back = np.random.default_rng(0).permutation(31)
    assert halves([tickers[i] for i in back]).tolist() == first[back].tolist()
    assert halves(tickers, seed=1).tolist() != first.tolist()


def test_bad_questions_are_refused() -> None:
    own = corpus()
    with pytest.raises(ConfigError, match="kind is 'guessing'"):
        passages(own, range(4), "guessing")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="limit is 0"):
        passages(own, range(4), limit=0)
    with pytest.raises(DataError, match="no company to take passages from"):
        passages(own, [])
