"""Pictures are files that can be opened, of a size that can be looked at."""

import os

import matplotlib.image
import numpy as np
import pytest

from efficientnetv2_tf.training import pictures


def row(epoch, stage=0, **more):
    return {
        "epoch": epoch, "loss": 2.0 / epoch, "accuracy": 1 - 0.9 / epoch, "stage": stage,
        "image_size": 32 + 8 * stage, "magnitude": 5.0 + stage, "learning_rate": 0.1, **more,
    }  # fmt: skip


def evaluated_only(row):
    """The row of an epoch of which a restart made up for the evaluation."""
    return {name: value for name, value in row.items() if name not in ("loss", "accuracy")}


def opened(path):
    """The picture, after checks that hold for all."""
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_size < 2e6
    image = matplotlib.image.imread(path)
    assert 300 <= image.shape[0] <= 3000
    assert 300 <= image.shape[1] <= 3000
    assert image[..., :3].std() > 0.02  # not an empty sheet
    return image


@pytest.mark.parametrize(
    "rows",
    [
        [row(1, val_loss=1.5, val_accuracy=0.4)],
        [row(1)],
        [evaluated_only(row(1, val_loss=1.5, val_accuracy=0.4))],
        [row(1), row(2, 1), row(3, 1, val_loss=1.0, val_accuracy=0.6)],
        [row(epoch, epoch // 10, val_loss=0.5, val_accuracy=0.6) for epoch in range(1, 41)],
    ],
    ids=["one epoch", "never evaluated", "only evaluated", "two stages", "many"],
)
def test_training(tmp_path, rows):
    pictures.draw_training(rows, tmp_path / "training.png", "a title")
    opened(tmp_path / "training.png")


def test_what_was_not_evaluated_or_trained_is_not_drawn(tmp_path):
    def drawn(color, rows):
        pictures.draw_training(rows, tmp_path / "training.png", "")
        return (np.abs(opened(tmp_path / "training.png")[..., :3] - color) < 0.05).all(axis=-1).sum()

    blue, orange = np.array([0.122, 0.467, 0.706]), np.array([1.0, 0.5, 0.055])  # matplotlib's tab:blue and tab:orange
    evaluated = row(2, val_loss=0.5, val_accuracy=0.6)
    assert drawn(orange, [row(1), row(2)]) == 0
    assert drawn(orange, [row(1), evaluated]) > 50
    assert drawn(blue, [row(1), evaluated]) > 50
    assert drawn(blue, [evaluated_only(evaluated)]) == 0


@pytest.mark.parametrize("stages, images", [(1, 1), (4, 6)])
def test_augmentation(tmp_path, stages, images):
    rng = np.random.default_rng(0)
    columns = [rng.uniform(-0.1, 1.1, [images, 8 * (s + 1), 8 * (s + 1), 3]) for s in range(stages)]
    titles = [f"stage {s + 1}" for s in range(stages)]
    pictures.draw_augmentation(columns, titles, tmp_path / "augmentation.png", "a title")
    opened(tmp_path / "augmentation.png")


@pytest.mark.parametrize("stages", [1, 4])
def test_long_titles_are_not_cut_off(tmp_path, stages):
    title = "folder:/data/TEAM-WITH-A-LONG-NAME/2024/" + "very_long_name_of_a_folder/" * 5 + "end"
    images = [np.full([8, 8, 3], 0.5)] * 2
    pictures.draw_augmentation([images] * stages, ["stage"] * stages, tmp_path / "augmentation.png", title)
    assert_white_edges(opened(tmp_path / "augmentation.png"))
    (tmp_path / "augmentation.png").unlink()
    pictures.draw_training([row(1), row(2)], tmp_path / "training.png", title)
    assert_white_edges(opened(tmp_path / "training.png"))


def assert_white_edges(image):
    for edge in (image[:4], image[-4:], image[:, :4], image[:, -4:]):
        assert edge.min() == 1


def test_replaces_an_older_picture(tmp_path):
    path = tmp_path / "training.png"
    path.write_bytes(b"old")
    pictures.draw_training([row(1), row(2)], path, "")
    opened(path)
