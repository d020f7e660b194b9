"""The trainings that `progressive.py` compares, in a process of their own (`python -m` of this module).

One compiled training step serves all of them: image size is open in its graph, dropout is a variable, and before each
training everything else goes back to what its seed gives. They take turns, so that a machine that slows down does so
for all.
"""

import dataclasses
import hashlib
import io
import json
import pathlib
import statistics
import tempfile
import time

import keras
import rich.console
import tensorflow as tf

from efficientnetv2_tf.benchmark.progressive import ARMS, arm_config
from efficientnetv2_tf.child_process import answer_lines
from efficientnetv2_tf.progressive.callback import ProgressiveLearning
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.training.building import build_classifier
from efficientnetv2_tf.training.callbacks import Evaluation, evaluate_averaged
from efficientnetv2_tf.training.checkpoint import Checkpoints
from efficientnetv2_tf.training.hparams import Config
from efficientnetv2_tf.training.nonfinite import NonFiniteGuard
from efficientnetv2_tf.training.plan import make_plan
from efficientnetv2_tf.training.startup import load_tensorflow
from efficientnetv2_tf.training.strategy import distribute_epochs
from efficientnetv2_tf.training.task import make_task

_WARM_UP = 2  # steps at each image size


class _Trainings:
    """Trains one network again and again, from the beginning.

    Args:
        config: a `Config`, the recipe of the arm in which everything grows.
        seeds: of the trainings.
        folder: for the initial values of each seed.
    """

    def __init__(self, config, seeds, folder):
        self._task = make_task(config, rich.console.Console(file=io.StringIO()))
        self._controls = StageControls(self._task.plan[0])
        self._evaluation = self._task.eval_batches()
        self._classifier = None
        for seed in seeds:
            keras.utils.set_random_seed(seed)
            classifier = build_classifier(
                self._task.config, tf.distribute.get_strategy(), self._task.steps_per_epoch, self._task.epochs
            )
            Checkpoints(folder / str(seed), classifier).save(0)
            self._classifier = self._classifier or classifier
        self._initial = {seed: Checkpoints(folder / str(seed), self._classifier) for seed in seeds}
        self._batches = {seed: self._train_batches(seed) for seed in seeds}

    def warm_up(self):
        """Runs the step at every image size, so that compiling and the libraries' own preparations are not timed."""
        batches = next(iter(self._batches.values())).take(_WARM_UP)
        for stage in self._task.plan:
            self._controls.assign(stage)
            self._classifier.fit(batches, verbose=0, shuffle=False)
        evaluate_averaged(self._classifier, self._evaluation)

    def train(self, arm, seed):
        """One training.

        Returns:
            A dictionary: arm, seed, `initial` (a fingerprint of the weights that it began with), and `epochs`, a list
            of {"seconds": of the epoch's steps, "wall_seconds": of the epoch without its evaluation, "accuracy" and
            "loss": of the averaged weights on the test set}.
        """
        self._initial[seed].restore()
        initial = _fingerprint(self._classifier)
        progress = ProgressiveLearning(make_plan(arm_config(self._task.config, arm)), self._controls)
        clock = _Clock()
        guard = NonFiniteGuard("stop", progress, lambda *_: "")
        history = self._classifier.fit(
            self._batches[seed],
            epochs=self._task.epochs,
            steps_per_epoch=self._task.steps_per_epoch,
            callbacks=[clock, progress, guard, Evaluation(self._evaluation, 1, self._task.epochs)],
            verbose=0,
            shuffle=False,
        )
        evaluated = history.history["val_accuracy"], history.history["val_loss"]
        epochs = [
            {**times, "accuracy": accuracy, "loss": loss}
            for times, accuracy, loss in zip(clock.epochs, *evaluated, strict=True)
        ]
        return {"arm": arm, "seed": seed, "initial": initial, "epochs": epochs}

    def _train_batches(self, seed):
        runtime = self._task.config.runtime.model_copy(update={"seed": seed})
        config = self._task.config.model_copy(update={"runtime": runtime})
        task = dataclasses.replace(self._task, config=config)
        strategy, steps = tf.distribute.get_strategy(), self._task.steps_per_epoch
        return distribute_epochs(strategy, lambda shard: task.train_batches(self._controls, shard), steps)


class _Clock(keras.callbacks.Callback):
    """Times epochs and their steps; as the first of the callbacks it leaves evaluations out."""

    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self._steps = []
        self._began = time.perf_counter()

    def on_train_batch_begin(self, batch, logs=None):
        self._step_began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._steps.append(time.perf_counter() - self._step_began)

    def on_epoch_end(self, epoch, logs=None):
        # The first step waits until the epoch's input pipeline has started, which takes as long at every image size.
        self.epochs.append(
            {
                "seconds": statistics.mean(self._steps[1:] or self._steps) * len(self._steps),
                "wall_seconds": time.perf_counter() - self._began,
            }
        )


def _fingerprint(classifier):
    digest = hashlib.sha256()
    for variable in classifier.network.weights:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()[:16]


def _serve(lines, tell):
    request = json.loads(next(lines))
    load_tensorflow()  # starts it as for every training; oneDNN is the environment's, which was read by the import
    config, seeds = Config.model_validate_json(json.dumps(request["config"])), request["seeds"]
    with tempfile.TemporaryDirectory() as folder:
        trainings = _Trainings(config, seeds, pathlib.Path(folder))
        trainings.warm_up()
        for seed in seeds:
            for arm in ARMS:
                tell(trainings.train(arm, seed))


if __name__ == "__main__":
    answer_lines(_serve)
