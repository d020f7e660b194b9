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


@pytest.mark.parametrize("style", ["v1", "v2"])
def test_pictures_of_a_pixel_or_two(style):
    """They are as good as others."""
    sides = [(1, 1), (1, 40), (40, 1), (2, 2), (2, 3)]
    for size in (16, 224, 380):
        top, left, height, width = decode.eval_window(tf.constant(sides), size, style).numpy().T
        assert min(*height, *width) > 0 and min(*top, *left) >= 0
        assert (np.stack([top + height, left + width], axis=1) <= sides).all()
    flat = [tf.fill([*shape, 3], tf.constant(200, tf.uint8)) for shape in sides]
    encoded = [encode(image) for image in flat for encode in (tf.io.encode_png, tf.io.encode_jpeg)]
    dataset = tf.data.Dataset.from_tensor_slices((encoded, seeds(len(encoded)))).map(
        lambda picture, seed: (
            decode.preprocess_eval(picture, 16, style),
            decode.decode_for_training(picture, 16, seed, style, crop=True, flip=True),
        )
    )
    for evaluated, trained in dataset.as_numpy_iterator():
        np.testing.assert_allclose(evaluated, decode.normalize(tf.fill([16, 16, 3], 200), style), atol=0.03)
        np.testing.assert_allclose(trained, np.full([16, 16, 3], 200), atol=1)


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
        lambda: decode.decode_for_training(CHINA, 96, (1, 2), "v3", crop=True, flip=True),
    ):
        with pytest.raises(ValueError, match=r"`style` should be one of .*'v2'.* Received: style='v3'"):
            call()


# --- training ---


def png(image):
    return tf.io.encode_png(tf.constant(image, tf.uint8)).numpy()


def seeds(count):
    return tf.random.experimental.stateless_split(tf.constant([3, 4], tf.int32), count)


def draw(encoded, count, **options):
    """Many draws of `decode_for_training`: int [count, image_size, image_size, 3]."""
    options = {"image_size": 12, "style": "v2", "crop": True, "flip": True, **options}
    size, style = options.pop("image_size"), options.pop("style")
    dataset = tf.data.Dataset.from_tensor_slices(seeds(count)).map(
        lambda seed: decode.decode_for_training(encoded, size, seed, style, **options)
    )
    return np.stack(list(dataset.as_numpy_iterator())).astype(int)


def expected_window(height, width, seed, style):
    """What TensorFlow draws with the release's numbers."""
    v1 = style == "v1"
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        [height, width, 3],
        tf.zeros([0, 0, 4]),
        tf.unstack(tf.random.split(seed, 2))[0],
        min_object_covered=0.1 if v1 else 0.0,
        aspect_ratio_range=(3 / 4, 4 / 3) if v1 else None,
        area_range=(0.08 if v1 else 0.05, 1.0),
        max_attempts=10 if v1 else 100,
        use_image_if_no_bounding_boxes=True,
    )
    return begin.numpy()[:2], size.numpy()[:2]


@pytest.mark.parametrize("style", decode.STYLES)
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_type_and_live_size(style, kind):
    size = tf.Variable(12)
    encoded = png(coordinates(40, 60)) if kind == "png" else CHINA
    dataset = tf.data.Dataset.from_tensors((1, 2)).map(
        lambda a, b: decode.decode_for_training(encoded, size, tf.stack([a, b]), style, crop=True, flip=True)
    )
    assert dataset.element_spec.shape.as_list() == [None, None, 3]
    for side in (12, 20, 200):
        size.assign(side)
        (result,) = dataset.as_numpy_iterator()
        assert result.shape == (side, side, 3)
        assert result.dtype == np.uint8


@pytest.mark.parametrize("crop", [False, True])
def test_half_are_mirrored(crop):
    images = draw(png(coordinates(64, 64)), 2000, crop=crop)
    mirrored = images[:, 5, 0, 1] > images[:, 5, -1, 1]
    assert mirrored.mean() == pytest.approx(0.5, abs=0.04)  # 3.5 standard deviations
    unmirrored = draw(png(coordinates(64, 64)), 100, crop=crop, flip=False)
    assert (unmirrored[:, 5, 0, 1] <= unmirrored[:, 5, -1, 1]).all()


def test_mirroring_does_not_depend_on_the_crop():
    images = draw(png(coordinates(200, 200)), 2000)
    left, right = images[:, 6, 0, 1], images[:, 6, -1, 1]
    height, width = np.abs(images[:, -1, 6, 0] - images[:, 0, 6, 0]), np.abs(right - left)
    mirrored = left > right
    for value in (width, height, width / np.maximum(height, 1), left + right, images[:, 6, 6, 0]):
        assert abs(np.corrcoef(mirrored, value)[0, 1]) < 0.08  # 3.5 standard deviations


@pytest.mark.parametrize(
    "style, smallest, options", [("v2", 0.05, {}), ("v1", 0.1, {}), ("v2", 0.5, {"crop_min_area": 0.5})]
)
def test_area_and_aspect_of_the_part(style, smallest, options):
    images = draw(png(coordinates(240, 250)), 800, style=style, flip=False, image_size=100, **options)
    height = (images[:, -1, 50, 0] - images[:, 0, 50, 0] + 1) / 240
    width = (images[:, 50, -1, 1] - images[:, 50, 0, 1] + 1) / 250
    areas, ratios = height * width, width / height * 250 / 240
    assert smallest - 0.015 < min(areas) < smallest + 0.03
    assert max(areas) > 0.9
    assert 0.7 < min(ratios) < 0.79
    assert 1.29 < max(ratios) < 1.4


@pytest.mark.parametrize("style", ["v2", "v1"])
def test_the_part_is_the_one_tensorflow_draws(style):
    image = coordinates(60, 90)
    for seed in tf.unstack(seeds(10)):
        (top, left), (height, width) = expected_window(60, 90, seed, style)
        expected = decode.resize(image[top : top + height, left : left + width], 30, style)
        result = decode.decode_for_training(png(image), 30, seed, style, crop=True, flip=False)
        np.testing.assert_array_equal(result, np.clip(np.round(expected), 0, 255))


def test_v1_takes_the_centre_where_no_part_fits():
    image = coordinates(250, 6)
    for style, first, last in (("v1", 124, 126), ("v2", 2, 247)):
        result = decode.decode_for_training(png(image), 50, (1, 2), style, crop=True, flip=False)
        np.testing.assert_allclose(result[::49, 25, 0], [first, last], atol=1)


def test_without_crop_all_is_used():
    images = draw(png(coordinates(100, 150)), 3, crop=False, flip=False, image_size=50)
    assert (images == images[0]).all()
    assert images[0, 0, 0, 1] <= 1
    assert images[0, -1, -1, 1] >= 148


def test_same_seed_same_result():
    seed = tf.constant([5, 6])
    for encoded in (CHINA, png(coordinates(40, 60))):
        one, two, other = (
            decode.decode_for_training(encoded, 16, s, "v2", crop=True, flip=True).numpy()
            for s in (seed, seed, seed + 1)
        )
        np.testing.assert_array_equal(one, two)
        assert (one != other).any()


def test_bicubic_overshoot_is_cut_off():
    image = np.zeros([16, 16, 3], np.uint8)
    image[:, 8:] = 255
    floating = decode.resize(image, 40, "v1").numpy()
    assert floating.min() < -1
    assert floating.max() > 256
    result = decode.decode_for_training(png(image), 40, (1, 2), "v1", crop=False, flip=False).numpy()
    np.testing.assert_array_equal(result, np.clip(np.round(floating), 0, 255).astype(np.uint8))


# --- parts of JPEGs ---


@pytest.mark.parametrize("style", ["v2", "v1"])
def test_a_jpeg_gives_what_its_pixels_give(style):
    """At full size: the colours repeated as they are stored, and near to those that evaluation interpolates."""
    pixels = png(tf.io.decode_jpeg(CHINA, fancy_upscaling=False))
    interpolated = png(decode.decode(CHINA))
    for flip in (False, True):
        jpeg, whole, near = (
            draw(encoded, 20, image_size=224, style=style, flip=flip) for encoded in (CHINA, pixels, interpolated)
        )
        difference = np.abs(jpeg - whole)
        assert difference.mean() < 0.01
        assert difference[:, 4:-4, 4:-4].max() <= 4
        assert 0.1 < np.abs(jpeg - near).mean() < 1.5


@pytest.mark.parametrize("size, ratio", [(128, 2), (64, 4), (32, 8)])
def test_decoded_smaller_it_aliases_less(size, ratio):
    """Compared with a picture resized with antialiasing, which is what the decoder's smaller transforms come to."""
    whole = decode.decode(CHINA)
    smooth = tf.image.resize(whole, [size, size], antialias=True)
    result = draw(CHINA, 1, image_size=size, crop=False, flip=False)[0]
    rough = tf.image.resize(whole, [size, size])
    assert whole.shape[0] // size >= ratio
    error, error_of_rough = np.abs(result - smooth).mean(), np.abs(rough - smooth).mean()
    assert error < 5
    assert error < 0.75 * error_of_rough


def parts(encoded):
    """Those of 60 that can be decoded."""
    dataset = tf.data.Dataset.from_tensor_slices(seeds(60)).map(
        lambda seed: decode.decode_for_training(encoded, 64, seed, "v2", crop=True, flip=False)
    )
    return list(dataset.ignore_errors().as_numpy_iterator())


def test_no_row_below_the_part_is_decoded():
    """Where the lower rows are gone, parts above them are as they were."""
    without_rows_below = CHINA[: len(CHINA) * 6 // 10] + b"\xff\xd9"
    same = [np.array_equal(*pair) for pair in zip(parts(CHINA), parts(without_rows_below), strict=True)]
    assert 5 < sum(same) < 55


def test_a_cut_jpeg_fails_whatever_the_part():
    cut = CHINA[: len(CHINA) * 9 // 10]
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode.decode(cut)
    assert not parts(cut)


def test_a_jpeg_with_more_behind_its_end_is_whole():
    """As some telephones write them."""
    assert len(parts(CHINA + bytes(1000))) == 60


@pytest.mark.parametrize("kind", ["grey", "cmyk", "progressive", "4:4:4", "exif"])
def test_jpegs_of_all_kinds(kind):
    encoded = encode_jpeg(kind)
    whole = png(decode.decode(encoded))
    for size in (100, 40):  # as it is, and at half its size
        jpeg = draw(encoded, 1, image_size=size, crop=False, flip=False)
        np.testing.assert_allclose(jpeg, draw(whole, 1, image_size=size, crop=False, flip=False), atol=12)


def encode_jpeg(kind):
    """A smooth picture of 100 x 100 pixels."""
    image_module = pytest.importorskip("PIL.Image")
    rows, columns = np.meshgrid(np.linspace(0, 250, 100), np.linspace(0, 200, 100), indexing="ij")
    image = image_module.fromarray(np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8))
    if kind in ("grey", "cmyk"):
        image = image.convert({"grey": "L", "cmyk": "CMYK"}[kind])
    options = {"progressive": {"progressive": True}, "4:4:4": {"subsampling": 0}}.get(kind, {})
    if kind == "exif":  # taken with the camera on its side, which is ignored
        exif = image_module.Exif()
        exif[0x0112] = 6
        options = {"exif": exif}
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=95, **options)
    return buffer.getvalue()


def test_a_bad_picture_is_refused():
    for encoded in (b"", b"\xff", b"no picture", CHINA[:500]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode.decode_for_training(encoded, 32, (1, 2), "v2", crop=True, flip=True)
