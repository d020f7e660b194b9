"""A data set at a glance, as a picture. matplotlib is imported at the first use, because that takes a second."""

import warnings

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientnetv2_tf.data.decode import decode
from efficientnetv2_tf.data.verify_report import shares
from efficientnetv2_tf.files import replacing

# Lengths in inches.
_DPI = 150
_CELL, _NAMES, _PLOTS = 1.0, 1.9, 4.6  # of a picture; widths of the classes' names and of the plots
_MARGIN, _HEADING, _LEAST_HEIGHT, _HIGHEST_PLOT = 0.35, 1.0, 5.6, 4.0
_CARD = 0.95  # of a cell; the rest is gap
_INK, _PALE, _PAPER = "#1f2933", "#7b8794", 0xEE
_COLORS = {"train": "#3366aa", "eval": "#e08e3c"}
_FORMAT_COLORS = {"JPEG": "#3366aa", "PNG": "#2a9d8f", "WEBP": "#8e6bbf", "GIF": "#d1495b", "BMP": "#e08e3c"}
_OPAQUE = 0.55
_NAMED_BARS = 24  # with more classes the bars become steps
_STYLE = {
    "font.size": 9, "text.color": _INK, "text.parse_math": False, "axes.labelcolor": _INK, "axes.edgecolor": _PALE,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold", "axes.titlesize": 10,
    "axes.titlelocation": "left", "xtick.color": _PALE, "ytick.color": _PALE, "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK, "legend.frameon": False,
}  # fmt: skip


def draw_data(report, path):
    """Draws some pictures of some classes, how many each class has, and how large they are.

    Args:
        report: a `verify_report.Report`.
        path: of the PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")  # files only: a training machine has no screen
    from matplotlib import pyplot

    samples = {label: encoded for label, encoded in report.samples.items() if encoded}
    columns = max(map(len, samples.values()), default=0)
    height = max(len(samples) * _CELL, _LEAST_HEIGHT) if samples else 0
    with pyplot.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # class names in scripts that the font lacks
        width = _MARGIN + _NAMES + columns * _CELL + _PLOTS
        figure = pyplot.figure(figsize=(width, _HEADING + height + _MARGIN))
        _write_heading(figure, report)
        if samples:
            rows = len(samples) * _CELL
            box = (_MARGIN + _NAMES, _MARGIN + height - rows, columns * _CELL, rows)
            _draw_samples(_axes(figure, *box), report, samples, columns)
            left, half = width - _PLOTS + 1.2, min(height / 2 - 0.6, _HIGHEST_PLOT)
            _draw_counts(_axes(figure, left, _MARGIN + height - half, _PLOTS - 1.5, half), report)
            _draw_sizes(_axes(figure, left, _MARGIN + height - 2 * half - 0.9, _PLOTS - 1.5, half), report.shapes)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=_DPI)
        pyplot.close(figure)


def _axes(figure, left, bottom, width, height):
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _write_heading(figure, report):
    width, height = figure.get_size_inches()
    parts = [f"{report.shapes.total():,} good pictures", f"{len(report.class_names):,} classes"]
    parts += [f"{len(report.bad):,} bad"] + ([f"{len(report.notes):,} notes"] if report.notes else [])
    left = _MARGIN / width
    figure.text(left, 1 - 0.38 / height, _shortened(report.name, int(width * 7)), fontsize=15, fontweight="bold")
    figure.text(left, 1 - 0.65 / height, " · ".join(parts), color=_PALE, fontsize=10)


def _draw_samples(axes, report, samples, columns):
    """One row of pictures a class, and its name in front."""
    side = round(_CELL * _DPI)
    sheet = np.full((len(samples) * side, columns * side, 3), 0xFF, np.uint8)
    for row, (label, some) in enumerate(samples.items()):
        for column, encoded in enumerate(some):
            sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = _cell(encoded, side)
        y = (row + 0.5) * side
        counts = " · ".join(f"{counts[label]:,} {split}" for split, counts in report.counts.items())
        name = _shortened(report.class_names[label], 22)
        axes.text(-0.12 * side, y - 0.03 * side, name, ha="right", va="bottom", fontweight="bold")
        axes.text(-0.12 * side, y + 0.05 * side, counts, ha="right", va="top", color=_PALE, fontsize=8)
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    if len(samples) < len(report.class_names):
        axes.set_title(f"{len(samples)} of the {len(report.class_names):,} classes", color=_PALE, fontweight="normal")


def _cell(encoded, side):
    """The whole picture on a card: uint8 [side, side, 3]."""
    picture = Image.fromarray(decode(tf.constant(encoded)).numpy())
    card_side = round(_CARD * side)
    scale = card_side / max(picture.size)
    size = [max(1, round(length * scale)) for length in picture.size]
    # Pixels of pictures that are smaller than the card stay pixels.
    picture = picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    card = Image.new("RGB", (card_side, card_side), (_PAPER, _PAPER, _PAPER))
    card.paste(picture, ((card_side - size[0]) // 2, (card_side - size[1]) // 2))
    cell = np.full((side, side, 3), 0xFF, np.uint8)
    begin = (side - card_side) // 2
    cell[begin : begin + card_side, begin : begin + card_side] = card
    return cell


def _draw_counts(axes, report):
    """Pictures of each class, largest first: bars with names, or steps where there are too many for that."""
    order = np.argsort(-sum(report.counts.values()), kind="stable")
    named, start = len(order) <= _NAMED_BARS, np.zeros(len(order))
    for split, counts in report.counts.items():
        end, style = start + counts[order], {"color": _COLORS[split], "label": split}
        if named:
            axes.barh(np.arange(len(order)), end - start, left=start, height=0.7, **style)
        else:
            axes.stairs(end, np.arange(len(order) + 1), baseline=start, fill=True, **style)
        start = end
    if named:
        axes.set_yticks(np.arange(len(order)), [_shortened(report.class_names[label], 16) for label in order])
        axes.tick_params(axis="y", length=0, labelsize=8 if len(order) <= 14 else 6)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(_whole_numbers())
    else:
        axes.set_xlim(0, len(order))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("classes, the largest first")
        axes.yaxis.set_major_locator(_whole_numbers())
    axes.set_title("Pictures of each class")
    _write_legend(axes)


def _write_legend(axes):
    """In the title's line, where it covers nothing."""
    return axes.legend(
        loc="lower right", bbox_to_anchor=(1.03, 0.98), ncols=5, fontsize=8, handlelength=1, handletextpad=0.3,
        columnspacing=0.9,
    )  # fmt: skip


def _whole_numbers():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, integer=True)


def _draw_sizes(axes, shapes):
    """A dot for each size, larger where more pictures have it."""
    from matplotlib.colors import to_rgba_array

    opacity = min(_OPAQUE, 20 / len(shapes) ** 0.5)  # of a picture; where there are many, they add up
    for kind, _ in shares(shapes, 0):
        sizes, counts = zip(*_sizes_of(shapes, kind).items(), strict=True)
        color = to_rgba_array(_FORMAT_COLORS.get(kind, _PALE), np.minimum(opacity * np.array(counts), _OPAQUE))
        area = np.minimum(8 * np.sqrt(counts), 500)
        axes.scatter(*zip(*sizes, strict=True), s=area, color=color, linewidths=0, label=kind or "unknown")
    _scale_sizes(axes, [side for shape in shapes for side in shape[2:]])
    axes.set_xlabel("width [px] (dotted: squares)")
    axes.set_ylabel("height [px]")
    axes.set_title("Sizes")
    for handle in _write_legend(axes).legend_handles:
        handle.set(sizes=[30], alpha=_OPAQUE)


def _scale_sizes(axes, sides):
    """One scale for both axes, logarithmic where the sizes are far apart, and a line where squares are."""
    from matplotlib import ticker

    low, high = min(sides), max(sides)
    wide = high > 4 * low
    limits = (low / 1.3, high * 1.3) if wide else (0, high * 1.2)
    axes.plot(limits, limits, color=_PALE, linewidth=0.8, linestyle=":", zorder=0)
    axes.set(xlim=limits, ylim=limits)
    if wide:
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axis.set_minor_formatter(ticker.NullFormatter())


def _sizes_of(shapes, kind):
    """(width, height) -> number of pictures of a format."""
    sizes = {}
    for (name, _, *size), count in shapes.items():
        if name == kind:
            sizes[tuple(size)] = sizes.get(tuple(size), 0) + count
    return sizes


def _shortened(text, most):
    return text if len(text) <= most else f"{text[: most // 2].rstrip()} … {text[3 - most // 2 :].lstrip()}"
