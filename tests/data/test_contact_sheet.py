"""data.png: that it shows what is there, for few classes and for many."""

import collections
import io

import numpy as np
import pytest
from PIL import Image

from efficientnetv2_tf.data.contact_sheet import draw_data
from efficientnetv2_tf.data.verify_report import Finding, Report

RED, GREEN = (255, 0, 0), (0, 255, 0)


def plain(color, size, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, kind)
    return file.getvalue()


def a_report(classes, samples, shapes=None, name="folder:/data"):
    return Report(
        name=name,
        class_names=tuple(f"class {label}" for label in range(classes)),
        findings=[Finding(True, "cut", "train", "class 0", "a.jpg", "")],
        counts={"train": np.arange(classes) + 1, "eval": np.ones(classes, int)},
        shapes=collections.Counter(shapes or {("PNG", "RGB", 30, 20): 5, ("JPEG", "RGB", 640, 480): 2}),
        samples=samples,
    )


def drawn(report, tmp_path):
    draw_data(report, tmp_path / "data.png")
    assert [path.name for path in tmp_path.iterdir()] == ["data.png"]
    return np.array(Image.open(tmp_path / "data.png").convert("RGB")).astype(int)


def has(image, color):
    """Where an image has a color: bool [height, width]."""
    return (np.abs(image - color) <= 2).all(axis=-1)


def test_pictures_are_whole_in_rows_of_their_class(tmp_path):
    samples = {0: [plain(RED, (30, 10))] * 3, 1: [], 2: [plain(GREEN, (10, 40))] * 2}
    image = drawn(a_report(3, samples), tmp_path)
    red, green = has(image, RED), has(image, GREEN)
    # The longer side has 142 of a cell's 150 pixels.
    assert red.any(axis=0).sum() == 3 * 142 and abs(red.any(axis=1).sum() - 47) <= 1
    assert green.any(axis=1).sum() == 142 and abs(green.any(axis=0).sum() - 2 * 36) <= 2
    assert np.flatnonzero(red.any(axis=1)).max() < np.flatnonzero(green.any(axis=1)).min()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [2, 24, 25, 1000])
def test_any_number_of_classes(tmp_path, classes):
    samples = {label: [plain(RED, (20, 20))] * 6 for label in range(min(classes, 12))}
    image = drawn(a_report(classes, samples, name="folder:/a$b$/" + "long" * 40), tmp_path)
    assert has(image, RED).sum() == len(samples) * 6 * 142**2
    blue, orange = has(image, (0x33, 0x66, 0xAA)), has(image, (0xE0, 0x8E, 0x3C))  # train and eval
    assert blue.sum() > 4 * orange.sum() > 0 or classes == 2


def test_more_train_pictures_make_longer_bars(tmp_path):
    image = drawn(a_report(2, {0: [plain(RED, (9, 9))]}), tmp_path)
    lengths = has(image, (0x33, 0x66, 0xAA)).sum(axis=1)
    bars = np.unique(lengths[lengths > 60])
    assert abs(bars.max() / bars.min() - 2) < 0.1  # class 1 has 2, class 0 has 1
    longest, shortest = [np.flatnonzero(lengths == length) for length in (bars.max(), bars.min())]
    assert longest.max() < shortest.min()  # the largest first


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "shapes",
    [
        {("PNG", "RGB", 8, 8): 1000},
        {("JPEG", "RGB", 1, 5000): 1, ("", "", 3, 2): 1},
        {(kind, "RGB", 100 + i, 200): 1 for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "X") for i in range(50)},
    ],
)
def test_any_sizes(tmp_path, shapes):
    drawn(a_report(2, {0: [plain(RED, (9, 9))]}, shapes), tmp_path)


def test_scripts_that_the_font_lacks(tmp_path, recwarn):
    report = a_report(2, {0: [plain(RED, (9, 9))]}, name="日本")
    drawn(report, tmp_path)
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_nothing_good(tmp_path):
    report = a_report(2, {0: [], 1: []})
    report.shapes.clear()
    image = drawn(report, tmp_path)
    assert (image < 128).any()  # the heading is there
