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
from efficientnetv2_tf.progressive.stages import stage_at
from efficientnetv2_tf.training import callbacks
from efficientnetv2_tf.training.best_checkpoint import BestCheckpoint
from efficientnetv2_tf.training.building import build_classifier
from efficientnetv2_tf.training.checkpoint import Checkpoints
from efficientnetv2_tf.training.diagnosis import find_cause
from efficientnetv2_tf.training.evaluation import eval_batches
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.interruption import StopWhenTold
from efficientnetv2_tf.training.nonfinite import NonFiniteGuard, fit_with_rollbacks
from efficientnetv2_tf.training.plan import relative_costs
from efficientnetv2_tf.training.position import evaluation_is_due, finish_epoch, next_step, resume, segments
from efficientnetv2_tf.training.preview import draw_preview
from efficientnetv2_tf.training.profiler import ProfileSteps
from efficientnetv2_tf.training.progress import ProgressDisplay
from efficientnetv2_tf.training.results import write_results
from efficientnetv2_tf.training.run_folder import RunFolder, new_run_folder
from efficientnetv2_tf.training.stopping import StopSignals
from efficientnetv2_tf.training.strategy import (
    check_batch,
    chief_first,
    describe,
    distribute_epochs,
    explaining_lost_workers,
    input_shard,
    is_chief,
    make_strategy,
    num_workers,
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
        NonFiniteError: the loss or a gradient is not finite; the last good checkpoint is kept.
        CheckpointError: a checkpoint cannot be written or read.
        Interrupted: a `KeyboardInterrupt`, after SIGTERM or Ctrl-C; where it stands is saved.
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
            for change in folder.claim(task.config):
                console.print(f"Going on with a changed configuration: {change}", markup=False)
        tell = console.print if is_chief(strategy) else logging.warning
        task = task.writing_bad_images(folder.bad_images(worker_index(strategy)), tell)
    console.print(f"Writing to {folder.path}. Should it be interrupted: {folder.how_to_go_on}", soft_wrap=True)
    with StopSignals(console.print, folder.how_to_go_on) as signals:
        if not is_chief(strategy):
            return _run(task, folder, strategy, None, console, signals)
        with RunSummary(folder, task, strategy, began).recording() as summary:
            _run(task, folder, strategy, summary, console, signals)
    return summary.values


def _run(task, folder, strategy, summary, console, signals):
    console.print(describe(strategy))
    keras.utils.set_random_seed(task.config.runtime.seed)
    controls = StageControls(task.plan[0])
    console.print(f"Building {task.config.model.name} for {task.source.num_classes} classes ...")
    with strategy.scope():
        classifier = build_classifier(task.config, strategy, task.steps_per_epoch, task.epochs)
    with chief_first(strategy):
        checkpoints = Checkpoints(
            folder.checkpoints,
            classifier,
            task.config.train.keep_checkpoints,
            writes=is_chief(strategy),
            marker=folder.config,
        )

    def fit(position):
        return _fit(classifier, task, strategy, controls, checkpoints, position, folder, summary, console, signals)

    with task.bad_images.telling():
        if is_chief(strategy) and not folder.augmentation_picture.exists():
            draw_preview(task, folder.augmentation_picture)
        with signals.held():
            watchers = fit_with_rollbacks(
                fit,
                lambda: resume(checkpoints, classifier, task, strategy, console),
                checkpoints,
                task.config.train.on_nonfinite,
                console.print,
            )
            results = _evaluate(classifier, task, strategy, console, *watchers)
        # The chief's files are whole before the others end.
        with chief_first(strategy):
            if is_chief(strategy):
                write_results(classifier, task, folder, summary, console, results)


def _fingerprint(config):
    """Of all that workers have to have in common; their files may lie in different places."""
    data = config.data.model_copy(update={"data_dir": None, "cache_dir": None})
    return hashlib.sha256(repr(config.model_copy(update={"data": data})).encode()).hexdigest()


def _fit(classifier, task, strategy, controls, checkpoints, position, folder, summary, console, signals):
    """One `fit` for the whole training; gives the callbacks that also watch the evaluation after it."""
    epoch, batch = next_step(position, task)
    controls.first_batch.assign(batch)
    train_config, rollbacks = task.config.train, int(checkpoints.rollbacks.numpy())
    progress = ProgressiveLearning(task.plan, controls)
    display = ProgressDisplay(
        console,
        task.plan,
        relative_costs(task.config, task.plan),
        batch_size=task.config.data.batch_size,
        steps_per_epoch=task.steps_per_epoch,
        epochs=task.epochs,
        first_epoch=position[0],
        first_batch=batch,
    )
    checkpointing = callbacks.Checkpointing(
        checkpoints, train_config.checkpoint_every_steps, train_config.checkpoint_every_minutes, batch
    )
    stop = StopWhenTold(signals, checkpointing, strategy)
    guard = NonFiniteGuard(
        train_config.on_nonfinite,
        progress,
        lambda *where: _find_cause(classifier, task, strategy, rollbacks, *where),
        console.print,
        batch,
    )
    evaluation = callbacks.Evaluation(
        eval_batches(task, strategy), train_config.eval_every_epochs, task.epochs, (display, stop)
    )
    release = callbacks.ReleaseMemory()
    due = evaluation_is_due(position, task, folder, strategy)
    writing = _writing(checkpoints, folder, epoch - due, summary) if is_chief(strategy) else []
    profiling = _profiling(task, folder, strategy, console)
    with contextlib.closing(display), _all_closed(profiling):
        if due:
            finish_epoch(classifier, epoch - 1, [progress, evaluation, *writing])
        for first, end, number in segments(task, epoch, batch):
            batches = distribute_epochs(strategy, lambda shard: task.train_batches(controls, shard, rollbacks), number)
            classifier.fit(
                batches,
                epochs=end,
                initial_epoch=first,
                steps_per_epoch=number,
                # In this order: the stage's values first, then what may stop the training; a checkpoint comes before
                # the evaluation, which may be interrupted; then what shows, and what writes it down.
                callbacks=[progress, guard, checkpointing, stop, evaluation, display, *writing, *profiling, release],
                verbose=0,
                shuffle=False,
            )
    return display, stop


def _writing(checkpoints, folder, epoch, summary):
    """The callbacks of the chief, which write down how an epoch ended."""
    # metrics.csv tells a restart that an epoch was evaluated, so it comes after what would be lost.
    return [
        BestCheckpoint(checkpoints),
        callbacks.MetricsLog(folder.metrics, folder.tensorboard, epoch),
        summary.callback(),
    ]


@contextlib.contextmanager
def _all_closed(things):
    with contextlib.ExitStack() as stack:
        for thing in things:
            stack.callback(thing.close)
        yield


def _profiling(task, folder, strategy, console):
    steps = task.config.runtime.profile_steps
    return [ProfileSteps(folder.tensorboard, steps, console.print)] if steps and is_chief(strategy) else []


def _find_cause(classifier, task, strategy, rollbacks, epoch, batch):
    """Why a step was not finite; its batch is made once more, as everything random in it follows from its position."""
    controls = StageControls()
    controls.assign(stage_at(task.plan, epoch), epoch)
    controls.first_batch.assign(batch)
    images, labels = next(iter(task.train_batches(controls, input_shard(strategy), rollbacks)))
    parts = strategy.num_replicas_in_sync // num_workers(strategy) * task.config.train.accumulate_steps
    return find_cause(classifier, images, labels, parts=parts)


def _evaluate(classifier, task, strategy, console, display, stop):
    """Loss and accuracy of (raw weights, averaged weights), as dictionaries."""
    batches, watchers = eval_batches(task, strategy), (display, stop)
    console.print("Evaluating and saving ...")
    with contextlib.closing(display):
        raw = classifier.evaluate(batches, verbose=0, return_dict=True, callbacks=list(watchers))
        return raw, callbacks.evaluate_averaged(classifier, batches, watchers)
