"""Decoding and geometry: the official release's numbers in evaluation, properties in training."""

import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import decode

REFERENCE = pathlib.Path(__file__).parent / "reference"
CHINA = (REFERENCE / "china.jpg").read_bytes()
CHINA_VALUES = dict(np.load(REFERENCE / "eval_preprocessing_china.npz"))
CASES = sorted(key.removesuffix("-sample") for key in CHINA_VALUES if key.endswith("-sample"))


# --- evaluation ---


@pytest.mark.parametrize("case", CASES)
def test_equals_the_release(case):
    style, size = case.split("-")
    size = int(size)
    image = decode.preprocess_eval(CHINA, size, style).numpy()
    assert image.shape == (size, size, 3)
    assert image.dtype == np.float32
    expected = CHINA_VALUES[f"{case}-sample"]
    step = max(1, size // 48)
    tolerance = 1e-3 * (expected.max() - expected.min())
    np.testing.assert_allclose(image[::step, ::step], expected, atol=tolerance, rtol=0)
    np.testing.assert_allclose([image.mean(), image.std()], CHINA_VALUES[f"{case}-mean_std"], atol=tolerance)


def coordinates(height, width):
    """An image that holds its own coordinates: row, column, 0."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    "style, size, crop, cropped",
    [
        ("v2", 224, True, True),
        ("v2", 320, True, False),
        ("v1", 224, True, True),
        ("v1", 380, True, True),
        ("finetune", 96, True, False),
        ("v2", 224, False, False),
        ("v1", 224, False, False),
    ],
)
def test_where_evaluation_looks(style, size, crop, cropped):
    image = decode.resize_for_eval(coordinates(120, 240), size, style, crop=crop).numpy()
    rows, columns = image[size // 2, :, 1], image[:, size // 2, 0]
    if cropped:
        side = 120 * size / (size + 32)
        assert np.ptp(rows) == pytest.approx(side, abs=2)
        assert np.ptp(columns) == pytest.approx(side, abs=2)
    else:
        assert np.ptp(rows) > 236
        assert np.ptp(columns) > 117
    assert image[..., 1].mean() == pytest.approx(119.5, abs=1)
    assert image[..., 0].mean() == pytest.approx(59.5, abs=1)


def test_normalize():
    values = np.array([[[0, 128, 255]]], np.uint8)
    np.testing.assert_allclose(decode.normalize(values, "v2"), [[[-1, 0, 127 / 128]]], atol=1e-6)
    np.testing.assert_allclose(decode.normalize(values, "finetune"), [[[-1, 128 / 127.5 - 1, 1]]], atol=1e-6)
    expected = [[[-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]]]
    np.testing.assert_allclose(decode.normalize(values, "v1"), expected, atol=1e-5)


def test_unknown_style():
    for call in (
        lambda: decode.normalize(np.zeros([2, 2, 3]), "v3"),
        lambda: decode.resize(np.zeros([2, 2, 3]), 4, "v3"),
        lambda: decode.preprocess_eval(CHINA, 96, "v3"),
    ):
        with pytest.raises(ValueError, match=r"`style` should be one of .*'v2'.* Received: style='v3'"):
            call()


# --- decoding ---


def encoded(kind):
    """A picture of 5 x 7 pixels of one colour, and its colour."""
    from PIL import Image

    colour = (10, 20, 200)
    modes = {
        "grey.png": ("L", 90),
        "grey.jpg": ("L", 90),
        "deep.png": ("I;16", 90 * 257),
        "palette.png": ("P", colour),
        "palette.gif": ("P", colour),
        "alpha.png": ("RGBA", (*colour, 128)),
        "colour.bmp": ("RGB", colour),
    }
    mode, colour = modes[kind]
    image = Image.new("RGB" if mode == "P" else mode, (7, 5), colour)
    if mode == "P":
        image = image.quantize(4)
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "jpeg"}.get(kind[-3:], kind[-3:]))
    return buffer.getvalue(), [90] * 3 if kind.split(".")[0] in ("grey", "deep") else [10, 20, 200]


@pytest.mark.parametrize(
    "kind", ["grey.png", "palette.png", "grey.jpg", "palette.gif", "alpha.png", "colour.bmp", "deep.png"]
)
def test_decodes_to_three_channels(kind):
    pytest.importorskip("PIL")
    content, colour = encoded(kind)
    dataset = tf.data.Dataset.from_tensors(content).map(decode.decode)
    assert dataset.element_spec == tf.TensorSpec([None, None, 3], tf.uint8)
    (image,) = dataset.as_numpy_iterator()
    assert image.shape == (5, 7, 3)
    np.testing.assert_allclose(image.reshape(-1, 3), np.tile(colour, [35, 1]), atol=1)


def test_first_frame_of_an_animation():
    image_module = pytest.importorskip("PIL.Image")
    frames = [image_module.new("RGB", (7, 5), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    buffer = io.BytesIO()
    frames[0].save(buffer, "gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decode.decode(buffer.getvalue())[2, 3], [250, 0, 0], atol=5)


# --- training ---


def seeds(count):
    return tf.random.experimental.stateless_split(tf.constant([3, 4], tf.int32), count)


def draw(image, count, **options):
    """Many draws of `resize_for_training`."""
    options = {"image_size": 12, "style": "v2", "crop": True, "flip": True, **options}
    size, style = options.pop("image_size"), options.pop("style")
    image = tf.constant(image)
    dataset = tf.data.Dataset.from_tensor_slices(seeds(count)).map(
        lambda seed: decode.resize_for_training(image, size, seed, style, **options)
    )
    return np.stack(list(dataset.as_numpy_iterator()))


@pytest.mark.parametrize("style", decode.STYLES)
def test_type_and_live_size(style):
    size = tf.Variable(12)
    image = tf.constant(coordinates(40, 60))
    dataset = tf.data.Dataset.from_tensors((1, 2)).map(
        lambda a, b: decode.resize_for_training(image, size, tf.stack([a, b]), style, crop=True, flip=True)
    )
    for side in (12, 20):
        size.assign(side)
        (result,) = dataset.as_numpy_iterator()
        assert result.shape == (side, side, 3)
        assert result.dtype == np.uint8


@pytest.mark.parametrize("crop", [False, True])
def test_half_are_mirrored(crop):
    images = draw(coordinates(64, 64), 2000, crop=crop).astype(int)
    mirrored = images[:, 5, 0, 1] > images[:, 5, -1, 1]
    assert mirrored.mean() == pytest.approx(0.5, abs=0.04)  # 3.5 standard deviations
    unmirrored = draw(coordinates(64, 64), 100, crop=crop, flip=False).astype(int)
    assert (unmirrored[:, 5, 0, 1] <= unmirrored[:, 5, -1, 1]).all()


def test_mirroring_does_not_depend_on_the_crop():
    images = draw(coordinates(200, 200), 2000).astype(int)
    left, right = images[:, 6, 0, 1], images[:, 6, -1, 1]
    height, width = np.abs(images[:, -1, 6, 0] - images[:, 0, 6, 0]), np.abs(right - left)
    mirrored = left > right
    for value in (width, height, width / np.maximum(height, 1), left + right, images[:, 6, 6, 0]):
        assert abs(np.corrcoef(mirrored, value)[0, 1]) < 0.08  # 3.5 standard deviations


@pytest.mark.parametrize("style, smallest", [("v2", 0.05), ("v1", 0.08)])
def test_crops(style, smallest):
    image = coordinates(100, 150)
    dataset = tf.data.Dataset.from_tensor_slices(seeds(500)).map(lambda seed: decode.random_crop(image, seed, style))
    areas, ratios = [], []
    for part in dataset.as_numpy_iterator():
        height, width = part.shape[:2]
        top, left = part[0, 0, :2]
        np.testing.assert_array_equal(part, image[top : top + height, left : left + width])  # whole and inside
        areas.append(height * width / 15000)
        ratios.append(width / height)
    assert smallest - 0.01 < min(areas) < smallest + 0.03
    assert max(areas) > 0.8
    assert 0.7 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.4


def test_without_crop_all_is_used():
    images = draw(coordinates(100, 150), 3, crop=False, flip=False, image_size=50)
    assert (images == images[0]).all()
    assert images[0, 0, 0, 1] <= 1
    assert images[0, -1, -1, 1] >= 148


def test_same_seed_same_result():
    image, seed = coordinates(40, 60), tf.constant([5, 6])
    one, two, other = (
        decode.resize_for_training(image, 16, s, "v2", crop=True, flip=True).numpy() for s in (seed, seed, seed + 1)
    )
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_bicubic_overshoot_is_cut_off():
    image = np.zeros([16, 16, 3], np.uint8)
    image[:, 8:] = 255
    floating = decode.resize(image, 40, "v1").numpy()
    assert floating.min() < -1
    assert floating.max() > 256
    result = decode.resize_for_training(image, 40, (1, 2), "v1", crop=False, flip=False).numpy()
    np.testing.assert_array_equal(result, np.clip(np.round(floating), 0, 255).astype(np.uint8))
