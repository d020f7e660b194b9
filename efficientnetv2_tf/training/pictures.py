"""Pictures of a training. matplotlib is imported at the first use, because that takes a second."""

import itertools

import numpy as np

from efficientnetv2_tf.training.files import replacing


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")  # files only: a training machine has no screen
    from matplotlib import pyplot

    return pyplot


def draw_training(rows, path, title):
    """Draws loss and accuracy over the epochs, with image size and magnitude of the stages beside them.

    Args:
        rows: the epochs' values, as `read_metrics` gives them.
        path: of the PNG to write.
        title: above the picture.
    """
    pyplot = _pyplot()
    epochs = [row["epoch"] for row in rows]
    figure, axes = pyplot.subplots(
        3, 1, sharex=True, figsize=(8, 8), height_ratios=(3, 3, 2), layout="constrained"
    )
    for axis, name, better in ((axes[0], "loss", "lower right"), (axes[1], "accuracy", "lower right")):
        tested = [(row["epoch"], row[f"val_{name}"]) for row in rows if f"val_{name}" in row]
        axis.plot(epochs, [row[name] for row in rows], "o-", color="tab:blue", markersize=3, label="training")
        if tested:  # not every epoch is evaluated
            label = "test, averaged weights"
            axis.plot(*zip(*tested, strict=True), "s--", color="tab:orange", markersize=5, label=label)
        axis.set_ylabel(name)
        axis.legend(loc="upper right" if name == "loss" else better)
    _draw_stages(axes[2], rows)
    for axis in axes:
        axis.grid(alpha=0.3)
        for before, after in itertools.pairwise(rows):
            if before["stage"] != after["stage"]:
                axis.axvline(after["epoch"] - 0.5, color="grey", linewidth=0.8, linestyle=":")
    axes[2].set_xlim(rows[0]["epoch"] - 0.6, rows[-1]["epoch"] + 0.6)
    axes[2].set_xlabel("epoch")
    axes[2].xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    pyplot.close(figure)


def _draw_stages(axis, rows):
    """Image size as steps on the left scale, magnitude on the right one."""
    edges = [rows[0]["epoch"] - 0.5, *[row["epoch"] + 0.5 for row in rows]]
    axis.stairs([row["image_size"] for row in rows], edges, color="tab:green", linewidth=2, baseline=None)
    axis.set_ylabel("image size [px]", color="tab:green")
    right = axis.twinx()
    magnitudes = [row["magnitude"] for row in rows]
    right.stairs(magnitudes, edges, color="tab:red", linewidth=2, linestyle="--", baseline=None)
    right.set_ylabel("RandAugment magnitude", color="tab:red")
    right.set_ylim(bottom=0, top=max(*magnitudes, 1) * 1.15)


def draw_augmentation(columns, titles, path, title):
    """Draws the same pictures as each stage's pipeline gives them.

    Args:
        columns: one list a stage, of images: float [height, width, 3] in 0..1.
        titles: one a stage.
        path: of the PNG to write.
        title: above the picture.
    """
    pyplot = _pyplot()
    rows = len(columns[0])
    figure, axes = pyplot.subplots(
        rows, len(columns), figsize=(max(2 * len(columns), 4), 1.8 * rows + 1), squeeze=False, layout="constrained"
    )
    for column, (images, heading) in enumerate(zip(columns, titles, strict=True)):
        axes[0, column].set_title(heading, fontsize=9)
        for row, image in enumerate(images):
            axes[row, column].imshow(np.clip(image, 0.0, 1.0), interpolation="nearest")
            axes[row, column].set_axis_off()
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    pyplot.close(figure)
