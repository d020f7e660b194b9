"""Heat maps, and where they belong."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.deploy.explain import class_heatmaps, draw_explanation, forward_network, looked_at
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.training.hparams import ConfigError


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=[3, 128, 96, 3]).astype(np.float32)


@pytest.fixture(scope="module")
def outputs(make_bundle, images):
    return forward_network(make_bundle().network)(images, training=False)


def test_the_forward_network_gives_what_leads_to_the_logits(make_bundle, images, outputs):
    network = make_bundle().network
    np.testing.assert_allclose(outputs["logits"], network(images, training=False), atol=1e-5)
    np.testing.assert_allclose(outputs["features"], np.mean(outputs["maps"], axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(network.get_layer("classifier")(outputs["features"]), outputs["logits"], atol=1e-5)
    assert outputs["maps"].shape == (3, 16, 12, 64)


def test_heat_maps_are_grad_cam(make_bundle, images, outputs):
    network, classes = make_bundle().network, tf.constant([1, 5, 7])
    found = class_heatmaps(outputs["maps"], network.get_layer("classifier").kernel, classes).numpy()
    head = keras.Sequential([network.get_layer("pool"), network.get_layer("classifier")])
    with tf.GradientTape() as tape:
        maps = tf.constant(outputs["maps"])
        tape.watch(maps)
        logits = tf.gather(head(maps), classes, axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(logits, maps), axis=(1, 2), keepdims=True)
    expected = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)).numpy()
    np.testing.assert_allclose(found, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-5)
    np.testing.assert_array_equal(found.max(axis=(1, 2)), 1)
    assert found.min() == 0


def test_a_heat_map_is_0_where_nothing_speaks_for_the_class():
    heat = class_heatmaps(tf.ones([1, 2, 2, 3]), tf.constant([[-1.0], [-1.0], [0.0]]), [0])
    np.testing.assert_array_equal(heat, np.zeros([1, 2, 2]))


@pytest.mark.parametrize("network", ["features", "other", "grey"])
def test_networks_without_such_a_head_are_refused(network):
    networks = {
        "features": lambda: get_model("testing", include_top=False),
        "other": lambda: keras.Sequential([keras.Input([8]), keras.layers.Dense(2)]),
        "grey": lambda: get_model("testing", num_classes=10, in_channels=1),
    }
    with pytest.raises(ConfigError, match="Expected an EfficientNet with a classifier and 3 input channels"):
        forward_network(networks[network]())


@pytest.mark.parametrize(
    ("style", "size"), [("v1", 32), ("v1", 380), ("v2", 32), ("v2", 319), ("v2", 320), ("finetune", 32)]
)
@pytest.mark.parametrize("crop", [True, False])
def test_regions_are_what_evaluation_cuts_out(style, size, crop, monkeypatch):
    """The picture says at each pixel where it is, and resizing is left out."""
    monkeypatch.setattr(decode, "resize", lambda image, *_: image)
    sides = [(101, 64), (64, 101), (50, 50), (33, 300)]
    for (height, width), region in zip(sides, looked_at(tf.constant(sides), size, style, crop).numpy(), strict=True):
        places = np.stack(np.mgrid[:height, :width], axis=-1)
        seen = decode.resize_for_eval(tf.constant(places), size, style, crop=crop).numpy()
        expected = [*seen[0, 0], *(seen[-1, -1] + 1)]
        np.testing.assert_allclose(region * [height, width, height, width], expected, atol=1e-3)


def test_a_drawing_shows_the_heat_only_where_the_network_looked(tmp_path):
    picture = np.full([60, 100, 3], 255, np.uint8)
    draw_explanation(picture, np.ones([2, 2], np.float32), (0.25, 0.2, 0.75, 0.6), "white, 99 %", tmp_path / "x.png")
    drawn = np.asarray(Image.open(tmp_path / "x.png").convert("RGB")).astype(int)
    red = np.argwhere((drawn[..., 0] > drawn[..., 1] + 50) & (drawn[..., 0] > drawn[..., 2] + 50))
    (top, left), (bottom, right) = red.min(axis=0), red.max(axis=0)
    width = drawn.shape[1] / 2 * 0.98  # of one picture, less its margins
    assert left > drawn.shape[1] / 2
    assert right - left == pytest.approx(0.4 * width, rel=0.05)
    assert bottom - top == pytest.approx(0.5 * 0.6 * width, rel=0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
