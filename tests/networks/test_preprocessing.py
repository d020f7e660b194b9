"""The scalings to the last bit, where they run, and which floats get a warning."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.preprocessing import STYLES, normalize, scaled_range

BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16)  # all there are
GREY = np.repeat(BYTES[..., None], 3, axis=-1)
PICTURES = np.random.default_rng(0).integers(0, 256, [4, 8, 8, 3]).astype(np.float32)
MEAN, STD = np.float32([0.485, 0.456, 0.406]) * 255, np.float32([0.229, 0.224, 0.225]) * 255


def by_hand(images, style):
    x = np.asarray(images, np.float32)
    if style == "v2":
        return (x - np.float32(128)) / np.float32(128)
    if style == "finetune":
        return (x / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    mean, std = ([np.float32(255 * c) for c in values] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (x - mean) / std


@pytest.fixture(scope="module")
def models():
    """A network for each style, and a grey one."""
    models = {style: get_model("testing", num_classes=2, preprocessing=style) for style in STYLES}
    return {**models, "grey": get_model("testing", num_classes=2, in_channels=1, preprocessing="v1")}


@pytest.mark.parametrize("style", STYLES)
class TestArithmetic:
    def test_to_the_last_bit(self, models, style):
        expected = by_hand(GREY, style)
        for images in (GREY, tf.constant(GREY), *map(GREY.astype, ("float32", "float64", "int32"))):
            scaled = models[style].preprocess(images)
            assert scaled.dtype == "float32"
            np.testing.assert_array_equal(scaled, expected)
        np.testing.assert_array_equal(decode.normalize(GREY, style), expected)

    def test_lists_and_any_number_of_axes(self, models, style):
        scaled = models[style].preprocess([[0, 100, 255]])
        np.testing.assert_array_equal(scaled, by_hand([[0, 100, 255]], style))
        assert models[style].preprocess(np.zeros([2, 0, 4, 3])).shape == (2, 0, 4, 3)

    def test_in_a_map_and_in_a_function(self, models, style):
        preprocess = models[style].preprocess
        (mapped,) = tf.data.Dataset.from_tensors(GREY).map(preprocess).as_numpy_iterator()
        np.testing.assert_array_equal(mapped, by_hand(GREY, style))
        unknown = tf.TensorSpec(None, tf.uint8)  # as tf.io.decode_image gives it
        traced = tf.function(preprocess, input_signature=[unknown])(GREY)  # TensorFlow multiplies by 1 / std there
        np.testing.assert_allclose(traced, mapped, atol=1e-6)

    def test_it_is_the_network_s(self, models, style):
        assert models[style].preprocessing == style
        assert models[style].get_config()["preprocessing"] == style


def test_values_by_hand():
    pixels = np.array([[0, 128, 255]], np.uint8)
    np.testing.assert_array_equal(normalize(pixels, "v2"), [[-1, 0, 127 / 128]])
    np.testing.assert_allclose(normalize(pixels, "finetune"), [[-1, 128 / 127.5 - 1, 1]], atol=1e-6)
    expected = [[-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]]
    np.testing.assert_allclose(normalize(pixels, "v1"), expected, atol=1e-6)


def test_the_variants_have_their_own():
    assert get_model("testing", num_classes=2).preprocessing == "v2"
    b0 = get_model("efficientnetv2-b0", num_classes=2, width_coefficient=0.1, depth_coefficient=0.05, feature_size=8)
    assert b0.preprocessing == "v1"


class TestChannels:
    def test_one_gets_the_means(self, models):
        scaled = models["grey"].preprocess(BYTES[..., None])
        np.testing.assert_allclose(scaled[..., 0], (BYTES - MEAN.mean()) / STD.mean(), rtol=1e-5, atol=1e-6)

    def test_more_take_turns(self):
        images = np.full([2, 2, 5], 200, np.uint8)
        turns = [0, 1, 2, 0, 1]
        np.testing.assert_allclose(normalize(images, "v1", 5)[0, 0], ((200 - MEAN) / STD)[turns], rtol=1e-5)
        np.testing.assert_array_equal(normalize(images, "v2", 5), np.full([2, 2, 5], 72 / 128))

    @pytest.mark.parametrize("style, channels", [("v2", 1), ("v1", 4), ("grey", 3)])
    def test_another_number(self, models, style, channels):
        expected = 1 if style == "grey" else 3
        message = rf"`images` should have {expected} channels, the last axis\. Received: shape \(8, 8, {channels}\)"
        with pytest.raises(ValueError, match=message):
            models[style].preprocess(np.zeros([8, 8, channels], np.uint8))
        with pytest.raises(ValueError, match=f"should have {expected} channels"):
            models[style].preprocess(tf.zeros([8, 8, channels]))


def test_unknown_styles():
    with pytest.raises(ValueError, match=r"`style` should be one of \('v2', 'v1', 'finetune'\)\. Received: style='v3'"):
        normalize(GREY, "v3")
    with pytest.raises(ValueError, match=r"`preprocessing` should be one of .* Received: preprocessing='v3'"):
        get_model("testing", preprocessing="v3")


class TestScaledImages:
    @pytest.mark.parametrize(
        "images",
        [
            PICTURES / 255,
            np.float16(PICTURES / 255),
            -np.ones([2, 2, 3]),
            np.full([1, 3], 0.5),
            *(by_hand(PICTURES, style) for style in STYLES),
        ],
    )
    def test_get_one_warning(self, images):
        model = get_model("testing", num_classes=2)
        with pytest.warns(UserWarning, match=r"`images` look scaled already: floats from .* in 0\.\.255") as caught:
            model.preprocess(images)
            model.preprocess(tf.constant(images))
        assert len(caught) == 1
        assert caught[0].filename == __file__  # the caller's line

    @pytest.mark.parametrize(
        "images",
        [
            PICTURES,
            PICTURES / 255 * 254 - 3,  # bicubic resizing leaves a little below 0
            np.zeros([2, 2, 3], np.float32),
            np.zeros([2, 2, 3], np.uint8),
            np.ones([2, 2, 3], np.uint8),
            np.full([2, 2, 3], -1, np.int8),
            np.full([2, 2, 3], np.nan, np.float32),
            np.zeros([0, 2, 3], np.float32),
        ],
    )
    def test_pictures_get_none(self, models, images):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            models["v2"].preprocess(images)
            models["v2"].preprocess(tf.constant(images))

    def test_nor_do_tensors_without_values(self, models):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            tf.function(models["v1"].preprocess)(PICTURES / 255)
            list(tf.data.Dataset.from_tensors(PICTURES / 255).map(models["v1"].preprocess))
        assert scaled_range(PICTURES / 255) == pytest.approx((0, 1))


def test_says_nothing_inside_of_a_data_set(run_python):
    code = """
import contextlib, io
import numpy as np, tensorflow as tf
from efficientnetv2_tf import get_model
said = io.StringIO()
model = get_model("testing")
with contextlib.redirect_stderr(said):
    images = tf.data.Dataset.from_tensor_slices(np.zeros([2, 8, 8, 3], np.uint8)).map(model.preprocess)
    assert next(iter(images)).dtype == tf.float32
print("SAID", said.getvalue())
"""
    assert run_python(code).rstrip().endswith("SAID")
