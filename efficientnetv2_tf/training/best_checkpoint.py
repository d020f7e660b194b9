"""The checkpoint with the best evaluation, kept when the newest ones push it out."""

import contextlib
import json
import os
import pathlib
import shutil

import keras

from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.training.run_folder import write_json


def read_best(folder):
    """What is known of the best checkpoint.

    Args:
        folder: of the checkpoints.

    Returns:
        A dictionary with `checkpoint` (path prefix, relative to `folder`), `epoch` (counted from 1), `val_accuracy` and
        `val_loss`; None where there is none.
    """
    with contextlib.suppress(OSError, ValueError):
        best = json.loads((pathlib.Path(folder) / "best" / "best.json").read_text(encoding="utf-8"))
        if (pathlib.Path(folder) / f"{best['checkpoint']}.index").exists():
            return best
    return None


class BestCheckpoint(keras.callbacks.Callback):
    """Copies the newest checkpoint to `best/` beside it, when its evaluation has the highest accuracy so far.

    To be called after the checkpoint was saved and evaluated. The copy is a hard link where the file system has them.

    Args:
        checkpoints: the `Checkpoints`.
    """

    def __init__(self, checkpoints):
        super().__init__()
        self._checkpoints = checkpoints
        self._folder = checkpoints.folder / "best"

    def on_epoch_end(self, epoch, logs=None):
        best = read_best(self._checkpoints.folder)
        # An epoch that comes again after its checkpoint was damaged takes the place of the damaged one.
        again = best and best["epoch"] == epoch + 1
        if "val_accuracy" not in logs or (best and not again and best["val_accuracy"] >= logs["val_accuracy"]):
            return
        newest = pathlib.Path(self._checkpoints.newest)
        name = f"epoch-{epoch + 1}"
        for file in newest.parent.glob(f"{newest.name}.*"):
            _link(file, self._folder / file.name.replace(newest.name, name, 1))
        values = {key: float(logs[key]) for key in ("val_accuracy", "val_loss")}
        write_json(self._folder / "best.json", {"checkpoint": f"best/{name}", "epoch": epoch + 1, **values})
        for file in self._folder.glob("epoch-*"):
            if not file.name.startswith(f"{name}."):
                file.unlink()


def _link(source, target):
    with replacing(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:  # such as a bucket
            shutil.copyfile(source, temporary)
