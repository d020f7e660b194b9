"""Pictures of a training. matplotlib is imported at the first use, because that takes a second."""

import itertools
import textwrap

import numpy as np

from efficientnetv2_tf.files import replacing

_TITLE_WIDTH = 8  # characters an inch, at matplotlib's size of titles


def load_pyplot():
    """matplotlib.pyplot, for files only."""
    import matplotlib

    matplotlib.use("Agg")  # files only: a training machine has no screen
    from matplotlib import pyplot

    return pyplot


def set_title(figure, title):
    """In as many lines as it takes: matplotlib cuts off what is too long, and breaks no path."""
    figure.suptitle(textwrap.fill(title, int(_TITLE_WIDTH * figure.get_figwidth())))


def draw_training(rows, path, title):
    """Draws loss and accuracy over the epochs, with image size and magnitude of the stages beside them.

    Args:
        rows: the epochs' values, as `read_metrics` gives them.
        path: of the PNG to write.
        title: above the picture.
    """
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(
        3, 1, sharex=True, figsize=(8, 8), height_ratios=(3, 3, 2), layout="constrained"
    )
    for axis, name, better in ((axes[0], "loss", "lower right"), (axes[1], "accuracy", "lower right")):
        tested = [(row["epoch"], row[f"val_{name}"]) for row in rows if f"val_{name}" in row]
        trained = [(row["epoch"], row[name]) for row in rows if name in row]
        if trained:  # a restart may only evaluate
            axis.plot(*zip(*trained, strict=True), "o-", color="tab:blue", markersize=3, label="training")
        if tested:  # not every epoch is evaluated
            label = "test, averaged weights"
            axis.plot(*zip(*tested, strict=True), "s--", color="tab:orange", markersize=5, label=label)
        axis.set_ylabel(name)
        if name == "loss":  # an average that has hardly begun may be far off
            axis.set_yscale("log")
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
    set_title(figure, title)
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
    pyplot = load_pyplot()
    rows = len(columns[0])
    figure, axes = pyplot.subplots(
        rows, len(columns), figsize=(max(2 * len(columns), 4), 1.8 * rows + 1), squeeze=False, layout="constrained"
    )
    for column, (images, heading) in enumerate(zip(columns, titles, strict=True)):
        axes[0, column].set_title(heading, fontsize=9)
        for row, image in enumerate(images):
            axes[row, column].imshow(np.clip(image, 0.0, 1.0), interpolation="nearest")
            axes[row, column].set_axis_off()
    set_title(figure, title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    pyplot.close(figure)


def draw_family(rows, path):
    """Draws parameters and multiply-adds of the networks against their published accuracy.

    Args:
        rows: `FamilyRow`s; those without a published top-1 are left out, and at least one must have one.
        path: of the PNG to write.

    Raises:
        ValueError: no row has a published top-1.
    """
    drawn = [row for row in rows if row.published_top1 is not None]
    if not drawn:
        raise ValueError("`rows` should hold at least one network with a published top-1. Received none.")
    pyplot = load_pyplot()
    from matplotlib import ticker

    figure, axes = pyplot.subplots(1, 2, sharey=True, figsize=(10, 5.5), layout="constrained")
    for axis, label, amount in (
        (axes[0], "parameters [million]", lambda row: row.parameters / 1e6),
        (axes[1], "multiply-adds of one image [billion]", lambda row: row.multiply_adds / 1e9),
    ):
        _draw_against_top1(axis, drawn, amount)
        axis.set_xscale("log")
        axis.set_xlabel(label)
        # Plain numbers: nobody reads 2 x 10^1 as a number of parameters.
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.margins(x=0.12, y=0.1)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("ImageNet top-1, as published [%]")
    axes[0].legend(loc="lower right")
    figure.draw_without_rendering()  # from here on it is known where everything is
    for axis, amount in ((axes[0], lambda row: row.parameters / 1e6), (axes[1], lambda row: row.multiply_adds / 1e9)):
        _write_names(axis, drawn, amount)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=180)
    pyplot.close(figure)


# (title, how a name begins, preprocessing, line, colour) of each line in the picture of the family.
_LINES = (
    ("EfficientNetV2-S, M, L", "efficientnetv2-", "v2", "o-", "tab:blue"),
    ("EfficientNetV2-B0 to B3", "efficientnetv2-", "v1", "s--", "tab:orange"),
    ("EfficientNet-B0 to B7 (V1)", "efficientnet-", "v1", "^:", "tab:gray"),
)


# Where a name can stand, from its point [points], and its side that is towards it; the first that is free is taken.
_BESIDE = ((-5, 4, "right"), (5, -11, "left"), (8, -4, "left"), (-8, -4, "right"), (5, 4, "left"), (-5, -11, "right"))


def _of_line(rows, start, preprocessing):
    return [row for row in rows if row.name.startswith(start) and row.preprocessing == preprocessing]


def _draw_against_top1(axis, rows, amount):
    for title, start, preprocessing, style, color in _LINES:
        own = sorted(_of_line(rows, start, preprocessing), key=amount)
        if own:
            values = [amount(row) for row in own]
            axis.plot(values, [row.published_top1 for row in own], style, color=color, markersize=5, label=title)


def _write_names(axis, rows, amount):
    """The networks' names beside their points, where they cover neither a point nor another name."""
    points = [axis.transData.transform(point) for line in axis.lines for point in line.get_xydata()]
    taken = [axis.get_legend().get_window_extent()] if axis.get_legend() else []
    for _, start, preprocessing, _, color in _LINES:
        for row in _of_line(rows, start, preprocessing):
            place = {"xytext": (0, 0), "textcoords": "offset points"}
            name = axis.annotate(_short_name(row), (amount(row), row.published_top1), color=color, **place)
            for x, y, side in _BESIDE:
                name.set(position=(x, y), ha=side)
                box = name.get_window_extent().padded(2)
                if not any(box.overlaps(other) for other in taken) and not any(box.contains(*p) for p in points):
                    break
            taken.append(box)


def _short_name(row):
    """ "S" from "efficientnetv2-s"."""
    return row.name.rsplit("-", 1)[1].upper()
