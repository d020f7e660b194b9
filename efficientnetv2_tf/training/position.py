"""Where a training stands, and what of it is still to be done."""

from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.strategy import agree, spread_seeds


def resume(checkpoints, classifier, task, strategy, console):
    """Goes back to the newest checkpoint, if there is one.

    Returns:
        (epoch, batch) of the first step to do, both counted from 0.

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
    epoch, batch = position
    if batch >= task.steps_per_epoch:  # saved after the epoch's last step, and stopped before its end
        position = epoch, batch = epoch + 1, 0
    if epoch >= task.epochs:
        console.print(f"All {task.epochs} epochs were trained before; evaluating and writing the results again.")
    else:
        console.print(f"Going on from a checkpoint at epoch {epoch + 1}, step {batch + 1} of {task.steps_per_epoch}.")
    return position


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
