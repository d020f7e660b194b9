"""Saving and finding again where a training stands."""

import logging
import pathlib

import tensorflow as tf

logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """No checkpoint could be written or read; the message says which and what to do."""


class Checkpoints:
    """The checkpoints of one training: network, optimizer, averages, random state and position.

    Everything is stored under names of the variables, never by order, in TensorFlow's format; the library writes
    under temporary names and renames. The stage of a progressive training follows from the epoch.

    Args:
        folder: of the checkpoints; made at the first save.
        classifier: the compiled `Classifier`.
        keep: how many of the newest to keep, at least 1.
    """

    def __init__(self, folder, classifier, keep=3):
        self.folder = pathlib.Path(folder)
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        self.batch = tf.Variable(0, dtype=tf.int64, trainable=False, name="batch")
        self._checkpoint = tf.train.Checkpoint(**_state(classifier), epoch=self.epoch, batch=self.batch)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(self.folder), max_to_keep=keep)

    def save(self, epoch, batch=0):
        """Saves a position, by the first step that is still to be done.

        Args:
            epoch: counted from 0.
            batch: within the epoch, counted from 0.

        Returns:
            The checkpoint's path prefix.

        Raises:
            CheckpointError: it could not be written; older checkpoints are still there.
        """
        self.epoch.assign(epoch)
        self.batch.assign(batch)
        try:
            return self._manager.save()
        except (OSError, tf.errors.OpError) as error:
            older = self._manager.latest_checkpoint
            raise CheckpointError(
                f"Could not write a checkpoint into {self.folder}: {_reason(error)}. Is the disk full or read-only? "
                + (f"The newest one there is {older}; the same command goes on from it." if older else "")
            ) from error

    def restore(self):
        """Restores the newest intact checkpoint; a damaged one is passed over with a warning.

        Returns:
            (epoch, batch) of the next step, or None where there is no checkpoint.

        Raises:
            CheckpointError: there are checkpoints, and none is intact or fits the network.
        """
        candidates = list(reversed(self._manager.checkpoints))
        for path in candidates:
            damage = find_damage(path)
            if damage:
                logger.warning("Checkpoint %s is damaged (%s); trying the one before it.", path, damage)
                continue
            try:
                self._checkpoint.restore(path).assert_consumed()
            except (AssertionError, ValueError) as error:
                raise CheckpointError(
                    f"Checkpoint {path} is of another network or optimizer: {error}"
                ) from error
            return int(self.epoch.numpy()), int(self.batch.numpy())
        if candidates:
            raise CheckpointError(
                f"None of the {len(candidates)} checkpoints in {self.folder} can be read. Start again in another "
                "--model_dir."
            )
        return None


def find_damage(path):
    """Reads a whole checkpoint, so that its checksums are verified.

    Args:
        path: the checkpoint's path prefix.

    Returns:
        What is wrong with it, or None if it is intact.
    """
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        return _reason(error)
    return None


def _reason(error):
    return str(getattr(error, "message", error)).splitlines()[0]


def _state(classifier):
    """Everything that decides how the training goes on, as dictionaries by name."""
    network = classifier.network
    weights = _by_name((v.path, v.value) for v in network.weights)
    known = {id(v) for v in network.weights}
    # Names of seed generators count up over the whole process, so their order in the network serves.
    seeds = [v for v in network.variables if id(v) not in known]
    state = {
        "network": weights,
        "random": {str(index): v.value for index, v in enumerate(seeds)},
        "optimizer": _by_name((v.path, v.value) for v in classifier.optimizer.variables),
    }
    if classifier.average is not None:
        state["average"] = _by_name(classifier.average.averages.items())
    return state


def _by_name(pairs):
    pairs = list(pairs)
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("Two variables have the same path, so a checkpoint could not tell them apart.")
    return named
