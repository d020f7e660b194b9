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

# What a training may be gone on with in another way: how long and how fast, how it is watched and saved, and what it
# runs on. Everything else says what is trained on what, which checkpoints do not survive.
MAY_CHANGE = frozenset(
    (
        "train.epochs", "train.min_steps", "train.lr_per_256_images", "train.lr_min_per_256_images",
        "train.gradient_clip", "train.on_nonfinite", "train.eval_every_epochs", "train.checkpoint_every_steps",
        "train.checkpoint_every_minutes", "train.keep_checkpoints", "train.rematerialize", "data.eval_batch_size",
        "data.eval_image_size",
        "data.data_dir", "data.cache", "data.cache_dir", "data.on_bad_image", "data.bad_image_limit",
        "runtime.strategy", "runtime.logical_cpus", "runtime.tpu", "runtime.cluster_timeout",
        "runtime.kubernetes_selector", "runtime.kubernetes_workers", "runtime.onednn",
        "runtime.profile_steps",
    )
)  # fmt: skip


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
    def how_to_go_on(self):
        """A sentence with the command that goes on with an interrupted training."""
        return f"--mode=train --hparams={self.config} --model_dir={self.path} goes on."

    @property
    def checkpoints(self):
        """Folder of the checkpoints, the newest few and the best."""
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

    def all_bad_images(self):
        """The lists of all workers that there are."""
        return self.path.glob("bad_images*.csv")

    @property
    def training_picture(self):
        """Loss and accuracy over the epochs, with the stages beside them."""
        return self.path / "training.png"

    @property
    def augmentation_picture(self):
        """The same pictures as each stage's pipeline gives them."""
        return self.path / "augmentation.png"

    def claim(self, config):
        """Makes the folder for a configuration, or checks that it was made for one that can be gone on with.

        Where something of `MAY_CHANGE` differs, config.yaml has the new values from now on, and says above them what
        changed.

        Args:
            config: a resolved `Config`.

        Returns:
            What changed, such as ["train.epochs: 20 -> 30"].

        Raises:
            ConfigError: the folder holds a training with a configuration that differs in anything else, or somebody's
                files of the same names; nothing is changed.
            OSError: the folder cannot be written to.
        """
        if not self.config.exists():
            self._refuse_to_overwrite()
            self._write_config(config)
            return []
        differences = diff(load_config(str(self.config)), config)
        if refused := [line for line in differences if line.partition(":")[0] not in MAY_CHANGE]:
            raise ConfigError(
                f"{self.path} holds a training with another configuration (there -> here):\n  "
                + "\n  ".join(refused)
                + "\nThis decides what is trained, and cannot change on the way. Go on with the same configuration "
                f"(--hparams={self.config}), or choose another --model_dir."
            )
        if differences:
            before = [line for line in self.config.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            self._write_config(config, [*before, *(f"# Changed {now}: {line}" for line in differences)])
        return differences

    def _write_config(self, config, comments=()):
        with replacing(self.config) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in comments) + to_yaml(config), encoding="utf-8")

    def _refuse_to_overwrite(self):
        ours = (
            self.checkpoints, self.model, self.classes, self.metrics, self.tensorboard, self.summary,
            *self.all_bad_images(), self.training_picture, self.augmentation_picture,
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
