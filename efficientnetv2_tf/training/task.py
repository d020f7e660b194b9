"""A configuration that has met its data: what is to be done, before any network is built."""

import dataclasses

from efficientnetv2_tf.data.bad_images import BadImages
from efficientnetv2_tf.data.pipeline import eval_dataset, train_dataset
from efficientnetv2_tf.data.sources import open_source
from efficientnetv2_tf.training.hparams import ConfigError, resolve
from efficientnetv2_tf.training.plan import make_plan, plan_table, steps_per_epoch, total_epochs

_ROLLBACK_STEP = 1_000_003  # between the seeds before and after going back to a checkpoint


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training has to do.

    Attributes:
        config: the `Config`, with what the data set decides filled in.
        source: the `Source`.
        steps_per_epoch: whole batches of training images in an epoch.
        epochs: of the training.
        plan: its `Stage`s.
        bad_images: the `BadImages` that the batches report to.
    """

    config: object
    source: object
    steps_per_epoch: int
    epochs: int
    plan: tuple
    bad_images: BadImages

    def train_batches(self, controls, shard=(0, 1), rollbacks=0, **changes):
        """The training batches, see `train_dataset`.

        Args:
            controls: `StageControls`.
            shard: (index, number) of the input pipelines.
            rollbacks: how often the training went back to a checkpoint; each time the batches are other ones.
            **changes: fields of data to replace.
        """
        data = self.config.data.model_copy(update=changes)
        return train_dataset(
            self.source,
            data,
            controls,
            style=data.preprocessing,
            seed=self.config.runtime.seed + rollbacks * _ROLLBACK_STEP,
            shard=shard,
            bad_images=self.bad_images,
        )

    def eval_batches(self, shard=None, batch_size=None):
        """The evaluation batches, see `eval_dataset`.

        Args:
            shard: None, or (index, number) of the input pipelines.
            batch_size: of one shard; None is data.eval_batch_size.
        """
        data = self.config.data
        return eval_dataset(
            self.source,
            data,
            image_size=data.eval_image_size,
            batch_size=batch_size or data.eval_batch_size,
            style=data.preprocessing,
            shard=shard,
            bad_images=self.bad_images,
        )

    @property
    def eval_images(self):
        """Evaluation images without those that turned out to be bad in this process."""
        return self.source.eval.count - len(self.bad_images.known("eval"))

    def writing_bad_images(self, path, tell):
        """The task with a log of bad images.

        Args:
            path: of its CSV file; None writes none.
            tell: called with a line of text for each.

        Raises:
            DataError: the file lists too many.
        """
        bad_images = _bad_images(self.config.data, path=path, tell=tell)
        for name, split in (("train", self.source.train), ("eval", self.source.eval)):  # before a network is built
            bad_images.check(name, split)
        return dataclasses.replace(self, bad_images=bad_images)


def make_task(config, console):
    """Opens the data and works out what follows from their number.

    Args:
        config: a `Config`.
        console: a `rich.console.Console` for what happens.

    Raises:
        ConfigError: the configuration does not fit the data.
        DataError: the data set is not to be had.
    """
    config = resolve(config)
    console.print(f"Opening data set {config.data.dataset} ...")
    source = open_source(config.data.dataset, **source_options(config))
    _check(config, source)
    names = source.class_names
    filled = {
        "num_train_images": source.train.count,
        # Where they are mere numbers, they say nothing that num_classes does not.
        "class_names": None if names == tuple(map(str, range(len(names)))) else names,
    }
    model = config.model.model_copy(update={"num_classes": source.num_classes})
    config = config.model_copy(update={"model": model, "data": config.data.model_copy(update=filled)})
    bad_images = _bad_images(config.data, tell=console.print)
    task = Task(config, source, steps_per_epoch(config), total_epochs(config), make_plan(config), bad_images)
    if task.epochs != config.train.epochs:
        console.print(
            f"train.min_steps={config.train.min_steps} makes it {task.epochs} epochs of {task.steps_per_epoch} steps:"
        )
        console.print(plan_table(config, task.plan))
    return task


def source_options(config):
    """The arguments of `open_source` that stand in a configuration, but for the name."""
    keys = (
        "data_dir", "train_split", "eval_split", "eval_fraction", "split_seed", "class_names", "multi_label",
        "image_key", "label_key", "label_offset",
    )  # fmt: skip
    return {"num_classes": config.model.num_classes, **{key: getattr(config.data, key) for key in keys}}


def _bad_images(data, **options):
    return BadImages(on_bad_image=data.on_bad_image, limit=data.bad_image_limit, **options)


def _check(config, source):
    problems = [
        ("model.num_classes", f"{source.num_classes}, the classes of {source.name!r}, or null", source.num_classes,
         config.model.num_classes),
        ("data.class_names", f"the names that {source.name!r} has ({_shown(source.class_names)}), or null",
         source.class_names, config.data.class_names),
        ("data.multi_label", f"{source.multi_label} for {source.name!r}", source.multi_label, config.data.multi_label),
    ]  # fmt: skip
    for key, expected, actual, wanted in problems:
        if wanted not in (None, actual):
            raise ConfigError(f"{key}: expected {expected}. Received: {wanted}")
    if config.data.batch_size > source.train.count:
        raise ConfigError(
            f"data.batch_size: expected at most the {source.train.count} training images of {source.name!r}. "
            f"Received: {config.data.batch_size}"
        )


def _shown(names, most=5):
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
