"""Evaluation of what a training left, on all the devices there are, over every image once."""

import pathlib

import keras
from rich.console import Console

from efficientnetv2_tf.networks.precision import dtype_policy
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.cluster import evaluation_runtime
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.precision import choose_precision
from efficientnetv2_tf.training.run_folder import RunFolder
from efficientnetv2_tf.training.strategy import (
    describe,
    distribute,
    explaining_lost_workers,
    is_chief,
    make_strategy,
    num_workers,
)
from efficientnetv2_tf.training.task import make_task


def evaluate(run_folder, *, data_dir=None, console=None):
    """Evaluates the network that a training left in its folder, over every evaluation image once.

    It runs on what this machine or cluster has, as with `runtime.strategy=auto`, because that is seldom what the
    training ran on; a training with `one_device` is evaluated on one.

    Args:
        run_folder: path of the folder.
        data_dir: where the data set lies now; None is where it was.
        console: a `rich.console.Console`; None prints to the terminal.

    Returns:
        A dictionary with `loss`, `accuracy` and `images`; the same for each worker of several, but that in `images`
        each leaves out only the bad images of its own part.

    Raises:
        ConfigError: the folder holds no finished training.
        ClusterError: the workers did not find each other, or one was lost.
    """
    folder = RunFolder(pathlib.Path(run_folder))
    config = folder.read_config()
    if not folder.model.exists():
        raise ConfigError(f"{folder.model} was not found. Finish the training first (--mode=train).")
    if data_dir:
        config = config.model_copy(update={"data": config.data.model_copy(update={"data_dir": str(data_dir)})})
    strategy = make_strategy(evaluation_runtime(config.runtime), f"evaluation of {folder.path.name}")
    console = (console or Console()) if is_chief(strategy) else Console(quiet=True)
    with explaining_lost_workers(num_workers(strategy)):
        return _evaluate(folder, make_task(config, console), strategy, console)


def eval_batches(task, strategy):
    """The evaluation batches for `evaluate`, each image once; those of several replicas are all full.

    Args:
        task: a `Task`.
        strategy: of `make_strategy`.
    """
    replicas, images = strategy.num_replicas_in_sync, task.config.data.eval_batch_size
    if replicas == 1:
        return task.eval_batches()
    workers = num_workers(strategy)
    batch_size = -(-images // replicas) * replicas // workers  # of a worker
    rows = max(task.source.eval.shard_sizes(workers))
    return distribute(strategy, lambda shard: task.eval_batches(shard, batch_size), -(-rows // batch_size))


def _evaluate(folder, task, strategy, console):
    data = task.config.data
    # The policy is no part of a .keras file of ours.
    with strategy.scope(), dtype_policy(choose_precision(task.config.runtime.mixed_precision)):
        network = keras.models.load_model(folder.model, compile=False)
        classifier = Classifier(network, multi_label=data.multi_label)
        classifier.compile(jit_compile=False)
    console.print(describe(strategy, "Evaluating"))
    with task.bad_images.telling():
        results = classifier.evaluate(eval_batches(task, strategy), verbose=0, return_dict=True)
    console.print(
        f"Test accuracy {results['accuracy']:.4f} (loss {results['loss']:.4f}) over {task.eval_images} images, "
        "averaged weights."
    )
    return {**results, "images": task.eval_images}
