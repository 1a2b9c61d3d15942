"""Rules: planted ones are found, figures are scikit-learn's, the search is brute force, luck is told from sense."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from companysim.explain import rules
from companysim.explain.rules import GAIN, held_out, smallest_rule


def planted(rng: np.random.Generator, rows: int = 200) -> tuple[sp.csr_array, np.ndarray]:
    """Members are the rows in which latents 3 and 7 are both strong; the rest is noise."""
    strength = rng.random((rows, 40)) * (rng.random((rows, 40)) < 0.5)
    members = np.zeros(rows, dtype=bool)
    members[:12] = True
    strength[:60, 3] = 5 + rng.random(60)
    strength[np.r_[:12, 60:100], 7] = 5 + rng.random(52)
    return sp.csr_array(strength), members


def test_a_planted_conjunction_is_found_and_nothing_more(rng: np.random.Generator) -> None:
    strength, members = planted(rng)
    rule = smallest_rule(strength, members)
    assert [condition.latent for condition in rule.conditions] == [3, 7]
    assert (rule.precision, rule.recall, rule.f1) == (1, 1, 1)
    assert (rule.holds(strength) == members).all()
    assert held_out(strength, members, [str(i) for i in range(len(members))]) == (1, 1)


def test_one_latent_is_enough_where_it_is() -> None:
    strength = np.zeros((20, 3))
    strength[:4, 1] = 0.5
    strength[:, 2] = 1
    rule = smallest_rule(sp.csr_array(strength), np.arange(20) < 4)
    assert [(c.latent, c.threshold) for c in rule.conditions] == [(1, 0.0)]  # presence before any threshold


def test_a_threshold_lies_midway_between_members_and_others() -> None:
    strength = np.r_[np.linspace(4, 5, 5), np.linspace(0.5, 2, 30)][:, None]
    rule = smallest_rule(sp.csr_array(strength), np.arange(35) < 5)
    assert rule.conditions[0].threshold == pytest.approx(3)
    assert rule.f1 == 1


def test_figures_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    strength = sp.csr_array(rng.random((60, 12)) * (rng.random((60, 12)) < 0.4))
    members = rng.random(60) < 0.2
    rule = smallest_rule(strength, members)
    holds = rule.holds(strength)
    assert rule.precision == pytest.approx(precision_score(members, holds))
    assert rule.recall == pytest.approx(recall_score(members, holds))
    assert rule.f1 == pytest.approx(f1_score(members, holds))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_search_is_brute_force_with_a_price_for_length(seed: int) -> None:
    """With presence alone (values 0 and 1) every conjunction of at most three latents can be tried by hand."""
    rng = np.random.default_rng(seed)
    dense = (rng.random((30, 8)) < 0.5).astype(float)
    members = np.zeros(30, dtype=bool)
    members[rng.choice(30, 6, replace=False)] = True
    best = {}
    for size in (1, 2, 3):
        some = (dense[:, list(chosen)].all(axis=1) for chosen in combinations(range(8), size))
        best[size] = max(2 * (members & holds).sum() / (members.sum() + holds.sum()) for holds in some)
    expected = best[1]
    for size in (2, 3):
        if best[size] > expected + GAIN + 1e-9:
            expected = best[size]
    rule = smallest_rule(sp.csr_array(dense), members)
    holds = rule.holds(sp.csr_array(dense))
    found = 2 * (members & holds).sum() / (members.sum() + holds.sum())
    assert found == pytest.approx(expected)


def test_the_order_of_rows_changes_nothing(rng: np.random.Generator) -> None:
    strength, members = planted(rng)
    names = [f"T{i}" for i in range(len(members))]
    order = rng.permutation(len(members))
    assert smallest_rule(strength[order], members[order]) == smallest_rule(strength, members)
    shuffled = held_out(strength[order], members[order], [names[i] for i in order])
    assert shuffled == held_out(strength, members, names)


def test_held_out_figures_tell_luck_from_sense(rng: np.random.Generator) -> None:
    """Among 2,000 latents of noise some rule always recovers three rows; it fails on rows it has not seen."""
    noise = sp.csr_array(rng.random((100, 2000)) * (rng.random((100, 2000)) < 0.3))
    members = np.arange(100) < 3
    assert smallest_rule(noise, members).f1 > 0.7
    precision, recall = held_out(noise, members, [str(i) for i in range(100)])
    assert max(precision, recall) < 0.5


def test_every_member_is_held_out_once(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    strength, members = planted(rng)
    seen: list[int] = []
    real = rules.smallest_rule
    monkeypatch.setattr(rules, "smallest_rule", lambda s, m: seen.append(int(m.sum())) or real(s, m))
    held_out(strength, members, [str(i) for i in range(len(members))])
    assert len(seen) == 5
    assert sum(12 - inside for inside in seen) == 12


def test_a_group_with_little_of_everything_has_a_rule() -> None:
    """Its only latent fires less than in others and so comes after all those that fire in no member."""
    strength = np.zeros((40, rules.POOL + 40))
    strength[5 + np.arange(rules.POOL + 39) % 35, np.arange(rules.POOL + 39)] = 1
    strength[:, -1] = np.arange(40) + 0.5
    rule = smallest_rule(sp.csr_array(strength), np.arange(40) < 5)
    assert [condition.latent for condition in rule.conditions] == [rules.POOL + 39]
    assert rule.recall == 1


def test_one_row_has_a_rule_but_nothing_to_hold_out() -> None:
    strength = sp.csr_array(np.eye(4))
    members = np.arange(4) == 2
    assert smallest_rule(strength, members).conditions[0].latent == 2
    assert np.isnan(held_out(strength, members, list("abcd"))).all()
