"""Where a training stands, and what of it is still to be done."""

import keras

from efficientnetv2_tf.training.callbacks import read_metrics
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.strategy import agree, spread_seeds


def resume(checkpoints, classifier, task, strategy, console):
    """Goes back to the newest checkpoint, if there is one.

    Returns:
        (epoch, batch) of the first step to do, both counted from 0. `batch` is `task.steps_per_epoch` where all steps
        of the epoch were done, and perhaps not its evaluation.

    Raises:
        ConfigError: the workers do not see the same checkpoints.
        CheckpointError: there are checkpoints, and none is intact or fits the network.
    """
    position = checkpoints.restore()
    if not agree(strategy, position[0] * task.steps_per_epoch + position[1] + 1 if position else 0):
        raise ConfigError(
            f"The workers found different checkpoints in {checkpoints.folder}. --model_dir should be one folder that "
            "all of them reach."
        )
    spread_seeds(strategy, classifier.seeds)
    if position is None:
        return 0, 0
    epoch, batch = next_step(position, task)
    if epoch >= task.epochs:
        console.print(f"All {task.epochs} epochs were trained before; evaluating and writing the results again.")
    else:
        console.print(f"Going on from a checkpoint at epoch {epoch + 1}, step {batch + 1} of {task.steps_per_epoch}.")
    return position


def next_step(position, task):
    """(epoch, batch) of a step that there is, unless it is that after the last epoch."""
    epoch, batch = position
    return (epoch + 1, 0) if batch >= task.steps_per_epoch else (epoch, batch)


def evaluation_is_due(position, task, folder, strategy):
    """Whether all steps of an epoch were done before a restart, but not its evaluation; the same for all workers.

    Args:
        position: that `resume` gave.
        task: the `Task`.
        folder: the `RunFolder`.
        strategy: of `make_strategy`.
    """
    epoch, batch = position
    if batch < task.steps_per_epoch:
        return False
    rows = read_metrics(folder.metrics) if folder.metrics.exists() else []
    recorded = any(row["epoch"] == epoch + 1 for row in rows)
    return not (agree(strategy, int(recorded)) and recorded)


def finish_epoch(classifier, epoch, callbacks):
    """Ends an epoch all of whose steps were done before a restart: what follows them is made up for.

    Args:
        classifier: the compiled `Classifier`.
        epoch: counted from 0.
        callbacks: those that have something to do at the end of an epoch.
    """
    callbacks = keras.callbacks.CallbackList(callbacks, model=classifier)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(epoch)
    callbacks.on_epoch_end(epoch, {})
    callbacks.on_train_end()


def segments(task, epoch, batch):
    """(first epoch, end epoch, batches an epoch) of each `fit`: one, or two after a restart inside an epoch.

    Keras takes the number of batches of the first epoch for that of all.
    """
    if epoch >= task.epochs:
        return []
    whole = task.steps_per_epoch
    if not batch:
        return [(epoch, task.epochs, whole)]
    rest = [(epoch + 1, task.epochs, whole)] if epoch + 1 < task.epochs else []
    return [(epoch, epoch + 1, whole - batch), *rest]
