"""What a network looked at: heat maps of the class that it found.

The networks end in global average pooling and one dense layer. For these Grad-CAM (Selvaraju et al., ICCV 2017, section
3.1) is class activation mapping (Zhou et al., CVPR 2016) up to a constant: the gradient of a class's logit by a feature
map is the classifier's weight for it, divided by the number of positions. So no gradient is needed, and the maps can be
computed by any server.
"""

import keras
import tensorflow as tf
from PIL import Image

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.networks.model import EfficientNet
from efficientnetv2_tf.training.hparams import ConfigError

_LONGEST_SIDE = 1000  # pixels of a picture that is drawn


def check_classifier(network):
    """Raises a `ConfigError` where a network is no `EfficientNet` with a classifier for pictures in colour."""
    if not isinstance(network, EfficientNet) or network.dropout is None or network.input_shape[-1] != 3:
        raise ConfigError(f"Expected an EfficientNet with a classifier and 3 input channels. Received: {network.name}")


def forward_network(network):
    """The network with what leads to its logits.

    Args:
        network: an `EfficientNet` with a classifier for pictures in colour.

    Returns:
        A `keras.Model` that shares its layers, from preprocessed images [batch, size, size, 3] to a dictionary of
        "maps", float [batch, size / 32, size / 32, channels]; "features", [batch, channels], their means; and "logits".

    Raises:
        ConfigError: it is another network.
    """
    check_classifier(network)
    layers = {"maps": "head_activation", "features": "pool"}
    outputs = {key: network.get_layer(name).output for key, name in layers.items()}
    return keras.Model(network.input, {**outputs, "logits": network.output}, name="forward")


def class_heatmaps(maps, kernel, classes):
    """Where a class was found.

    Args:
        maps: float32 [batch, h, w, channels], the last feature maps.
        kernel: float32 [channels, all classes], the classifier's.
        classes: int [batch], the class of each picture.

    Returns:
        float32 [batch, h, w] in 0..1: the positive part of each position's share in the class's logit, divided by its
        largest; all 0 where nothing spoke for the class.
    """
    weights = tf.gather(kernel, classes, axis=1)  # [channels, batch]
    heat = tf.nn.relu(tf.einsum("bhwc,cb->bhw", maps, weights))
    return tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=(1, 2), keepdims=True))


def looked_at(sides, image_size, style, crop):
    """The part of each picture that `data.decode.resize_for_eval` gives the network.

    Args:
        sides: int32 [batch, 2], height and width in pixels.
        image_size: side of the network's input in pixels.
        style: one of `data.decode.STYLES`.
        crop: whether to look at the centre.

    Returns:
        float32 [batch, 4]: top, left, bottom and right in 0..1, as shares of the height or the width.
    """
    begin, part = tf.split(decode.eval_window(sides, image_size, style, crop=crop), 2, axis=-1)
    return tf.cast(tf.concat([begin / sides, (begin + part) / sides], axis=-1), tf.float32)


def draw_explanation(picture, heatmap, region, title, path):
    """Draws a picture, and beside it the same with the heat map over the part that the network looked at.

    Args:
        picture: uint8 [height, width, 3].
        heatmap: float32 [h, w] in 0..1.
        region: top, left, bottom and right of that part, as `looked_at` gives them.
        title: above the picture.
        path: of the PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")  # files only: a server has no screen
    from matplotlib import pyplot

    picture = Image.fromarray(picture)
    picture.thumbnail([_LONGEST_SIDE, _LONGEST_SIDE])
    width, height = picture.size
    top, left, bottom, right = region
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 5.5 * min(max(height / width, 0.5), 2)), layout="constrained")
    for axis in axes:
        axis.imshow(picture, extent=(0, width, height, 0))
        axis.set_axis_off()
    # Smoothly, as a position of the map stands for many pixels.
    extent = (left * width, right * width, bottom * height, top * height)
    axes[1].imshow(heatmap, cmap="jet", vmin=0, vmax=1, alpha=0.5, extent=extent, interpolation="bilinear")
    axes[1].set(xlim=(0, width), ylim=(height, 0))
    figure.suptitle(title, parse_math=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
    pyplot.close(figure)
