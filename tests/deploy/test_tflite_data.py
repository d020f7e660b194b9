"""Pictures to calibrate and compare with are those of the evaluation's path."""

import types

import numpy as np
import pytest

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.data.sources import DataError, open_source
from efficientnetv2_tf.deploy.bundle import Bundle
from efficientnetv2_tf.deploy.tflite_data import calibration_images, evaluation_batches

BUNDLE = Bundle(None, image_size=20, style="v1", crop=True, class_names=(), multi_label=False, origin="")


def task_of(source, batch_size=7):
    """As much of a `Task` as is needed."""
    data = types.SimpleNamespace(eval_batch_size=batch_size)
    return types.SimpleNamespace(source=source, config=types.SimpleNamespace(data=data))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return open_source("digits", data_dir=folder, train_split="train[:60]", eval_split="test[:20]")


def resized(split):
    """All pictures of a split, float32 [examples, 20, 20, 3]."""
    pictures = [decode.decode(split.read(item)) for _, item, _ in split.open()]
    return np.stack([decode.resize_for_eval(picture, 20, "v1", crop=True) for picture in pictures])


def test_calibration_pictures_are_training_pictures_as_evaluation_sees_them(digits):
    images = calibration_images(task_of(digits), BUNDLE, count=25, seed=3)
    assert images.shape == (25, 20, 20, 3) and images.dtype == np.float32
    assert images.max() > 200  # not normalised
    everything = {image.tobytes() for image in resized(digits.train)}
    assert len({image.tobytes() for image in images} & everything) == 25


def test_the_seed_decides_which_pictures_are_drawn(digits):
    first, again, other = (calibration_images(task_of(digits), BUNDLE, count=10, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(calibration_images(task_of(digits), BUNDLE, count=1000)) == 60


def test_evaluation_takes_every_picture_once_in_order(digits):
    batches = list(evaluation_batches(task_of(digits), BUNDLE).as_numpy_iterator())
    assert [len(pixels) for pixels, _ in batches] == [7, 7, 6]
    np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in batches]), resized(digits.eval))
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(labels, np.eye(10)[[int(label) for *_, label in digits.eval.open()]])
    limited = list(evaluation_batches(task_of(digits), BUNDLE, limit=8).as_numpy_iterator())
    assert [len(pixels) for pixels, _ in limited] == [7, 1]


def test_several_labels_a_picture(digits):
    def examples(*arguments):
        return digits.eval.open(*arguments).map(lambda key, item, label: (key, item, np.array([2, 5], np.int64)))

    split = types.SimpleNamespace(open=examples, read=digits.eval.read)
    source = types.SimpleNamespace(eval=split, num_classes=10, multi_label=True)
    _, labels = next(evaluation_batches(task_of(source), BUNDLE).as_numpy_iterator())
    np.testing.assert_array_equal(labels, np.tile([0, 0, 1, 0, 0, 1, 0, 0, 0, 0], [7, 1]))


def test_bad_pictures_are_passed_over(digits, tmp_path):
    pngs = [item.numpy() for _, item, _ in digits.eval.open().take(6)]
    for number, content in enumerate([*pngs, b"no picture"]):
        path = tmp_path / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "val").mkdir()
    for name in "ab":
        (tmp_path / "val" / name).mkdir()
        (tmp_path / "val" / name / "1.png").write_bytes(pngs[0] if name == "a" else b"no picture")
    source = open_source(f"folder:{tmp_path}")
    assert len(calibration_images(task_of(source), BUNDLE)) == 6
    ((pixels, labels),) = evaluation_batches(task_of(source), BUNDLE).as_numpy_iterator()
    assert len(pixels) == 1 and labels.tolist() == [[1, 0]]
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="None of 7 training pictures"):
        calibration_images(task_of(open_source(f"folder:{tmp_path}")), BUNDLE)
