"""The folder of one training: what it was asked for, and what it leaves."""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import time

from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.training.hparams import ConfigError, diff
from efficientnetv2_tf.training.recipes import load_config, to_yaml


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Names of the files in a `model_dir`.

    Attributes:
        path: the folder.
    """

    path: pathlib.Path

    @property
    def config(self):
        """Everything resolved; feeding it back repeats the run."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self):
        """Folder of the checkpoints, the newest few."""
        return self.path / "checkpoints"

    @property
    def model(self):
        """The network with averaged weights."""
        return self.path / "model.keras"

    @property
    def classes(self):
        """Names of the classes, in the order of the network's outputs."""
        return self.path / "classes.json"

    @property
    def metrics(self):
        """Every epoch's values, as CSV."""
        return self.path / "metrics.csv"

    @property
    def tensorboard(self):
        """Folder of the same values as TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def summary(self):
        """Accuracies, times and versions, as JSON."""
        return self.path / "summary.json"

    def bad_images(self, worker=0):
        """Images that a worker could not use, as CSV; each has its own, because it meets its part of them only."""
        return self.path / (f"bad_images-{worker}.csv" if worker else "bad_images.csv")

    @property
    def training_picture(self):
        """Loss and accuracy over the epochs, with the stages beside them."""
        return self.path / "training.png"

    @property
    def augmentation_picture(self):
        """The same pictures as each stage's pipeline gives them."""
        return self.path / "augmentation.png"

    def claim(self, config):
        """Makes the folder for a configuration, or checks that it was made for the same.

        Args:
            config: a resolved `Config`.

        Raises:
            ConfigError: the folder holds a training with another configuration, or somebody's files of the same
                names; nothing is changed.
            OSError: the folder cannot be written to.
        """
        if self.config.exists():
            differences = diff(load_config(str(self.config)), config)
            if differences:
                raise ConfigError(
                    f"{self.path} holds a training with another configuration (there -> here):\n  "
                    + "\n  ".join(differences)
                    + "\nGo on with the same configuration (--hparams=" + str(self.config) + "), or choose another "
                    "--model_dir."
                )
        else:
            self._refuse_to_overwrite()
            with replacing(self.config) as temporary:
                temporary.write_text(to_yaml(config), encoding="utf-8")

    def _refuse_to_overwrite(self):
        ours = (
            self.checkpoints, self.model, self.classes, self.metrics, self.tensorboard, self.summary,
            *self.path.glob("bad_images*.csv"), self.training_picture, self.augmentation_picture,
        )  # fmt: skip
        there = [path.name for path in ours if path.exists()]
        if there:
            raise ConfigError(
                f"{self.path} has no config.yaml, but files that a training would replace: {', '.join(there)}. Choose "
                "another --model_dir, or move them away."
            )

    def read_config(self):
        """The configuration that the folder was made for.

        Raises:
            ConfigError: there is none.
        """
        if not self.config.exists():
            raise ConfigError(
                f"{self.config} was not found. Expected the --model_dir of a training; --mode=train makes one."
            )
        return load_config(str(self.config))


def new_run_folder(config, root="runs"):
    """Makes a folder that was not there yet, named after network, data set and time.

    Args:
        config: a `Config`.
        root: where to put it.
    """
    dataset = config.data.dataset.replace("/", "-").replace(":", "-")
    name = f"{config.model.name}-{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(1):
        path = pathlib.Path(root) / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):  # of another training that began in the same second
            path.mkdir(parents=True)
            return RunFolder(path)


def write_json(path, value):
    """Writes a JSON file at once or not at all.

    Args:
        path: of the file.
        value: what `json` can write.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
