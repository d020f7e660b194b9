"""The pictures that each stage trains on, as its pipeline gives them."""

import pathlib

import numpy as np
from rich.console import Console

from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.training.pictures import draw_augmentation
from efficientnetv2_tf.training.task import make_task

_SHOWN_IMAGES = 6  # rows
_DRAWN_FROM = 64  # the first images of the data set


def preview(config, path, *, console=None):
    """Draws a few training pictures of each stage: rows are images, columns are stages.

    Args:
        config: a `Config`.
        path: of the picture to write.
        console: a `rich.console.Console`; None prints to the terminal.

    Raises:
        ConfigError: the configuration does not fit the data.
        DataError: the data set is not to be had, or bad images stop the preview as they would stop the training.
    """
    console = console or Console()
    task = make_task(config, console)
    with task.bad_images.telling():
        draw_preview(task, pathlib.Path(path))
    console.print(f"Wrote {path}")


def draw_preview(task, path):
    """As `preview`, of a `Task`."""
    number = min(_SHOWN_IMAGES, task.source.train.count)
    controls = StageControls(task.plan[0])
    batches = task.train_batches(controls, batch_size=number, shuffle_buffer=_DRAWN_FROM, cache="none")
    columns, titles = [], []
    for stage in task.plan:
        controls.assign(stage, epoch=0)  # the same epoch, so that every column has the same pictures
        images, _ = next(iter(batches))
        columns.append(_as_pictures(images.numpy()))
        titles.append(_title(stage, task.config.data.augment))
    draw_augmentation(columns, titles, path, f"{task.source.name}: what each stage trains on")


def _title(stage, augment):
    strength = f"magnitude {stage.magnitude:.2g}" if augment == "randaugment" else augment
    return (
        f"stage {stage.index + 1}\n{stage.image_size} px, {strength}\n"
        f"mixup {stage.mixup_alpha:.2g}, cutmix {stage.cutmix_alpha:.2g}"
    )


def _as_pictures(images):
    """Normalised images, stretched to 0..1 for the eye."""
    low, high = images.min(), images.max()
    return (images - low) / max(high - low, np.finfo(np.float32).tiny)
