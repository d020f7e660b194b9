"""The trials of a search: a network is drawn, trained, and rewarded."""

import dataclasses
import math
import time

import optuna
from optuna.trial import TrialState

from efficientnetv2_tf.search.evaluator import CandidateError, reward
from efficientnetv2_tf.search.space import SpaceError
from efficientnetv2_tf.search.study import worker_name
from efficientnetv2_tf.training.hparams import ConfigError

REWARD_OF_A_FAILURE = 0.0  # no reward is below it
_MEASURED = (
    "reward", "accuracy", "step_seconds", "step_ratio", "step_spread", "load", "epochs", "parameter_ratio"
)  # fmt: skip


class Trials:
    """Draws and tries networks until there are as many as wanted, or the time is over.

    Args:
        study: the `optuna.Study`.
        recipe: a `SearchRecipe`.
        space: its `SearchSpace`.
        evaluator: an `Evaluator`.
        display: a `SearchDisplay`.
        signals: `StopSignals`.
    """

    def __init__(self, study, recipe, space, evaluator, display, signals):
        self._study, self._recipe, self._space = study, recipe, space
        self._evaluator, self._display, self._signals = evaluator, display, signals
        self._number = None  # of this process' trial

    def run(self):
        """Tries networks.

        Raises:
            ConfigError: the data cannot be read, or nothing can be trained any more.
            Interrupted: a signal has come.
        """
        search = self._recipe.search
        end = time.monotonic() + 60 * search.minutes if search.minutes else math.inf
        while self._display.evaluated < search.trials and time.monotonic() < end:
            try:
                with self._signals.held():  # Optuna takes notes between trials, in which an exception would do harm
                    timeout = None if end == math.inf else end - time.monotonic()
                    self._study.optimize(self._try, timeout=timeout, callbacks=[self._after])
            except (ConfigError, SpaceError):
                raise
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                if not self._was_taken_away():
                    raise

    def _was_taken_away(self):
        """Whether others took this process for dead, and ended its trial: it stood still for minutes."""
        return self._number is not None and self._study.trials[self._number].state == TrialState.FAIL

    def _after(self, study, trial):
        self._display.finished(trial)
        if self._display.evaluated >= self._recipe.search.trials:
            study.stop()

    def _try(self, trial):
        """One trial: a network is drawn, and trained if it is within the limits and new."""
        self._number = trial.number
        _note(trial, worker=worker_name())
        with self._signals.acting():
            blocks = self._space.network(trial.suggest_categorical)
        if excess := self._space.excess(blocks):
            _note(trial, refused=excess)
            raise optuna.TrialPruned
        _note(trial, blocks=list(blocks), **dataclasses.asdict(self._space.cost(blocks)))
        if twin := _twin(self._study, trial, blocks):
            _note(trial, same_as=twin.number, **{name: twin.user_attrs[name] for name in _MEASURED})
            return twin.value
        return self._train(trial, blocks)

    def _train(self, trial, blocks):
        """Trains a network; its reward."""
        ratio = _parameter_ratio(self._space, blocks)
        self._display.started(trial)

        def go_on(epoch, accuracy, step_ratio):
            with self._signals.held():
                trial.report(_reward(self._recipe, accuracy, step_ratio, ratio), epoch)
                self._display.epoch(epoch, accuracy)
                return not trial.should_prune()

        try:
            with self._signals.acting():
                measurement = self._evaluator.evaluate(blocks, go_on)
        except CandidateError as error:
            self._check_machine(error)
            _note(trial, failed=str(error))
            return REWARD_OF_A_FAILURE
        _note(trial, **attributes(self._recipe, self._space, blocks, measurement))
        if measurement.epochs < self._recipe.search.proxy_epochs:
            raise optuna.TrialPruned
        return trial.user_attrs["reward"]

    def _check_machine(self, error):
        """What fails for want of memory, or of a disk, says something of the network only if the backbone does not."""
        if error.is_of_the_network:
            return
        try:
            with self._signals.acting():
                self._evaluator.evaluate(self._space.backbone_blocks(), lambda *_: False)
        except CandidateError as other:
            raise ConfigError(
                f"A network could not be trained ({error}), and now the backbone cannot either ({other}). Does "
                "something else use this device, its memory or its disk? The same command goes on with the study."
            ) from other


def attributes(recipe, space, blocks, measurement):
    """What is kept of a network: a dictionary that can be stored as JSON.

    Args:
        recipe: a `SearchRecipe`.
        space: its `SearchSpace`.
        blocks: block strings.
        measurement: a `Measurement`.
    """
    ratio = _parameter_ratio(space, blocks)
    return {
        "blocks": list(blocks),
        "reward": _reward(recipe, measurement.accuracy, measurement.step_ratio, ratio),
        **dataclasses.asdict(measurement),
        **dataclasses.asdict(space.cost(blocks)),
        "parameter_ratio": ratio,
    }


def _parameter_ratio(space, blocks):
    return space.cost(blocks).parameters / space.cost(space.backbone_blocks()).parameters


def _reward(recipe, accuracy, step_ratio, parameter_ratio):
    search = recipe.search
    return reward(
        accuracy,
        step_ratio,
        parameter_ratio,
        step_time_exponent=search.step_time_exponent,
        parameters_exponent=search.parameters_exponent,
    )


def _note(trial, **values):
    for name, value in values.items():
        trial.set_user_attr(name, value)


def _twin(study, trial, blocks):
    """A trial that has trained the same network to the end, or None."""
    for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if other.number != trial.number and other.user_attrs["blocks"] == list(blocks) and "reward" in other.user_attrs:
            return other
    return None
