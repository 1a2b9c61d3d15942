"""The study of the shared profiles: nothing is chosen on years after 2013, and its pieces do what they say."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))

import profile_study as study
import profile_trials as trials
from profile_vectors import WEIGHTINGS, Latents, token_weights
from profile_yardsticks import Profiles, load_profiles, tfidf_similarity, yardsticks

from companysim.benchmark import Grouping, classification, compare
from companysim.benchmark.weights import grouped_pairs
from companysim.similarity import Cosine

SHARED = Path(__file__).parents[2] / "shared" / "data"
N = 40


def profiles(seed: int = 0, later: int = 0) -> Profiles:
    """Companies of four industries whose returns move together; `later` seeds the returns after 2013."""
    industry = np.arange(N) % 4
    codes = [f"{10 + code}{company % 3}0" for company, code in enumerate(industry)]
    correlations = {}
    for year in range(2003, 2021):
        rng = np.random.default_rng([seed if year <= study.LAST_CHOICE else later, year])
        returns = rng.normal(size=(4, 12))[industry] + rng.normal(size=(N, 12))
        correlations[year] = np.corrcoef(returns)
        correlations[year][0, :] = correlations[year][:, 0] = np.nan  # a firm not yet listed
    rng = np.random.default_rng(3)
    texts = [" ".join(f"word{w}" for w in rng.integers(0, 30, 60)) for _ in range(N)]
    table = pd.DataFrame({"cik": np.arange(N), "sic": codes, "text": texts})
    gics = classification("gics", [f"{code}0000" for code in codes])
    return Profiles(table, correlations, classification("sic", codes), gics)


def latents(seed: int = 1) -> Latents:
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(N), rng.integers(5, 12, N))
    latent = np.sort(rng.permuted(np.tile(np.arange(20), (len(document), 1)), axis=1)[:, :3], axis=1)
    latent[:, 0] = 20 + document % 4  # the industry
    value = rng.uniform(0.5, 3, latent.size).astype(np.float32)
    weights = rng.uniform(0.5, 3, (len(WEIGHTINGS), len(document)))
    return Latents(document, weights, np.repeat(np.arange(len(document)), 3), latent.ravel(), value, N, 24)


def others() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {name: np.corrcoef(rng.normal(size=(N, 9))) for name in ("MiniLM", "TF-IDF")}


def inputs(seed: int = 0, later: int = 0) -> study.Inputs:
    rng = np.random.default_rng(6)
    means = {(block, "plain"): rng.normal(size=(N, 6)) for block in (3, 26)}
    texts = others()
    return study.Inputs(
        profiles(seed, later), latents(), {"own": latents(7)}, means, texts["MiniLM"], texts["TF-IDF"]
    )


@pytest.fixture(scope="module")
def judge() -> study.Judge:
    return study.choose(inputs())


def test_choices_never_see_years_after_the_cut_off(judge: study.Judge) -> None:
    changed = study.choose(inputs(later=99))
    assert changed.rows == judge.rows or pd.DataFrame(changed.rows).equals(pd.DataFrame(judge.rows))
    assert {f: t.name for f, t in changed.best.items()} == {f: t.name for f, t in judge.best.items()}
    assert max(judge.profiles.correlations) == study.LAST_CHOICE


def test_other_past_returns_change_the_figures(judge: study.Judge) -> None:
    changed = study.choose(inputs(seed=5))
    assert not pd.DataFrame(changed.rows).equals(pd.DataFrame(judge.rows))


def test_supervised_trials_are_fitted_before_they_are_judged() -> None:
    seen: list[set[int]] = []

    def build(past: trials.Correlations) -> np.ndarray:
        seen.append(set(past))
        return others()["TF-IDF"]

    judge = study.Judge(profiles())
    judge.try_all([trials.Trial("a", "fits", build, True), trials.Trial("a", "does not", build)])
    assert seen == [set(range(2003, 2009)), set()]
    fitted, free = judge.rows
    late = [judge._yearly(others()["TF-IDF"]).loc[2009:].mean()]
    assert fitted["score"] == pytest.approx(late[0].mean())
    assert np.isnan(fitted["top 2003-13"])
    assert free["score"] == pytest.approx((free["top 2003-13"] + free["peers 2003-13"]) / 2)


def test_the_best_of_a_family_has_its_highest_score(judge: study.Judge) -> None:
    rows = pd.DataFrame(judge.rows)
    for family, trial in judge.best.items():
        own = rows[rows["family"] == family]
        assert own.loc[own["score"].idxmax(), "trial"] == trial.name
    assert rows.duplicated(["family", "trial"]).sum() == 0


def test_figures_are_remembered_by_similarity_and_returns(tmp_path: Path) -> None:
    store = tmp_path / "figures.json"
    trial = trials.Trial("a", "fixed", lambda _: others()["TF-IDF"])
    first, again = study.Judge(profiles(), store), None
    first.try_all([trial])
    again = study.Judge(profiles(), store)
    assert len(again.known) == 1
    again.try_all([trial])
    assert again.rows == first.rows
    assert len(again.known) == 1
    other = study.Judge(profiles(seed=3), store)
    other.try_all([trial])
    assert len(other.known) == 2
    assert other.rows != first.rows


def test_pools_by_hand() -> None:
    two = Latents(
        document=np.array([0, 0, 1]),
        weights=np.array([[1.0, 1, 1], [0.5, 2, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]),
        token=np.array([0, 1, 1, 2]),
        latent=np.array([1, 1, 2, 0]),
        value=np.array([2.0, 4.0, 1.0, 3.0], dtype=np.float32),
        profiles=2,
        n_latents=3,
    )
    two_log = np.log(2.0)
    expected = {
        "sum": [[0, 6, 1], [3, 0, 0]],
        "mean": [[0, 3, 0.5], [3, 0, 0]],
        "max": [[0, 4, 1], [3, 0, 0]],
        "count": [[0, 2, 1], [1, 0, 0]],
        "log_sum": [[0, np.log(3) + np.log(5), np.log(2)], [np.log(4), 0, 0]],
        "log_length": [[0, 3 * np.log(3), 0.5 * np.log(3)], [3 * two_log, 0, 0]],
    }
    for pool, rows in expected.items():
        np.testing.assert_allclose(two.pooled(pool).toarray(), rows, err_msg=pool)
    np.testing.assert_allclose(two.pooled("sum", "idf").toarray(), [[0, 9, 2], [3, 0, 0]])
    np.testing.assert_allclose(two.pooled("count", "idf").toarray(), [[0, 2.5, 2], [1, 0, 0]])
    np.testing.assert_allclose(two.pooled("mean", "idf").toarray(), [[0, 9 / 2.5, 2 / 2.5], [3, 0, 0]])


def test_token_weights_by_hand() -> None:
    documents = [np.array([0, 1, 1])] * 5 + [np.array([2])] * 3 + [np.array([0])] * 2
    idf = np.log([10 / 7, 10 / 5, 10 / 3])
    shared = np.array([*idf[:2], 0, 0])
    expected = [[1, 1, 1, 1], [*idf, 0], shared, shared**2, shared**3]
    np.testing.assert_allclose(token_weights(documents, 4), expected)


@pytest.mark.parametrize("k", [1, 3])
def test_expansion_is_the_cosine_of_averaged_vectors(k: int) -> None:
    unit = Cosine().fit_transform(np.random.default_rng(0).normal(size=(12, 5)))
    moved = unit.copy()
    for i in range(12):
        near = sorted((j for j in range(12) if j != i), key=lambda j: -unit[i] @ unit[j])[:k]
        moved[i] += sum(max(unit[i] @ unit[j], 0) * unit[j] for j in near)
    wanted = Cosine().fit_transform(moved)
    np.testing.assert_allclose(trials.expanded(unit @ unit.T, k), wanted @ wanted.T, atol=1e-12)


def test_words_are_sklearns_tfidf() -> None:
    given = profiles()
    np.testing.assert_allclose(trials.words(given, "log", 1.0, 1, 5), tfidf_similarity(given), atol=1e-12)
    assert np.abs(trials.words(given, "root", 1.0, 1, 5) - tfidf_similarity(given)).max() > 0.01


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_spectrum_is_the_cosine_of_principal_components(power: float) -> None:
    unit = Cosine().fit_transform(np.random.default_rng(0).normal(size=(12, 5)))
    centred = unit - unit.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    wanted = Cosine().fit_transform(left * singular**power)
    np.testing.assert_allclose(trials.spectrum(unit @ unit.T, power), wanted @ wanted.T, atol=1e-10)


def test_latents_of_most_profiles_are_left_out() -> None:
    given = latents()
    x = given.pooled("sum").power(0.5).toarray()
    rare = (x > 0).mean(axis=0) < 0.5
    assert 0 < rare.sum() < x.shape[1]
    wanted = Cosine().fit_transform(x[:, rare])
    np.testing.assert_allclose(trials.powered(given, "sum", "plain", 0.5, 0.5)({}), wanted @ wanted.T, atol=1e-12)
    x = x[:, x.any(axis=0)]
    wanted = Cosine().fit_transform(x * np.log(1 / (x > 0).mean(axis=0)) ** 0.3)
    np.testing.assert_allclose(trials.powered(given, "sum", "plain", 0.5, idf=0.3)({}), wanted @ wanted.T, atol=1e-12)


def test_hubs_lose_what_they_are_to_everybody() -> None:
    given = np.array([[1, 0.9, 0.8, 0.7], [0.9, 1, 0.1, 0.2], [0.8, 0.1, 1, 0.3], [0.7, 0.2, 0.3, 1]])
    near = [0.85, 0.55, 0.55, 0.5]  # means of the two nearest
    found = trials.without_hubs(given, 2)
    assert found[0, 1] == pytest.approx(1.8 - near[0] - near[1])
    assert found[2, 3] == pytest.approx(0.6 - near[2] - near[3])
    np.testing.assert_allclose(found, found.T)


def test_learned_predicts_firms_whose_returns_it_has_not_seen() -> None:
    rng = np.random.default_rng(4)
    vectors = Cosine().fit_transform(rng.normal(size=(150, 6)))
    truth = 0.2 + 0.5 * np.outer(vectors[:, 0], vectors[:, 0])  # only the first coordinate matters
    noise = rng.normal(scale=0.05, size=truth.shape)
    past = {year: truth + (noise + noise.T) / 2 for year in (2003, 2004)}
    found = trials.learned(vectors @ vectors.T, past, 0.01)
    above = np.triu_indices(150, 1)
    assert np.corrcoef(found[above], truth[above])[0, 1] > 0.98
    assert np.corrcoef((vectors @ vectors.T)[above], truth[above])[0, 1] < 0.7
    swapped = {year: values.copy() for year, values in past.items()}
    for values in swapped.values():  # a firm's own past has no say in its own predictions
        values[0, 1:] = values[1:, 0] = rng.uniform(-1, 1, 149)
    np.testing.assert_allclose(trials.learned(vectors @ vectors.T, swapped, 0.01)[0], found[0], atol=0.02)


def test_level_is_what_a_firm_shares_with_everybody() -> None:
    beta = np.array([0.1, 0.3, 0.2, 0.4])
    additive = np.add.outer(beta, beta)
    additive[3, :] = additive[:, 3] = np.nan
    np.fill_diagonal(additive, 1.0)
    off = ~np.eye(4, dtype=bool)
    rest = study.without_level(additive)
    wanted = study.without_level(additive + 0.7)
    np.testing.assert_allclose(rest[off & np.isfinite(additive)], wanted[off & np.isfinite(additive)], atol=1e-12)


def test_combination_weighs_parts_alike() -> None:
    a, b = others().values()
    above = np.triu_indices(N, 1)
    np.testing.assert_allclose(trials.combined(a, 100 * b)[above], trials.combined(a, b)[above])
    assert trials.combined(a, a)[above].std() == pytest.approx(1)


def test_final_look_scores_only_later_years(judge: study.Judge) -> None:
    given = profiles()
    rows = {"SIC hierarchy": given.sic.similarity, **others()}
    table = study.final_look(rows, given, draws=20)
    past_gone = replace(given, correlations={y: v for y, v in given.correlations.items() if y > study.LAST_CHOICE})
    pd.testing.assert_frame_equal(table, study.final_look(rows, past_gone, draws=20))
    expected = study.yearly_yardsticks(rows["MiniLM"], past_gone).mean()
    assert table.loc["MiniLM", "top"] == pytest.approx(expected["top"])
    assert table.loc["MiniLM", "peers"] == pytest.approx(expected["peers"])
    assert table.loc["MiniLM", "top_more"] == pytest.approx(table.loc["MiniLM", "top"] - table.loc["TF-IDF", "top"])
    assert table.loc["TF-IDF", ["top_more", "top_more_low", "top_more_high"]].tolist() == [0, 0, 0]
    assert (table["top_low"] < table["top"]).all()
    assert (table["top"] < table["top_high"]).all()


def test_final_figures_are_the_benchmarks() -> None:
    given = profiles()
    later = {y: v for y, v in given.correlations.items() if y > study.LAST_CHOICE}
    rows = {"SIC hierarchy": given.sic.similarity, **others()}
    table = study.final_look(rows, given, draws=200)
    nobody = np.full(N, -1)
    groupings = [given.sic, *(Grouping(name, nobody, own) for name, own in others().items())]
    outcome = compare(groupings, later, without=(2020,), null_draws=1, bootstrap_draws=200)
    names = {"top": "at_sic4_pairs", "peers": "peers5", "capped": "at_sic4_pairs_capped"}
    for mine, theirs in names.items():
        for row in others():
            found = outcome.estimates.query("years == 'all' and grouping == @row and figure == @theirs").iloc[0]
            assert table.loc[row, [mine, f"{mine}_low", f"{mine}_high"]].tolist() == pytest.approx(
                [found["value"], found["low"], found["high"]], abs=1e-6
            )
            assert table.loc[row, f"{mine}_without 2020"] == pytest.approx(
                outcome.value(row, theirs, "without 2020")
            )
        found = outcome.differences.query("years == 'all' and figure == @theirs and first == 'MiniLM'").iloc[0]
        assert table.loc["MiniLM", f"{mine}_more"] == pytest.approx(found["difference"])
        assert table.loc["MiniLM", f"{mine}_more_high"] == pytest.approx(found["high"], abs=1e-6)
    coarse = [*given.sic.levels.values()][-1]
    whole = np.mean([grouped_pairs(coarse, np.isfinite(v)).mean(v) for v in later.values()])
    lift = outcome.value("MiniLM", "lift_in_sic2")
    assert table.loc["MiniLM", "inside"] == pytest.approx(whole + lift)


def test_one_command_prints_every_trial_and_the_final_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study, "load", lambda data, cache: inputs())
    monkeypatch.setattr("sys.argv", ["profile_study.py", "--cache", str(tmp_path), "--final"])
    study.main()
    printed = capsys.readouterr().out
    tried, final = pd.read_csv(tmp_path / "trials.csv"), pd.read_csv(tmp_path / "final.csv")
    assert f"{len(tried)} trials" in printed
    assert all(f"| {name} |" in printed for name in final["row"])
    assert [*final["row"][[0, len(final) - 1]]] == ["random", "TF-IDF"]
    assert final.loc[0, "top"] == pytest.approx(final.loc[0, "peers"], abs=0.02)


@pytest.mark.slow
def test_published_yardsticks_of_the_shared_profiles() -> None:
    if not SHARED.is_dir():
        pytest.skip("needs the project's shared data, ../shared/data")
    given = load_profiles(SHARED)
    assert len(given.companies) == 1105
    found = yardsticks(tfidf_similarity(given), given)
    wanted = {"top 2003-13": 0.289, "top 2014-20": 0.467, "peers 2003-13": 0.295, "peers 2014-20": 0.352}
    assert found == pytest.approx(wanted, abs=0.0025)
