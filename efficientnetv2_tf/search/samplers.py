"""How the next network is chosen: Optuna's samplers, and a controller that learns by policy gradients."""

import contextlib

import numpy as np
import optuna
from optuna.trial import TrialState

_STEP = 0.2  # of the policy's logits, for a reward one standard deviation above the average
_LARGEST = 3.0  # standard deviations: one failure should not decide everything


def make_sampler(name, seed):
    """A sampler that draws the same in each run, in whichever process and after whichever restart.

    Args:
        name: "random", "tpe" or "reinforce".
        seed: an integer, at least 0.

    Returns:
        An `optuna.samplers.BaseSampler`.
    """
    kinds = {
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
        "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
        "reinforce": ReinforceSampler,
    }
    return _SeededByTrial(kinds[name], seed)


class _SeededByTrial(optuna.samplers.BaseSampler):
    """Begins anew for each trial, with a seed that follows from its number.

    Otherwise all processes of a study would draw the same networks from the same seed, and a study that is gone on
    with would draw its first ones again.
    """

    def __init__(self, make, seed):
        self._make = make
        self._seed = seed
        self._sampler = make(seed)

    def before_trial(self, study, trial):
        self._sampler = self._make(int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0]))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study, trial):
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study, trial, state, values):
        self._sampler.after_trial(study, trial, state, values)


class ReinforceSampler(optuna.samplers.BaseSampler):
    """A controller with a probability for each option of each choice, which REINFORCE moves (Williams, 1992).

    The choices are independent of each other. Nothing is kept but the study: the policy is worked out anew from its
    trials in their order, so that many processes can share it, and a restart changes nothing.

    Args:
        seed: of the draws.
    """

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)
        self._logits = {}

    def before_trial(self, study, trial):
        self._logits = learned_logits(study.get_trials(deepcopy=False))

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        options = param_distribution.choices
        logits = self._logits.get(param_name)
        return options[self._rng.choice(len(options), p=None if logits is None else _softmax(logits))]


def learned_logits(trials):
    """The policy after some trials: {parameter: float64 [options]}.

    Each trial's choices become more likely by how far its reward is above the average of those before it, in their
    standard deviations; one that was beyond a limit counts as the worst so far. `logits += step * advantage *
    d log(probability) / d logits`.

    Args:
        trials: of a study, in their order.
    """
    logits, rewards = {}, []
    for trial in trials:
        value = trial.value
        if trial.state == TrialState.PRUNED:
            value = min(rewards, default=None) if value is None else value
        if value is None or not (trial.state.is_finished() and trial.state != TrialState.FAIL):
            continue
        if len(rewards) > 1 and np.std(rewards) > 0:
            advantage = float(np.clip((value - np.mean(rewards)) / np.std(rewards), -_LARGEST, _LARGEST))
            for name, distribution in trial.distributions.items():
                _move(logits, name, distribution, trial.params[name], advantage)
        rewards.append(value)
    return logits


def _move(logits, name, distribution, chosen, advantage):
    current = logits.setdefault(name, np.zeros(len(distribution.choices)))
    gradient = -_softmax(current)
    gradient[distribution.choices.index(chosen)] += 1
    current += _STEP * advantage * gradient


def _softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


@contextlib.contextmanager
def quiet_optuna():
    """Within the block Optuna says only what went wrong; what a search shows is its own table."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
