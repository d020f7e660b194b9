"""How the next network is chosen: Optuna's samplers, and a controller that learns by policy gradients."""

import contextlib
import math

import numpy as np
import optuna
from optuna.trial import TrialState

_STEP = 0.2  # of the policy's logits, for a reward one standard deviation above the average
_LARGEST = 3.0  # standard deviations: one network should not decide everything
_SMALLEST = 1e-6  # standard deviation, where all rewards are the same


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

    `logits += step * advantage * d log(probability) / d logits`: the choices of a trial become more likely by how far
    its reward is above the average of those before it, in their standard deviations. What was beyond a limit, could not
    be trained or was ended early has an advantage of -1, and no part in the average.

    Args:
        trials: of a study, in their order.
    """
    logits, number, total, squares = {}, 0, 0.0, 0.0
    for trial in trials:
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            continue
        advantage = -1.0
        if trial.state == TrialState.COMPLETE and "failed" not in trial.user_attrs:
            advantage = 0.0
            if number > 1:
                deviation = math.sqrt(max(squares / number - (total / number) ** 2, 0.0))
                advantage = (trial.value - total / number) / max(deviation, _SMALLEST)
            number, total, squares = number + 1, total + trial.value, squares + trial.value**2
        for name, distribution in trial.distributions.items():
            _move(logits, name, distribution, trial.params[name], min(max(advantage, -_LARGEST), _LARGEST))
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
