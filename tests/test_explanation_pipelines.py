"""The scripts behind the figures on labels and stability: what they do to texts, groups and judgements."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from companysim.explain.judges import halves
from companysim.explain.scores import Example, score
from tests.scripts import repository_script


def test_a_tenth_of_the_sentences_is_removed_at_least_one() -> None:
    module = repository_script("pipelines/explanation_stability.py")
    for sentences, left in ((30, 27), (5, 4), (1, 1)):
        given = [f"Sentence {place} of this text." for place in range(sentences)]
        kept = module.shorter(" ".join(given), np.random.default_rng(0)).replace(". ", ".|").split("|")
        assert len(kept) == left
        assert set(kept) <= set(given)


def test_random_groups_have_the_sizes_and_go_by_name() -> None:
    module = repository_script("pipelines/explanation_stability.py")
    names = [f"T{i:02d}" for i in range(40)]
    clusters = {0: np.arange(40) < 4, 7: np.arange(40) >= 30}
    found = module.at_random(clusters, names)
    assert {cluster: member.sum() for cluster, member in found.items()} == {0: 4, 7: 10}
    back = np.random.default_rng(0).permutation(40)
    moved = module.at_random({c: m[back] for c, m in clusters.items()}, [names[i] for i in back])
    assert all((moved[c] == found[c][back]).all() for c in clusters)


def test_labels_of_one_half_are_judged_on_the_other() -> None:
    module = repository_script("pipelines/label_scores.py")
    from tests.explain.test_judges import BANK, OIL, corpus

    own = corpus(60)
    own.companies["filing_id"] = own.companies["ticker"]
    rows = []
    for row, text in enumerate(own.companies["text"]):
        for latent, word in ((OIL, " oil"), (BANK, " bank")):
            if word in text:
                start = text.index(word)
                rows.append((latent, own.tickers[row], 1.0, max(start - 60, 0), start + 70, start, start + len(word)))
    names = ["latent", "filing_id", "value", "start", "end", "peak_start", "peak_end"]
    found, support = module.cross_scored(own, pd.DataFrame(rows, columns=names))
    table = score(found["detection"]).table.set_index("latent")
    assert table.loc[OIL, "sensitivity"] == 1
    first, even = halves(own.tickers), np.arange(60) % 2 == 0  # oil is in the even ones
    expected = sum(min((half & even).sum(), (half & ~even).sum()) for half in (first, ~first))
    assert table.loc[OIL, ["activating", "other"]].tolist() == [expected] * 2
    fuzzing, shuffled = (score(found[name]).table.set_index("latent") for name in ("fuzzing", "fuzzing, shuffled"))
    assert fuzzing.loc[OIL, "sensitivity"] == fuzzing.loc[BANK, "sensitivity"] == 1
    assert fuzzing.loc[OIL, "balanced_accuracy"] > 0.7
    assert support[[OIL, BANK]].tolist() == [1, 1]
    assert shuffled["sensitivity"].tolist() != fuzzing["sensitivity"].tolist()
    assert module.by_support(found["detection"], support)["latents"].sum() == 2
    assert module.by_tenth(found["detection"]).index.tolist() == list(range(10))


def test_sensitivity_by_tenth() -> None:
    module = repository_script("pipelines/label_scores.py")
    one = [Example((" a",), (1.0,), 0.0, True, said) for said in (True, True, False)]
    other = [Example((" a",), (0.5,), 9.0, True, False), Example((" a",), (0.0,), -1.0, False, True)]
    assert module.by_tenth({3: [*one, *other]}).to_dict() == {0: pytest.approx(2 / 3), 9: 0.0}
