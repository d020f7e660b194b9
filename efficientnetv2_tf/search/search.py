"""The search for a network; `search` reads as a table of contents."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import threading

import optuna
from optuna.trial import TrialState
from rich.console import Console

from efficientnetv2_tf.search.display import SearchDisplay
from efficientnetv2_tf.search.evaluator import CandidateError, Evaluator, reward
from efficientnetv2_tf.search.hparams import make_space, proxy_config
from efficientnetv2_tf.search.results import write_results
from efficientnetv2_tf.search.samplers import quiet_optuna
from efficientnetv2_tf.search.study import open_study
from efficientnetv2_tf.training.hparams import ConfigError

REWARD_OF_A_FAILURE = 0.0  # no reward is below it


def search(recipe, output, *, console=None):
    """Searches for a network whose reward is the largest, or goes on with a search.

    Several processes, on one or more machines, work on one study when they are given the same storage (or the same
    `output`, on one machine). Each trains one candidate at a time.

    Args:
        recipe: a `SearchRecipe`.
        output: folder for best.yaml, trials.csv, search.png and, unless `search.storage` says otherwise, study.db.
        console: a `rich.console.Console`; None prints to the terminal.

    Returns:
        The `optuna.Study`.

    Raises:
        SpaceError: the space is empty.
        ConfigError: the recipe is impossible, its data set is not to be had, or the storage cannot be used.
    """
    console, output = console or Console(), pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    proxy_config(recipe)  # for its errors, which come first
    # The number of classes is known when the data is open; with one, no network costs less.
    space = make_space(recipe, num_classes=recipe.model.num_classes or 1)
    with quiet_optuna(), _ended_by_sigterm():
        study = open_study(recipe, space, output)
        console.print(f"Study {study.study_name!r}, {len(study.trials)} trials so far. Opening the data ...")
        evaluator = Evaluator(recipe)
        try:
            space = make_space(recipe, num_classes=evaluator.num_classes)
            _show_space(space, console)
            references = measure_references(study, recipe, space, evaluator, console)
            with SearchDisplay(console, study, recipe.search, references) as display:
                _optimize(study, recipe, space, evaluator, references, display, output)
        finally:
            evaluator.close()
            if study.user_attrs.get("references"):
                write_results(study, recipe, space, output, console)
    return study


@contextlib.contextmanager
def _ended_by_sigterm():
    """Within the block SIGTERM ends the search as Ctrl-C does: what was found is written, and can be gone on with."""

    def end(number, _):
        error = KeyboardInterrupt("Stopped by SIGTERM. The same command goes on.")
        error.exit_code = 128 + number
        raise error

    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_space(space, console):
    share = space.share_within_limits()
    cost = space.cost(space.backbone_blocks())
    limits = "" if share == 1 else f" About {share:.1%} of them are within the limits."
    console.print(
        f"{space.size:.3g} networks with the channels of {space.backbone} ({cost.parameters / 1e6:.2f}M parameters, "
        f"{cost.multiply_adds / 1e6:.1f}M multiply-adds at {space.image_size} px).{limits}"
    )


def measure_references(study, recipe, space, evaluator, console):
    """Trains what candidates are compared with, if the study has not done so before.

    Args:
        study: the `optuna.Study`, which keeps them.
        recipe: a `SearchRecipe`.
        space: its `SearchSpace`.
        evaluator: an `Evaluator`.
        console: a `rich.console.Console`.

    Returns:
        {"backbone", "EfficientNetV2's pattern"}, each a dictionary as a trial's attributes.

    Raises:
        ConfigError: one of them cannot be trained.
    """
    found = dict(study.user_attrs.get("references", {}))
    for name, blocks in (("backbone", space.backbone_blocks()), ("EfficientNetV2's pattern", space.v2_blocks())):
        if name in found:
            continue
        console.print(f"Training to compare with: {name} ...")
        same = next((values for values in found.values() if values["blocks"] == list(blocks)), None)
        try:
            found[name] = same or _attributes(recipe, space, blocks, evaluator.evaluate(blocks))
        except CandidateError as error:
            raise ConfigError(f"{name} cannot be trained, and so there is nothing to compare with. {error}") from error
    study.set_user_attr("references", found)
    return found


def _attributes(recipe, space, blocks, measurement):
    """What is kept of a network: a dictionary that can be stored as JSON."""
    cost, backbone = space.cost(blocks), space.cost(space.backbone_blocks())
    ratio = cost.parameters / backbone.parameters
    value = _reward(recipe, measurement.accuracy, measurement.step_ratio, ratio)
    return {
        "blocks": list(blocks),
        "reward": value,
        **dataclasses.asdict(measurement),
        **dataclasses.asdict(cost),
        "parameter_ratio": ratio,
    }


def _reward(recipe, accuracy, step_ratio, parameter_ratio):
    search = recipe.search
    return reward(
        accuracy,
        step_ratio,
        parameter_ratio,
        step_time_exponent=search.step_time_exponent,
        parameters_exponent=search.parameters_exponent,
    )


def _optimize(study, recipe, space, evaluator, references, display, output):
    search = recipe.search

    def objective(trial):
        return _try(trial, study, recipe, space, evaluator, display)

    def after(study, trial):
        display.finished(trial)
        if display.evaluated >= search.trials:
            study.stop()

    if display.evaluated < search.trials:
        study.optimize(objective, timeout=60 * search.minutes or None, callbacks=[after])


def _try(trial, study, recipe, space, evaluator, display):
    """One trial: a network is drawn, and trained if it is within the limits and new."""
    blocks = space.network(trial.suggest_categorical)
    _note(trial, blocks=list(blocks), host=socket.gethostname(), process=os.getpid())
    _note(trial, **dataclasses.asdict(space.cost(blocks)))
    if excess := space.excess(blocks):
        _note(trial, refused=excess)
        raise optuna.TrialPruned
    if twin := _twin(study, trial, blocks):
        _note(trial, same_as=twin.number, **{name: twin.user_attrs[name] for name in _MEASURED})
        return twin.value
    ratio = space.cost(blocks).parameters / space.cost(space.backbone_blocks()).parameters
    display.started(trial)

    def go_on(epoch, accuracy, step_ratio):
        trial.report(_reward(recipe, accuracy, step_ratio, ratio), epoch)
        display.epoch(epoch, accuracy)
        return not trial.should_prune()

    try:
        measurement = evaluator.evaluate(blocks, go_on)
    except CandidateError as error:
        _note(trial, failed=str(error))
        return REWARD_OF_A_FAILURE
    _note(trial, **_attributes(recipe, space, blocks, measurement))
    if measurement.epochs < recipe.search.proxy_epochs:
        raise optuna.TrialPruned
    return trial.user_attrs["reward"]


_MEASURED = (
    "reward", "accuracy", "step_seconds", "step_ratio", "step_spread", "load", "epochs", "parameter_ratio"
)  # fmt: skip


def _note(trial, **values):
    for name, value in values.items():
        trial.set_user_attr(name, value)


def _twin(study, trial, blocks):
    """A trial that has trained the same network to the end, or None."""
    for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if other.number != trial.number and other.user_attrs["blocks"] == list(blocks) and "reward" in other.user_attrs:
            return other
    return None
