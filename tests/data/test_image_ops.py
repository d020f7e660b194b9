"""The image operations against values computed with the official release, and their properties."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import image_ops

REFERENCE = Path(__file__).parent / "reference" / "image_ops"
STRENGTHS = {  # one argument for every operation that takes one
    "Rotate": 17.5,
    "Posterize": 3,
    "Solarize": 90,
    "SolarizeAdd": 60,
    "Color": 0.3,
    "Contrast": 0.3,
    "Brightness": 1.4,
    "Sharpness": 1.7,
    "ShearX": 0.2,
    "ShearY": -0.2,
    "Cutout": 5,
    "TranslateX": 4,
    "TranslateY": -4,
}


def reference(kind):
    values = dict(np.load(REFERENCE / f"ops_{kind}.npz"))
    image = values.pop("image")
    cases = []
    for key, expected in values.items():
        name, _, argument = key.partition("@")
        cases.append((key, name, float(argument) if argument else None, expected))
    return image, cases


def random_image(height, width, low=0, high=256, seed=0):
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), np.uint8)


def constant(value, shape=(8, 8, 3)):
    return np.full(shape, value, np.uint8)


@pytest.mark.parametrize("kind", ["photo", "noise"])
class TestReference:
    def test_eager(self, kind):
        image, cases = reference(kind)
        assert {name for _, name, _, _ in cases} == set(image_ops.OP_NAMES) - {"Cutout"}
        for key, name, argument, expected in cases:
            np.testing.assert_array_equal(image_ops.apply(name, image, argument), expected, err_msg=key)

    def test_inside_tf_data_with_unknown_size_and_tensor_argument(self, kind):
        image, cases = reference(kind)
        for name in {name for _, name, _, _ in cases}:
            arguments, expected = zip(*[case[2:] for case in cases if case[1] == name], strict=True)
            takes_argument = arguments[0] is not None

            def run(argument, name=name, takes_argument=takes_argument):
                dynamic = tf.ensure_shape(tf.numpy_function(lambda: image, [], tf.uint8), [None, None, 3])
                return image_ops.apply(name, dynamic, argument if takes_argument else None)

            live = np.float32(arguments if takes_argument else [0.0])
            dataset = tf.data.Dataset.from_tensor_slices(live).map(run)
            for argument, got, want in zip(arguments, dataset, expected, strict=True):
                np.testing.assert_array_equal(got, want, err_msg=f"{name}@{argument}")

    def test_graph_with_known_size_and_number_argument(self, kind):
        image, cases = reference(kind)

        @tf.function
        def run(image):
            return [image_ops.apply(name, image, argument) for _, name, argument, _ in cases]

        for (key, *_, expected), got in zip(cases, run(tf.constant(image)), strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=key)


def equalize_channel(channel):
    """PIL's rule, one value at a time."""
    counts = [int((channel == value).sum()) for value in range(256)]
    step = (channel.size - [count for count in counts if count][-1]) // 255
    if step == 0:
        return channel
    table, total = [], step // 2
    for count in counts:
        table.append(min(total // step, 255))
        total += count
    return np.uint8(table)[channel]


@pytest.mark.parametrize(
    "image",
    [
        random_image(40, 30, 100, 140),
        random_image(64, 64, 250, 256),
        random_image(3, 4),
        constant(7, (40, 40, 3)),
        np.where(random_image(50, 20) < 20, 255, 0).astype(np.uint8),
    ],
    ids=["low contrast", "bright", "too few pixels", "constant", "two values"],
)
def test_equalize_follows_its_definition(image):
    expected = np.stack([equalize_channel(image[..., channel]) for channel in range(3)], axis=-1)
    np.testing.assert_array_equal(image_ops.apply("Equalize", image), expected)


def test_auto_contrast_stretches_each_channel_and_leaves_a_constant_one():
    image = random_image(16, 16, 100, 140)
    image[..., 1] = 77
    result = image_ops.apply("AutoContrast", image).numpy()
    assert (result[..., 1] == 77).all()
    for channel in (0, 2):
        assert result[..., channel].min() == 0
        assert result[..., channel].max() >= 254
        order = np.argsort(image[..., channel], axis=None)
        assert (np.diff(result[..., channel].ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("threshold", [-3, 0, 1, 128, 255, 256, 640])
def test_solarize_inverts_from_the_threshold_on(threshold):
    image = np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis].repeat(3, axis=2)
    expected = np.where(image.astype(int) >= threshold, 255 - image, image)
    np.testing.assert_array_equal(image_ops.apply("Solarize", image, threshold), expected)
    np.testing.assert_array_equal(image_ops.apply("Solarize", image, tf.constant(float(threshold))), expected)


@pytest.mark.parametrize("addition", [-400, -100, 0, 100, 200, 330])
def test_solarize_add_saturates_and_spares_the_bright(addition):
    image = np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis].repeat(3, axis=2)
    expected = np.where(image < 128, np.clip(image.astype(int) + addition, 0, 255), image)
    np.testing.assert_array_equal(image_ops.apply("SolarizeAdd", image, addition), expected)


@pytest.mark.parametrize("bits, kept", [(0, 0x80), (1, 0x80), (3, 0xE0), (8, 0xFF), (12, 0xFF)])
def test_posterize_keeps_the_upper_bits(bits, kept):
    image = random_image(9, 9)
    np.testing.assert_array_equal(image_ops.apply("Posterize", image, bits), image & kept)


@pytest.mark.parametrize("size, grey", [((16, 16), 1), ((24, 24), 2), ((300, 300), 255)])
def test_contrast_blends_towards_the_number_of_pixels(size, grey):
    image = random_image(*size)
    assert (image_ops.apply("Contrast", image, 0.0).numpy() == grey).all()


@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
def test_blend_factor_one_is_the_image(name):
    image = random_image(20, 10)
    np.testing.assert_array_equal(image_ops.apply(name, image, 1.0), image)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 5), (5, 2)])
def test_sharpness_leaves_the_border(size):
    image = random_image(*size)
    np.testing.assert_array_equal(image_ops.apply("Sharpness", image, 0.1), image)


def test_quarter_turn_is_counter_clockwise():
    image = random_image(12, 12)
    np.testing.assert_array_equal(image_ops.apply("Rotate", image, 90.0), np.rot90(image))
    np.testing.assert_array_equal(image_ops.apply("Rotate", image, tf.constant(-90)), np.rot90(image, -1))


def test_translation_moves_left_and_up_and_fills_with_grey():
    image = random_image(9, 11)
    left = image_ops.apply("TranslateX", image, 4).numpy()
    np.testing.assert_array_equal(left[:, :7], image[:, 4:])
    assert (left[:, 7:] == 128).all()
    up = image_ops.apply("TranslateY", image, 2).numpy()
    np.testing.assert_array_equal(up[:7], image[2:])
    assert (up[7:] == 128).all()
    assert (image_ops.apply("TranslateX", image, -100).numpy() == 128).all()


class TestCutout:
    def test_is_a_grey_square_cut_off_at_the_borders(self):
        image = constant(0, (20, 30, 3))
        for number in range(40):
            grey = image_ops.apply("Cutout", image, 4, seed=(number, 1)).numpy() == 128
            rows, columns = np.flatnonzero(grey.any(axis=(1, 2))), np.flatnonzero(grey.any(axis=(0, 2)))
            assert grey.sum() == len(rows) * len(columns) * 3  # a full rectangle, in all channels
            for hit, last in ((rows, 19), (columns, 29)):
                assert len(hit) == 8 or hit[0] == 0 or hit[-1] == last
                assert 4 <= len(hit) <= 8

    def test_centre_is_uniform(self):
        image = constant(0, (4, 8, 3))

        def centre(number):
            result = image_ops.apply("Cutout", image, 1, seed=tf.stack([number, 3]))
            return tf.where(result[..., 0] == 128)[-1]  # the lower right of 2 x 2 pixels is the centre

        seeds = tf.data.Dataset.range(2000, output_type=tf.int32)
        centres = np.array(list(seeds.map(centre, num_parallel_calls=2).as_numpy_iterator()))
        counts = np.zeros([4, 8])
        np.add.at(counts, tuple(centres.T), 1)
        assert (np.abs(counts - 2000 / 32) < 4.5 * np.sqrt(2000 / 32)).all()

    def test_same_seed_same_place(self):
        image = random_image(32, 32)
        seeds = [(1, 2), (1, 2), (2, 2)]
        results = [image_ops.apply("Cutout", image, tf.constant(5.9), seed=seed) for seed in seeds]
        first, again, other = (result.numpy() for result in results)
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_nothing_at_size_zero(self):
        image = random_image(8, 8)
        np.testing.assert_array_equal(image_ops.apply("Cutout", image, 0, seed=(0, 0)), image)


@pytest.mark.parametrize("name", image_ops.OP_NAMES)
def test_keeps_dtype_shape_and_takes_live_variables(name):
    image = tf.constant(random_image(10, 14))
    argument = None if name in image_ops.WITHOUT_ARGUMENT else tf.Variable(float(STRENGTHS[name]))
    result = image_ops.apply(name, image, argument, seed=(4, 4))
    assert result.dtype == tf.uint8
    assert result.shape == image.shape
    if argument is not None:
        expected = image_ops.apply(name, image, STRENGTHS[name], seed=(4, 4))
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("Rotat", constant(0), 1.0), "Unknown image operation 'Rotat'; did you mean Rotate"),
        (("qqq", constant(0), 1.0), "known: AutoContrast, Equalize"),
        (("Invert", np.zeros([8, 8, 3], np.float32)), "should be uint8. Received: dtype=float32"),
        (("Invert", constant(0, (2, 8, 8, 3))), r"\[height, width, 3\]. Received: shape=\(2, 8, 8, 3\)"),
        (("Invert", constant(0, (8, 8, 1))), r"Received: shape=\(8, 8, 1\)"),
        (("Invert", constant(0), 1.0), "`argument` of Invert should be left out"),
        (("Rotate", constant(0)), "`argument` of Rotate should be a number"),
        (("Cutout", constant(0), 3), "`seed` of Cutout should be int32"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        image_ops.apply(*arguments)
