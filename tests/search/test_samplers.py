"""Choosing networks: repeatable draws, and a controller that learns."""

import numpy as np
import optuna
import pytest

from efficientnetv2_tf.search.samplers import learned_logits, make_sampler, quiet_optuna

OPTIONS = ("a", "b", "c")


def study_of(name, trials, seed=0, value=lambda params: float(params == {"x": "b", "y": "c"})):
    def objective(trial):
        return value({key: trial.suggest_categorical(key, OPTIONS) for key in "xy"})

    with quiet_optuna():
        study = optuna.create_study(sampler=make_sampler(name, seed), direction="maximize")
        study.optimize(objective, n_trials=trials)
    return study


def drawn(study):
    return [trial.params["x"] + trial.params["y"] for trial in study.trials]


@pytest.mark.parametrize("name", ["random", "tpe", "reinforce"])
def test_a_seed_repeats_the_draws_and_another_gives_others(name):
    assert drawn(study_of(name, 15)) == drawn(study_of(name, 15))
    assert drawn(study_of(name, 15)) != drawn(study_of(name, 15, seed=1))


@pytest.mark.parametrize("name", ["tpe", "reinforce"])
def test_what_is_rewarded_is_drawn_more_often(name):
    late = drawn(study_of(name, 120))[60:]
    assert late.count("bc") > 3 * len(late) / 9  # by chance a ninth of them


def test_random_stays_random():
    found = drawn(study_of("random", 180))
    assert {found.count(x + y) for x in OPTIONS for y in OPTIONS} <= {*range(8, 36)}


def test_the_policy_follows_the_gradient():
    """By hand: rewards 0, 1, 1; the third is sqrt(2 * ...) above the two before it: mean 0.5, deviation 0.5."""
    distribution = optuna.distributions.CategoricalDistribution(OPTIONS)
    trials = [
        optuna.trial.create_trial(value=value, params={"x": x}, distributions={"x": distribution})
        for x, value in (("a", 0.0), ("b", 1.0), ("b", 1.0))
    ]
    # The first two only make the average; advantage 1, step 0.2, probabilities 1/3.
    np.testing.assert_allclose(learned_logits(trials)["x"], 0.2 * np.array([-1 / 3, 2 / 3, -1 / 3]))


def test_what_was_not_trained_to_the_end_is_avoided_and_moves_no_average():
    distribution = optuna.distributions.CategoricalDistribution(OPTIONS)

    def trial(x, value, state=optuna.trial.TrialState.COMPLETE, **notes):
        distributions = {"x": distribution}
        return optuna.trial.create_trial(
            value=value, params={"x": x}, distributions=distributions, state=state, user_attrs=notes
        )

    refused = trial("c", None, optuna.trial.TrialState.PRUNED, refused="too large")
    step = 0.2 * np.array([-1 / 3, -1 / 3, 2 / 3])
    np.testing.assert_allclose(learned_logits([trial("a", 0.2), trial("b", 0.8), refused])["x"], -step)
    failed = trial("c", 0.0, failed="out of memory")
    np.testing.assert_allclose(learned_logits([trial("a", 0.2), trial("b", 0.8), failed])["x"], -step)
    killed = trial("c", None, optuna.trial.TrialState.FAIL)
    np.testing.assert_allclose(learned_logits([trial("a", 0.2), trial("b", 0.8), killed])["x"], 0)
    # The average stays 0.5, and its deviation 0.3, so this one is at 1.
    after = learned_logits([trial("a", 0.2), trial("b", 0.8), failed, trial("c", 0.8)])["x"]
    probabilities = np.exp(-step) / np.exp(-step).sum()
    np.testing.assert_allclose(after, -step + 0.2 * (np.array([0, 0, 1]) - probabilities))
