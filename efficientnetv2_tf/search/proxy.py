"""Short trainings of candidates, one after the other, in a process of their own (`python -m` of this module).

Out of memory it ends, and not the search. It reads and writes lines of JSON: first the recipe comes in, then for each
candidate its block strings; out go the time of its training step, and the accuracy of each epoch, after which it asks
whether to go on.
"""

import dataclasses
import io
import json
import os
import statistics
import tempfile
import time

import keras
import rich.console
import tensorflow as tf

from efficientnetv2_tf.child_process import answer_lines
from efficientnetv2_tf.data.sources import DataError
from efficientnetv2_tf.progressive.callback import ProgressiveLearning
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.search.hparams import SearchRecipe, proxy_config
from efficientnetv2_tf.training.building import build_classifier
from efficientnetv2_tf.training.callbacks import Evaluation
from efficientnetv2_tf.training.checkpoint import Checkpoints
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.nonfinite import NonFiniteGuard
from efficientnetv2_tf.training.strategy import distribute_epochs
from efficientnetv2_tf.training.task import make_task

_WARM_UP = 2  # steps, after the one that compiles
_ROUNDS = 15  # of measuring candidate and backbone in turns
_SHORTEST = 0.05  # s that a measurement takes at least, by more steps


class ProxyTraining:
    """Trains and measures candidates as a recipe says; one at a time, on one device.

    Args:
        recipe: a `SearchRecipe`.

    Attributes:
        num_classes: of the data set.

    Raises:
        ConfigError: the recipe does not fit the data.
        DataError: the data set is not to be had.
    """

    def __init__(self, recipe):
        self._recipe = recipe
        # Opened once: listing a large data set may take minutes.
        self._opened = make_task(proxy_config(recipe), rich.console.Console(file=io.StringIO()))
        self.num_classes = self._opened.source.num_classes
        self._backbone = None  # its steps are built where the first candidate's are measured

    def evaluate(self, blocks, tell):
        """Measures the training step, then trains.

        Args:
            blocks: block strings.
            tell: called with a dictionary, first {"step_seconds", "step_ratio", "step_spread", "load"}, then, after
                each epoch, {"epoch", "accuracy", "loss"} of the evaluation. False ends the training.

        Raises:
            NonFiniteError: the loss or a gradient is not finite.
        """
        task = self._task(blocks)
        keras.utils.set_random_seed(task.config.runtime.seed)
        classifier = _classifier(task)
        with tempfile.TemporaryDirectory() as folder:
            # What the measured steps teach is taken back.
            checkpoints = Checkpoints(folder, classifier)
            checkpoints.save(0)
            self._backbone = self._backbone or _Steps(self._task(None))
            tell(measure(_Steps(task, classifier), self._backbone))
            checkpoints.restore()
        controls = StageControls(task.plan[0])
        progress = ProgressiveLearning(task.plan, controls)
        guard = NonFiniteGuard("stop", progress, lambda *_: "")
        evaluation = Evaluation(task.eval_batches(), 1, task.epochs)
        steps = task.steps_per_epoch
        classifier.fit(
            distribute_epochs(tf.distribute.get_strategy(), lambda shard: task.train_batches(controls, shard), steps),
            epochs=task.epochs,
            steps_per_epoch=steps,
            callbacks=[progress, guard, evaluation, _Report(tell)],
            verbose=0,
            shuffle=False,
        )

    def _task(self, blocks):
        """The task with another network; None is the backbone."""
        wanted, config = proxy_config(self._recipe, blocks).model, self._opened.config
        names = ("blocks", "width_coefficient", "depth_coefficient", "feature_size")
        model = config.model.model_copy(update={name: getattr(wanted, name) for name in names})
        return dataclasses.replace(self._opened, config=config.model_copy(update={"model": model}))


class _NobodyAsksError(Exception):
    """The search has ended."""


class _Report(keras.callbacks.Callback):
    def __init__(self, tell):
        super().__init__()
        self._tell = tell

    def on_epoch_end(self, epoch, logs=None):
        values = {"epoch": epoch, "accuracy": float(logs["val_accuracy"]), "loss": float(logs["val_loss"])}
        if not self._tell(values):
            self.model.stop_training = True


def _classifier(task):
    return build_classifier(task.config, tf.distribute.get_strategy(), task.steps_per_epoch, task.epochs)


class _Steps:
    """Training steps of a network on a batch that is in memory, so that no input pipeline is measured."""

    def __init__(self, task, classifier=None):
        self._classifier = classifier or _classifier(task)
        self._classifier.make_train_function()
        batch = next(iter(task.train_batches(StageControls(task.plan[0]))))
        self._batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
        for _ in range(1 + _WARM_UP):
            self.run()
        began = time.perf_counter()
        self.run()
        self._number = max(1, round(_SHORTEST / (time.perf_counter() - began)))

    def run(self):
        # The value is there when the step has ended, on a GPU as well.
        return float(self._classifier.train_function(self._batches)["loss"])

    def seconds(self):
        """Of a step, the mean of as many as take long enough to be measured."""
        began = time.perf_counter()
        for _ in range(self._number):
            self.run()
        return (time.perf_counter() - began) / self._number


def measure(candidate, backbone, rounds=_ROUNDS):
    """The time of a training step, beside the backbone's.

    Both take turns, so that what else runs on the machine slows both: the ratio stays where the seconds do not.

    Args:
        candidate: has a method `seconds` that takes one measurement.
        backbone: likewise.
        rounds: number of measurements of each.

    Returns:
        A dictionary with the medians `step_seconds` and `step_ratio` (candidate / backbone), `step_spread` (half the
        range of the middle half of the rounds' ratios, as a share of the ratio), and `load`: how many processes
        wanted to run at the end, on average over a minute, per CPU (None where the system does not count).
    """
    pairs = [(candidate.seconds(), backbone.seconds()) for _ in range(rounds)]
    ratios = [mine / other for mine, other in pairs]
    lower, middle, upper = statistics.quantiles(ratios, n=4)
    return {
        "step_seconds": statistics.median(mine for mine, _ in pairs),
        "step_ratio": middle,
        "step_spread": (upper - lower) / 2 / middle,
        "load": os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else None,
    }


def _serve(lines, tell):
    """Answers requests until there are no more."""
    recipe = SearchRecipe.model_validate_json(next(lines))

    def ask(values):
        tell(values)
        if "epoch" not in values:
            return True
        answer = next(lines, None)
        if answer is None:
            raise _NobodyAsksError
        return json.loads(answer)

    try:
        training = ProxyTraining(recipe)
    except (DataError, ConfigError) as error:
        tell({"error": str(error)})
        return
    tell({"num_classes": training.num_classes})
    for line in lines:
        try:
            training.evaluate(json.loads(line), ask)
            tell({"done": True})
        except DataError as error:
            tell({"error": str(error)})
        except _NobodyAsksError:
            return
        except Exception as error:  # whatever is wrong with this network, the next one may be better
            tell({"failed": " ".join(f"{type(error).__name__}: {error}".split())})


def _main():
    for gpu in tf.config.list_physical_devices("GPU"):  # others may search on it too
        tf.config.experimental.set_memory_growth(gpu, True)
    answer_lines(_serve)


if __name__ == "__main__":
    _main()
