"""Labels by terms: what stands where a latent fires and is rare elsewhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from companysim.explain.labels import DECAY, REACH, label_table, mentions, shown, term_labels
from tests.explain.made import corpus

FILLER = "the company sells many goods to customers in several states every year through its own people".split()


def made(rng: np.random.Generator, documents: int = 30) -> tuple[dict[str, str], pd.DataFrame]:
    """Latent 0 fires on "rigs", latent 1 on the word after "prime", latent 2 on "the", latent 3 anywhere."""
    texts, rows = {}, []
    for number in range(documents):
        words = [str(word) for word in rng.choice(FILLER, 40)]
        words[10], words[20], words[30] = "rigs", "prime", "the"
        text, name = " ".join(words), f"f{number:02d}"
        texts[name] = text
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        for latent, place in ((0, 10), (1, 21), (2, 30), (3, int(rng.integers(40)))):
            rows.append((latent, name, 100.0 - number, starts[place + 1] - 1))
    return texts, pd.DataFrame(rows, columns=["latent", "filing_id", "value", "peak_end"])


def test_a_latent_is_named_by_the_word_it_fires_on_and_by_what_stands_beside_it(rng: np.random.Generator) -> None:
    texts, snippets = made(rng)
    names = term_labels(snippets, texts, 5, count=1)
    assert names[:3] == ["rigs", "prime", "the"]
    assert names[4] == ""  # it has no snippet


def test_the_score_is_the_words_part_of_the_divergence(rng: np.random.Generator) -> None:
    """Recomputed word by word, without arrays."""
    texts, snippets = made(rng, 12)
    corpus_words = [word for text in texts.values() for word in text.split()]
    usual = {word: corpus_words.count(word) / len(corpus_words) for word in set(corpus_words)}
    stop = {"the", "many", "to", "in", "several", "every", "through", "its", "own", "people"} - {"people"}
    for latent in range(4):
        weight: dict[str, float] = {}
        total, seen = 0.0, {}
        own = snippets[snippets["latent"] == latent]
        for row in own.itertuples():
            text = texts[row.filing_id]
            words = text.split()
            ends = np.cumsum([len(word) + 1 for word in words]) - 1
            firing = int(np.flatnonzero(ends == row.peak_end)[0])
            for offset in range(-REACH, REACH + 1):
                value = row.value / own["value"].max() * DECAY ** abs(offset)
                total += value
                if 0 <= firing + offset < len(words):
                    word = words[firing + offset]
                    if word in stop and offset:
                        continue
                    weight[word] = weight.get(word, 0) + value
                    seen.setdefault(word, set()).add(row.filing_id)
        score = {
            word: value * np.log(value / (total * usual[word])) for word, value in weight.items() if len(seen[word]) > 1
        }
        best = max(score, key=lambda word: score[word])
        expected = best if score[best] > 0 else ""
        assert term_labels(snippets, texts, 4, count=1)[latent] == expected


def test_labels_do_not_depend_on_the_order_of_rows(rng: np.random.Generator) -> None:
    texts, snippets = made(rng)
    again = term_labels(snippets.sample(frac=1, random_state=3), dict(reversed(texts.items())), 4)
    assert again == term_labels(snippets, texts, 4)


def test_a_word_of_one_snippet_names_nothing() -> None:
    filler = " ".join(f"word{chr(97 + i)}" for i in range(26)) * 20
    texts = {"a": "zebra", "b": "rigs", "rest": filler}
    snippets = pd.DataFrame([(0, "a", 9.0, 5), (0, "b", 8.0, 4)], columns=["latent", "filing_id", "value", "peak_end"])
    assert term_labels(snippets, texts, 1) == [""]
    assert term_labels(snippets, texts | {"b": "zebra"}, 1) == ["zebra"]
    assert term_labels(snippets, {"a": "zebra", "b": "zebra"}, 1) == [""]  # all there is: no more often than usual


def test_a_rare_word_beside_the_firing_one_names_a_latent_before_a_usual_one_on_which_it_fires() -> None:
    """The usual word weighs more (1 against 0.8) but says less."""
    rare = "filler " * 94 + "often quinoa " + "filler often " * 2
    texts = {name: f"{rare} {rare}" for name in ("a", "b")}
    end = rare.index("often quinoa") + len("often")
    snippets = pd.DataFrame(
        [(0, name, 5.0, end) for name in texts], columns=["latent", "filing_id", "value", "peak_end"]
    )
    assert term_labels(snippets, texts, 1, count=1) == ["quinoa"]


def test_terms_that_begin_alike_are_not_repeated() -> None:
    texts = {name: "bank banks banking loans other words here and there" for name in "abc"}
    snippets = pd.DataFrame(
        [(0, name, 5.0, 10) for name in texts], columns=["latent", "filing_id", "value", "peak_end"]
    )
    label = term_labels(snippets, texts, 1)[0].split(", ")
    assert sum(term.startswith("bank") for term in label) == 1


def test_snippets_of_unknown_filings_and_empty_texts_are_passed_over() -> None:
    snippets = pd.DataFrame([(0, "z", 5.0, 1)], columns=["latent", "filing_id", "value", "peak_end"])
    assert term_labels(snippets, {"a": "words only here"}, 2) == ["", ""]
    assert term_labels(snippets, {"a": "..."}, 2) == ["", ""]


def test_the_table_says_how_labels_were_made_and_counts_documents(rng: np.random.Generator) -> None:
    texts, snippets = made(rng)
    pooled = corpus(np.array([[1.0, 0, 2, 0], [1, 0, 0, 0]])).pooled
    snippets["start"] = (snippets["peak_end"] - 40).clip(lower=0)
    snippets["end"] = snippets["peak_end"] + 40
    table = label_table(snippets, texts, pooled)
    assert table.columns.tolist() == ["latent", "label", "method", "support", "documents"]
    assert table["documents"].tolist() == [2, 0, 1, 0]
    assert set(table["method"]) == {"terms"}
    for latent in (0, 1, 2):
        label, own = table["label"].iloc[latent], snippets[snippets["latent"] == latent]
        told = [mentions(label, texts[row.filing_id][row.start : row.end]) for row in own.itertuples()]
        assert table["support"].iloc[latent] == pytest.approx(np.mean(told))
    assert table["support"].iloc[0] == 1
    assert table["support"].isna().tolist() == (table["label"] == "").tolist()
    assert table["label"].iloc[0].split(", ")[0] == "rigs"


@pytest.mark.parametrize(
    ("label", "support", "text"),
    [
        ("oil", 0.5, "oil"),
        ("oil", 0.49, "oil (?)"),
        ("oil", float("nan"), "oil"),  # of a model, which promises no words
        ("", float("nan"), "(no label)"),
    ],
)
def test_a_doubtful_label_has_a_question_mark(label: str, support: float, text: str) -> None:
    assert shown(label, support) == text


@pytest.mark.parametrize(
    ("label", "text", "found"),
    [
        ("oil, gas", "Natural GAS is sold", True),
        ("oil, gas", "It runs soil tests in Vegas", False),
        ("bank", "Banking and loans", True),
        ("", "anything", False),
        (" , ", "anything", False),
        ("c++ (new)", "writes C++ (new) code", True),
    ],
)
def test_mentions_is_a_word_that_begins_with_a_term(label: str, text: str, found: bool) -> None:
    assert mentions(label, text) is found
