"""Training from a configuration; `train` reads as a table of contents."""

import contextlib
import hashlib
import pathlib
import time

import keras
from absl import logging
from rich.console import Console

from efficientnetv2_tf.progressive.callback import ProgressiveLearning
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.training import callbacks
from efficientnetv2_tf.training.building import build_classifier
from efficientnetv2_tf.training.checkpoint import Checkpoints
from efficientnetv2_tf.training.evaluation import eval_batches
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.plan import relative_costs
from efficientnetv2_tf.training.preview import draw_preview
from efficientnetv2_tf.training.profiler import ProfileSteps
from efficientnetv2_tf.training.progress import ProgressDisplay
from efficientnetv2_tf.training.results import write_results
from efficientnetv2_tf.training.run_folder import RunFolder, new_run_folder
from efficientnetv2_tf.training.strategy import (
    agree,
    check_batch,
    chief_first,
    describe,
    distribute,
    explaining_lost_workers,
    is_chief,
    make_strategy,
    num_workers,
    spread_seeds,
    worker_index,
)
from efficientnetv2_tf.training.summary import RunSummary
from efficientnetv2_tf.training.task import make_task


def train(config, run_folder=None, *, console=None):
    """Trains a network as configured, or goes on with a training that was interrupted.

    TensorFlow is loaded by then, so `runtime.onednn` is the command line's business.

    Args:
        config: a `Config`.
        run_folder: path of the folder to write to; None makes a new one under ./runs.
        console: a `rich.console.Console` for what happens; None prints to the terminal.

    Returns:
        The summary, as it stands in summary.json: a dictionary with state, accuracies, times and configuration. Of
        several workers only the first writes and returns one; the others return None.

    Raises:
        ConfigError: the configuration does not fit the data or the folder.
        DataError: the data set is not to be had.
        ClusterError: the workers did not find each other, or one was lost.
        NonFiniteLossError: the loss is infinite or no number; the last good checkpoint is kept.
        CheckpointError: a checkpoint cannot be written or read.
    """
    began = time.monotonic()
    strategy = make_strategy(config.runtime, _fingerprint(config))
    check_batch(config, strategy)
    if num_workers(strategy) > 1 and run_folder is None:
        raise ConfigError("--model_dir: expected a folder that all workers reach, for they go on from its checkpoints.")
    # The chief speaks for all.
    console = (console or Console()) if is_chief(strategy) else Console(quiet=True)
    with explaining_lost_workers(num_workers(strategy)):
        return _train(config, run_folder, strategy, console, began)


def _train(config, run_folder, strategy, console, began):
    """Opens data and folder, and keeps summary.json while the training runs."""
    with chief_first(strategy):
        task = make_task(config, console)
        folder = RunFolder(pathlib.Path(run_folder)) if run_folder else new_run_folder(task.config)
        if is_chief(strategy):
            folder.claim(task.config)
        tell = console.print if is_chief(strategy) else logging.warning
        task = task.writing_bad_images(folder.bad_images(worker_index(strategy)), tell)
    console.print(
        f"Writing to {folder.path}. Should it be interrupted: --mode=train --hparams={folder.config} "
        f"--model_dir={folder.path} goes on.",
        soft_wrap=True,
    )
    if not is_chief(strategy):
        return _run(task, folder, strategy, None, console)
    with RunSummary(folder, task, strategy, began).recording() as summary:
        _run(task, folder, strategy, summary, console)
    return summary.values


def _run(task, folder, strategy, summary, console):
    console.print(describe(strategy))
    keras.utils.set_random_seed(task.config.runtime.seed)
    controls = StageControls(task.plan[0])
    console.print(f"Building {task.config.model.name} for {task.source.num_classes} classes ...")
    with strategy.scope():
        classifier = build_classifier(task.config, strategy, task.steps_per_epoch, task.epochs)
    with chief_first(strategy):
        checkpoints = Checkpoints(
            folder.checkpoints, classifier, task.config.train.keep_checkpoints, writes=is_chief(strategy)
        )
    epoch, batch = _resume(checkpoints, task, strategy, console)
    spread_seeds(strategy, classifier.seeds)
    controls.first_batch.assign(batch)
    with task.bad_images.telling():
        if is_chief(strategy) and not folder.augmentation_picture.exists():
            draw_preview(task, folder.augmentation_picture)
        if epoch < task.epochs:
            _fit(classifier, task, strategy, controls, checkpoints, (epoch, batch), folder, summary, console)
        _finish(classifier, task, strategy, folder, summary, console)


def _fingerprint(config):
    """Of all that workers have to have in common; their files may lie in different places."""
    data = config.data.model_copy(update={"data_dir": None, "cache_dir": None})
    return hashlib.sha256(repr(config.model_copy(update={"data": data})).encode()).hexdigest()


def _resume(checkpoints, task, strategy, console):
    """(epoch, batch) of the first step to do."""
    position = checkpoints.restore()
    if not agree(strategy, position[0] * task.steps_per_epoch + position[1] + 1 if position else 0):
        raise ConfigError(
            f"The workers found different checkpoints in {checkpoints.folder}. --model_dir should be one folder that "
            "all of them reach."
        )
    if position is None:
        return 0, 0
    epoch, batch = position
    if batch >= task.steps_per_epoch:  # saved after the epoch's last step, and stopped before its end
        position = epoch, batch = epoch + 1, 0
    if epoch >= task.epochs:
        console.print(f"All {task.epochs} epochs were trained before; evaluating and writing the results again.")
    else:
        console.print(f"Going on from a checkpoint at epoch {epoch + 1}, step {batch + 1} of {task.steps_per_epoch}.")
    return position


def _fit(classifier, task, strategy, controls, checkpoints, position, folder, summary, console):
    """One `fit` for the whole training."""
    epoch, batch = position
    train_config = task.config.train
    progress = ProgressiveLearning(task.plan, controls)
    display = ProgressDisplay(
        console,
        progress,
        relative_costs(task.config, task.plan),
        batch_size=task.config.data.batch_size,
        steps_per_epoch=task.steps_per_epoch,
        epochs=task.epochs,
        first_batch=batch,
    )
    # In this order: the stage's values first, then what may stop the training, then what shows and writes.
    steps = [
        progress,
        callbacks.NonFiniteGuard(progress),
        callbacks.Evaluation(eval_batches(task, strategy), train_config.eval_every_epochs, task.epochs, display),
        display,
        *(_writing(task, folder, epoch, summary, console) if is_chief(strategy) else []),
        callbacks.Checkpointing(checkpoints, train_config.checkpoint_every_steps, batch),
    ]
    with contextlib.closing(display):
        for first, end, number in _segments(task, epoch, batch):
            # With their number known, Keras never asks for a batch more than there are.
            batches = distribute(strategy, lambda shard: task.train_batches(controls, shard), number)
            classifier.fit(batches, epochs=end, initial_epoch=first, callbacks=steps, verbose=0, shuffle=False)


def _writing(task, folder, epoch, summary, console):
    """The callbacks of the chief, which write what happens into the folder."""
    profile = task.config.runtime.profile_steps
    return [
        callbacks.MetricsLog(folder.metrics, folder.tensorboard, epoch),
        summary.callback(),
        *([ProfileSteps(folder.tensorboard, profile, console.print)] if profile else []),
    ]


def _segments(task, epoch, batch):
    """(first epoch, end epoch, batches an epoch) of each `fit`: one, or two after a restart inside an epoch.

    Keras takes the number of batches of the first epoch for that of all.
    """
    whole = task.steps_per_epoch
    if not batch:
        return [(epoch, task.epochs, whole)]
    rest = [(epoch + 1, task.epochs, whole)] if epoch + 1 < task.epochs else []
    return [(epoch, epoch + 1, whole - batch), *rest]


def _finish(classifier, task, strategy, folder, summary, console):
    """Evaluates, saves the averaged weights, draws, and sums up."""
    batches = eval_batches(task, strategy)
    console.print("Evaluating and saving ...")
    raw = classifier.evaluate(batches, verbose=0, return_dict=True)
    averaged = callbacks.evaluate_averaged(classifier, batches)
    # The chief's files are whole before the others end.
    with chief_first(strategy):
        if is_chief(strategy):
            write_results(classifier, task, folder, summary, console, (raw, averaged))
