"""Saving and finding again where a training stands."""

import logging
import pathlib
import re
import shutil

import tensorflow as tf

from efficientnetv2_tf.files import replacing

logger = logging.getLogger(__name__)
_SHOWN_DIFFERENCES = 5
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # TensorFlow's ending of a value's name in a checkpoint


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
        writes: False for all workers but the chief, which only read. TensorFlow asks all of them to save where a
            variable has a part in each; ours are the same everywhere, but for the random state: each replica's
            follows from the first one's.
    """

    def __init__(self, folder, classifier, keep=3, *, writes=True, marker=None):
        self.folder = pathlib.Path(folder)
        self._marker = marker
        self._writes = writes
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        self.batch = tf.Variable(0, dtype=tf.int64, trainable=False, name="batch")
        self.rollbacks = tf.Variable(0, dtype=tf.int64, trainable=False, name="rollbacks")
        self._state = _state(classifier)
        self._checkpoint = tf.train.Checkpoint(
            **self._state, epoch=self.epoch, batch=self.batch, rollbacks=self.rollbacks
        )
        if writes:
            self._remove_unfinished()
            _mend_list(self.folder)
        self._keep = keep
        self._manager = self._new_manager()

    def _new_manager(self):
        return tf.train.CheckpointManager(self._checkpoint, str(self.folder), max_to_keep=self._keep)

    @property
    def newest(self):
        """Path prefix of the newest checkpoint, or None."""
        return self._manager.latest_checkpoint

    def save(self, epoch, batch=0):
        """Saves a position, by the first step that is still to be done.

        Args:
            epoch: counted from 0.
            batch: within the epoch, counted from 0.

        Returns:
            The checkpoint's path prefix; None where another worker writes it.

        Raises:
            CheckpointError: it could not be written, the folder is gone, or the weights are not finite; older
                checkpoints are still there.
        """
        if not self._writes:
            return None
        self._refuse_vanished()
        self._refuse_non_finite()
        self.epoch.assign(epoch)
        self.batch.assign(batch)
        try:
            return self._manager.save()
        except (OSError, tf.errors.OpError) as error:
            older = self.newest
            self._remove_unfinished()
            raise CheckpointError(
                f"Could not write a checkpoint into {self.folder}: {_reason(error)}. Is the disk full or read-only? "
                + (f"The newest one is {older}; a restart goes on from it." if older else "There is no older one.")
            ) from error

    def _remove_unfinished(self):
        """Frees what a save that failed, or was killed, has taken."""
        for unfinished in self.folder.glob("*_temp"):
            shutil.rmtree(unfinished, ignore_errors=True)

    def _refuse_vanished(self):
        """TensorFlow would make the folders again, such as on the disk below a mount that is gone."""
        expected = self.folder if self.newest else self._marker or self.folder.parent
        if not expected.exists():
            raise CheckpointError(
                f"{expected} is no longer there, so nothing was saved. Was it moved, deleted or unmounted? With it "
                "back in its place, the same command goes on from the newest checkpoint in it."
            )

    def _refuse_non_finite(self):
        for name, weight in self._state["network"].items():
            if not bool(tf.reduce_all(tf.math.is_finite(weight))):
                raise CheckpointError(
                    f"{name} is no longer finite, so nothing was saved. The newest checkpoint is "
                    f"{self.newest}. Try a lower learning rate or train.gradient_clip=1."
                )

    def restore(self):
        """Restores the newest intact checkpoint; a damaged one is passed over with a warning.

        Returns:
            (epoch, batch) of the next step, or None where there is no checkpoint.

        Raises:
            CheckpointError: there are checkpoints, and none is intact or fits the network.
        """
        if not self._writes:
            self._manager = self._new_manager()  # the chief has written since
        candidates = list(reversed(self._manager.checkpoints))
        for path in candidates:
            damage = find_damage(path)
            if damage:
                logger.warning("Checkpoint %s is damaged (%s); trying the one before it.", path, damage)
                continue
            differences = _differences(path, self._state)
            if differences:
                raise CheckpointError(
                    f"Checkpoint {path} is of another network or optimizer (there -> here):\n  "
                    + "\n  ".join(differences[:_SHOWN_DIFFERENCES])
                    + (f"\n  and {len(differences)} in all" if len(differences) > _SHOWN_DIFFERENCES else "")
                    + "\nGo on with the same configuration, or choose another --model_dir."
                )
            self._checkpoint.restore(path).assert_consumed()
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
    except (tf.errors.OpError, ValueError, RuntimeError, LookupError) as error:  # IndexError: a file is too short
        return _reason(error)
    return None


def _mend_list(folder):
    """Lists the checkpoints anew, if TensorFlow's list of them is damaged, gone or not up to date.

    It would take the folder for an empty one, and the training would begin again and overwrite what is there.
    """
    indices = sorted(folder.glob("ckpt-*.index"), key=lambda path: int(path.stem.split("-")[1]))
    names, times = [path.stem for path in indices], [path.stat().st_mtime for path in indices]
    if set(names) <= _listed(folder):
        return
    logger.warning("The list of checkpoints in %s did not name all that are there; made a new one.", folder)
    state = tf.compat.v1.train.generate_checkpoint_state_proto(
        str(folder), names[-1], names, all_model_checkpoint_timestamps=times
    )
    with replacing(folder / "checkpoint") as temporary:
        temporary.write_text(str(state), encoding="utf-8")


def _listed(folder):
    """Names in TensorFlow's list; one without a time does not count there."""
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except ValueError:
        state = None
    if state is None:
        return set()
    pairs = zip(state.all_model_checkpoint_paths, state.all_model_checkpoint_timestamps, strict=False)
    return {pathlib.Path(path).name for path, _ in pairs}


def _differences(path, state):
    """Variables whose name or shape differs between a checkpoint and a state, such as "network/a: [3] -> [4]"."""
    there = {
        name.removesuffix(_VALUE): shape
        for name, shape in tf.train.load_checkpoint(path).get_variable_to_shape_map().items()
        if name.split("/")[0] in state
    }
    here = {
        f"{group}/{name.replace('.', '..').replace('/', '.S')}": variable.shape.as_list()
        for group, variables in state.items()
        for name, variable in variables.items()
    }
    return [
        f"{name.replace('.S', '/')}: {there.get(name, 'none')} -> {here.get(name, 'none')}"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]


def _reason(error):
    """The first line of an error, without the names of TensorFlow's operations around it."""
    line = str(getattr(error, "message", error)).splitlines()[0]
    return re.sub(r"\{\{.*?\}\} ?|\s*\[Op:.*?\]", "", line).strip()


def _state(classifier):
    """Everything that decides how the training goes on, as dictionaries by name."""
    network = classifier.network
    weights = _by_name((v.path, v.value) for v in network.weights)
    state = {
        "network": weights,
        # Names of seed generators count up over the whole process, so their order in the network serves.
        "random": {str(index): seed for index, seed in enumerate(classifier.seeds)},
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
