"""Passages: the sentence around a token, the whole word marked; strengths in multiples of a document's mean latent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companysim.explain.corpus import LONGEST, passage
from tests.explain.made import TEXT, corpus


@pytest.mark.parametrize(
    ("text", "token", "marked"),
    [
        ("It drills wells. It owns rigs. It sells oil.", "rigs", "It owns <<rigs>>."),
        ("It drills wells. It owns rigs. It sells oil.", "drill", "It <<drills>> wells."),
        ("It drills wells. It owns rigs. It sells oil.", "oil", "It sells <<oil>>."),
        ("Acme Inc. of St. Louis sells U.S. bonds. It banks.", "bonds", "Acme Inc. of St. Louis sells U.S. <<bonds>>."),
        ("Some hard-to-copy forms.", "-", "Some <<hard-to-copy>> forms."),
        ("It has 1,700 stores, and 3.5 more. Then 2 go.", "700", "It has <<1,700>> stores, and 3.5 more."),
        ("Wells, rigs. More.", ",", "<<Wells,>> rigs."),
        ('They asked why? "Because," he said. Done.', "said", '"Because," he <<said>>.'),
    ],
)
def test_a_passage_is_the_sentence_with_the_whole_word_marked(text: str, token: str, marked: str) -> None:
    start = text.index(token)
    assert passage(text, start, start + len(token)).marked() == marked


def test_white_space_means_the_word_that_follows() -> None:
    assert passage("in January 2012 it rose", 10, 11).marked() == "in January <<2012>> it rose"


def test_a_long_sentence_is_cut_around_the_word_at_spaces() -> None:
    text = " ".join(f"word{i}" for i in range(200))
    found = passage(text, text.index("word100"), text.index("word100") + 4)
    assert found.text.startswith("... word")
    assert found.text.endswith(" ...")
    assert len(found.text) <= LONGEST + 8
    assert found.text[found.start : found.end] == "word100"
    assert set(found.text.split()) - {"..."} <= set(text.split())


@given(st.text(alphabet="aB1 .,-!?\n'é", min_size=1, max_size=400), st.data())
def test_the_marked_words_hold_the_token_and_no_text_is_invented(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    found = passage(text, start, end)
    assert found.marked().replace("<<", "", 1).replace(">>", "", 1) == found.text
    inner = found.text[found.start : found.end]
    assert inner in text
    assert text[start:end].strip() in inner
    assert found.text.removeprefix("... ").removesuffix(" ...") in text


def test_a_latent_fires_where_the_encoding_says() -> None:
    made = corpus(np.array([[1.0, 0, 0, 0, 2], [0, 1, 1, 0, 0]]))
    found = made.passage(0, 4)
    assert found is not None
    assert found.marked() == "It <<owns>> rigs and pipes in the Gulf."
    assert made.passage(0, 1) is None
    assert made.passage(1, 4) is None
    assert TEXT.split()[4] == "owns"


def test_tokens_that_share_a_character_end_where_the_next_begins() -> None:
    made = corpus(np.array([[0.0, 1.0]]), ["x\u00e9 y"])
    made.starts[0] = np.array([0, 1, 1, 2, 4], dtype=np.int32)  # the accent is two tokens
    found = made.passage(0, 1)
    assert found is not None
    assert found.marked() == "<<x\u00e9>> y"


def test_strength_is_in_multiples_of_the_mean_latent_that_fires() -> None:
    matrix = np.array([[1.0, 0, 3, 0], [10, 20, 30, 20], [0, 0, 0, 0]])
    strength = corpus(matrix).strength.toarray()
    assert strength[0] == pytest.approx([0.5, 0, 1.5, 0])
    assert strength[1] == pytest.approx([0.5, 1, 1.5, 1])
    assert not strength[2].any()
    assert corpus(7 * matrix).strength.toarray() == pytest.approx(strength)
