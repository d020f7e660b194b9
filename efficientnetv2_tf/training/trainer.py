"""Training and evaluation from a configuration; `train` reads as a table of contents."""

import contextlib
import hashlib
import pathlib
import time

import keras
import tensorflow as tf
from absl import logging
from rich.console import Console

from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.progressive.callback import ProgressiveLearning
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import stage_at
from efficientnetv2_tf.training import callbacks, pictures
from efficientnetv2_tf.training.best_checkpoint import BestCheckpoint, read_best
from efficientnetv2_tf.training.checkpoint import Checkpoints
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.diagnosis import find_cause
from efficientnetv2_tf.training.ema import MovingAverage
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.interruption import StopSignals, StopWhenTold
from efficientnetv2_tf.training.nonfinite import NonFiniteGuard, fit_with_rollbacks
from efficientnetv2_tf.training.optimizers import make_optimizer
from efficientnetv2_tf.training.plan import relative_costs
from efficientnetv2_tf.training.position import evaluation_is_due, finish_epoch, next_step, resume, segments
from efficientnetv2_tf.training.precision import choose_precision, dtype_policy
from efficientnetv2_tf.training.preview import draw_preview
from efficientnetv2_tf.training.progress import ProgressDisplay
from efficientnetv2_tf.training.run_folder import RunFolder, new_run_folder, write_json
from efficientnetv2_tf.training.schedule import make_schedule
from efficientnetv2_tf.training.strategy import (
    check_batch,
    chief_first,
    describe,
    distribute,
    explaining_lost_workers,
    input_shard,
    is_chief,
    make_strategy,
    num_workers,
    replica_normalization,
)
from efficientnetv2_tf.training.task import make_task


def train(config, run_folder=None, *, console=None):
    """Trains a network as configured, or goes on with a training that was interrupted.

    TensorFlow is loaded by then, so `runtime.onednn` is the command line's business.

    Args:
        config: a `Config`.
        run_folder: path of the folder to write to; None makes a new one under ./runs.
        console: a `rich.console.Console` for what happens; None prints to the terminal.

    Returns:
        The summary, as it stands in summary.json: a dictionary with accuracies, times and file names. Of several
        workers only the first writes and returns one; the others return None.

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
    with chief_first(strategy):
        task = make_task(config, console)
        folder = RunFolder(pathlib.Path(run_folder)) if run_folder else new_run_folder(task.config)
        if is_chief(strategy):
            for change in folder.claim(task.config):
                console.print(f"Going on with a changed configuration: {change}", markup=False)
            task = task.writing_bad_images(folder.bad_images, console.print)
        else:
            task = task.writing_bad_images(None, logging.warning)
    console.print(f"Writing to {folder.path}. Should it be interrupted: {folder.how_to_go_on}", soft_wrap=True)
    console.print(describe(strategy))
    keras.utils.set_random_seed(task.config.runtime.seed)
    controls = StageControls(task.plan[0])
    console.print(f"Building {task.config.model.name} for {task.source.num_classes} classes ...")
    with strategy.scope():
        classifier = _build_classifier(task, strategy)
    with chief_first(strategy):
        checkpoints = Checkpoints(
            folder.checkpoints, classifier, task.config.train.keep_checkpoints, writes=is_chief(strategy)
        )

    def fit(position):
        _fit(classifier, task, strategy, controls, checkpoints, position, folder, console)

    with _telling_of(task.bad_images):
        if is_chief(strategy) and not folder.augmentation_picture.exists():
            draw_preview(task, folder.augmentation_picture)
        fit_with_rollbacks(
            fit,
            lambda: resume(checkpoints, classifier, task, strategy, console),
            checkpoints,
            task.config.train.on_nonfinite,
            console.print,
        )
        return _finish(classifier, task, strategy, folder, console, began)


def evaluate(run_folder, *, data_dir=None, console=None):
    """Evaluates the network that a training left in its folder, over every evaluation image once.

    Args:
        run_folder: path of the folder.
        data_dir: where the data set lies now; None is where it was.
        console: a `rich.console.Console`; None prints to the terminal.

    Returns:
        A dictionary with `loss`, `accuracy` and `images`.

    Raises:
        ConfigError: the folder holds no finished training.
    """
    console = console or Console()
    folder = RunFolder(pathlib.Path(run_folder))
    config = folder.read_config()
    if not folder.model.exists():
        raise ConfigError(f"{folder.model} was not found. Finish the training first (--mode=train).")
    if data_dir:
        config = config.model_copy(update={"data": config.data.model_copy(update={"data_dir": str(data_dir)})})
    task = make_task(config, console)
    with dtype_policy(choose_precision(config.runtime.mixed_precision)):  # a .keras file of ours does not keep it
        network = keras.models.load_model(folder.model, compile=False)
    classifier = Classifier(network, multi_label=config.data.multi_label)
    classifier.compile(jit_compile=False)
    with _telling_of(task.bad_images):
        results = classifier.evaluate(task.eval_batches(), verbose=0, return_dict=True)
    console.print(
        f"Test accuracy {results['accuracy']:.4f} (loss {results['loss']:.4f}) over {task.eval_images} images, "
        "averaged weights."
    )
    return {**results, "images": task.eval_images}


def _fingerprint(config):
    """Of all that workers have to have in common; their files may lie in different places."""
    data = config.data.model_copy(update={"data_dir": None, "cache_dir": None})
    return hashlib.sha256(repr(config.model_copy(update={"data": data})).encode()).hexdigest()


def _build_classifier(task, strategy):
    """Network, moving average and optimizer, with all their variables made before anything is traced."""
    model, train_config = task.config.model, task.config.train
    precision = choose_precision(task.config.runtime.mixed_precision)
    with dtype_policy(precision):
        network = get_model(
            model.name,
            num_classes=model.num_classes,
            blocks=model.blocks,
            width_coefficient=model.width_coefficient,
            depth_coefficient=model.depth_coefficient,
            feature_size=model.feature_size,
            dropout_rate=model.dropout_rate,
            drop_connect_rate=model.drop_connect_rate,
            activation=model.activation,
            normalization=replica_normalization(model.normalization, strategy),
            classifier_initializer=model.classifier_initializer,
            preprocessing=task.config.data.preprocessing,
            weights=train_config.init_weights,
        )
    classifier = Classifier(
        network,
        multi_label=task.config.data.multi_label,
        label_smoothing=train_config.label_smoothing,
        l2=0.0 if train_config.optimizer == "adamw" else train_config.weight_decay,
        average=MovingAverage(network.weights, train_config.ema_decay) if train_config.ema_decay else None,
    )
    schedule = make_schedule(train_config, task.config.data.batch_size, task.steps_per_epoch, task.epochs)
    optimizer = make_optimizer(
        train_config, schedule, network.trainable_variables, loss_scaling=precision == "mixed_float16"
    )
    # XLA on CPUs made the step 4 times slower, and would compile each image size anew elsewhere.
    classifier.compile(optimizer=optimizer, jit_compile=False, auto_scale_loss=False)
    return classifier


@contextlib.contextmanager
def _telling_of(bad_images):
    """Raises the error of the data pipeline as it was, where TensorFlow made one of its own kind of it."""
    try:
        yield
    except tf.errors.OpError:
        if bad_images.error:
            raise bad_images.error from None
        raise


def _fit(classifier, task, strategy, controls, checkpoints, position, folder, console):
    """One `fit` for the whole training."""
    epoch, batch = next_step(position, task)
    controls.first_batch.assign(batch)
    train_config, rollbacks = task.config.train, int(checkpoints.rollbacks.numpy())
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
    signals = StopSignals(console.print)
    checkpointing = callbacks.Checkpointing(
        checkpoints, train_config.checkpoint_every_steps, train_config.checkpoint_every_minutes, batch
    )
    stop = StopWhenTold(signals, checkpointing, num_workers(strategy), folder.how_to_go_on)
    guard = NonFiniteGuard(
        train_config.on_nonfinite,
        progress,
        lambda *where: _find_cause(classifier, task, strategy, rollbacks, *where),
        console.print,
        batch,
    )
    due = evaluation_is_due(position, task, folder, strategy)
    # A checkpoint comes before the evaluation, which then may be interrupted.
    after_epoch = [
        callbacks.Evaluation(
            _eval_batches(task, strategy), train_config.eval_every_epochs, task.epochs, (display, stop)
        ),
        *([callbacks.MetricsLog(folder.metrics, folder.tensorboard, epoch - due)] if is_chief(strategy) else []),
        *([BestCheckpoint(checkpoints)] if is_chief(strategy) else []),
    ]
    with contextlib.closing(display), signals:
        if due:
            finish_epoch(classifier, epoch - 1, [progress, *after_epoch])
        for first, end, number in segments(task, epoch, batch):
            # With their number known, Keras never asks for a batch more than there are.
            batches = distribute(strategy, lambda shard: task.train_batches(controls, shard, rollbacks), number)
            classifier.fit(
                batches,
                epochs=end,
                initial_epoch=first,
                # In this order: the stage's values first, then what may stop the training, then what writes.
                callbacks=[progress, guard, checkpointing, stop, *after_epoch, display],
                verbose=0,
                shuffle=False,
            )


def _find_cause(classifier, task, strategy, rollbacks, epoch, batch):
    """Why a step was not finite; its batch is made once more, as everything random in it follows from its position."""
    controls = StageControls()
    controls.assign(stage_at(task.plan, epoch), epoch)
    controls.first_batch.assign(batch)
    images, labels = next(iter(task.train_batches(controls, input_shard(strategy), rollbacks)))
    return find_cause(classifier, images, labels, parts=strategy.num_replicas_in_sync // num_workers(strategy))


def _eval_batches(task, strategy):
    """The evaluation batches, those of several replicas all full."""
    replicas, images = strategy.num_replicas_in_sync, task.config.data.eval_batch_size
    if replicas == 1:
        return task.eval_batches()
    workers = num_workers(strategy)
    batch_size = -(-images // replicas) * replicas // workers  # of a worker
    rows = max(task.source.eval.shard_sizes(workers))
    return distribute(strategy, lambda shard: task.eval_batches(shard, batch_size), -(-rows // batch_size))


def _finish(classifier, task, strategy, folder, console, began):
    """Evaluates, saves the averaged weights, draws, and sums up."""
    batches = _eval_batches(task, strategy)
    console.print("Evaluating and saving ...")
    raw = classifier.evaluate(batches, verbose=0, return_dict=True)
    averaged = callbacks.evaluate_averaged(classifier, batches)
    # The chief's files are whole before the others end.
    with chief_first(strategy):
        return _write_results(classifier, task, folder, console, began, (raw, averaged)) if is_chief(strategy) else None


def _write_results(classifier, task, folder, console, began, results):
    raw, averaged = results
    average = classifier.average.applied() if classifier.average else contextlib.nullcontext()
    with average, replacing(folder.model) as temporary:
        _portable(classifier.network, task.config.model.normalization).save(temporary)
    write_json(folder.classes, list(task.source.class_names))
    rows = callbacks.read_metrics(folder.metrics)
    pictures.draw_training(
        rows, folder.training_picture, f"{task.config.model.name} on {task.source.name}: {averaged['accuracy']:.2%}"
    )
    summary = {
        "model": task.config.model.name,
        "dataset": task.source.name,
        "parameters": classifier.network.count_params(),
        "epochs": task.epochs,
        "steps": int(classifier.optimizer.iterations.numpy()),
        "test_images": task.eval_images,
        "bad_images": {split: len(task.bad_images.known(split)) for split in ("train", "eval")},
        "test_accuracy": averaged["accuracy"],
        "test_loss": averaged["loss"],
        "test_accuracy_raw": raw["accuracy"],
        "test_loss_raw": raw["loss"],
        "best": read_best(folder.checkpoints),
        "training_seconds": round(sum(row["seconds"] for row in rows), 1),
        "seconds": round(time.monotonic() - began, 1),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }
    write_json(folder.summary, summary)
    console.print(
        f"Test accuracy {averaged['accuracy']:.4f} with averaged weights, {raw['accuracy']:.4f} with raw weights, "
        f"over {task.eval_images} images.\nTook {summary['seconds']:.0f} s. Written to {folder.path}: "
        + ", ".join(sorted(path.name for path in folder.path.iterdir() if not path.name.startswith(".")))
    )
    return summary


def _portable(network, normalization):
    """The network with the configured normalisation, where several replicas were trained with another."""
    if network.normalization == normalization:
        return network
    copy = network.from_config({**network.get_config(), "normalization": normalization})
    copy.set_weights(network.get_weights())
    return copy
