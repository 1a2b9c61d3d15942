from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from companysim.explain import latent_terms, shared_latents, unit_latents

TEXTS = ["oil wells drilling", "oil wells rigs", "oil pipes", "bank loans", "bank deposits loans", "bank branches"]


def test_a_latent_is_named_by_the_terms_that_vary_with_it() -> None:
    oil = np.array([5.0, 5, 5, 0, 0, 0])
    latents = sp.csr_array(np.column_stack([oil, oil[::-1], np.ones(6)]))
    names = latent_terms(latents, TEXTS, count=1)
    assert names[:2] == ["oil", "bank"]


def test_the_score_is_the_correlation_with_using_the_term() -> None:
    rng = np.random.default_rng(0)
    latents = sp.csr_array(rng.random((6, 4)) + 0.1)
    uses = {term: np.array([term in text for text in TEXTS], dtype=float) for term in ("oil", "bank")}
    for latent, name in enumerate(latent_terms(latents, TEXTS, count=1)):
        share = unit_latents(latents)[:, latent]
        assert name == max(uses, key=lambda term: np.corrcoef(share, uses[term])[0, 1])


def test_a_latent_of_fewer_than_three_documents_has_no_name() -> None:
    latents = sp.csr_array(np.array([[1.0, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).T)
    assert [bool(name) for name in latent_terms(latents, TEXTS)] == [False, True, True]


def test_shared_latents_count_what_exceeds_the_usual() -> None:
    first, second = np.array([0.9, 0.4, 0.1, 0.0]), np.array([0.9, 0.5, 0.2, 0.7])
    usual = np.array([0.9, 0.1, 0.1, 0.0])  # everyone has latent 0
    assert shared_latents(first, second, usual).tolist() == [1, 2]
    assert shared_latents(first, second, usual, count=1).tolist() == [1]


def test_unit_latents_have_norm_one_and_empty_rows_stay_empty() -> None:
    unit = unit_latents(sp.csr_array(np.array([[3.0, 4.0], [0.0, 0.0]])))
    assert unit[0] == pytest.approx([0.6, 0.8])
    assert not unit[1].any()
