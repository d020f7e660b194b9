"""Batch normalisation folded into the convolutions before it, for inference."""

import keras
import numpy as np

from efficientnetv2_tf.networks.blocks import Block
from efficientnetv2_tf.networks.normalization import FOLDED, has_statistics


def fold_normalization(network):
    """A network that computes the same in inference, without normalisations.

    In inference batch normalisation is a scale and an offset for each channel, so it can be a part of the convolution
    before: `kernel * gamma / sqrt(variance + epsilon)`, and the bias `beta - mean * gamma / sqrt(variance + epsilon)`
    (Jacob et al., CVPR 2018, section 3.2). Nothing is left to compute between a convolution and its activation, and
    there are fewer variables. It is no network to train further.

    Args:
        network: an `EfficientNet`; it is not changed.

    Returns:
        An `EfficientNet` whose `normalization` is "folded"; the network itself where it has group normalisation, which
        depends on the example and cannot be folded.
    """
    if not has_statistics(network.normalization):
        return network
    config = {**network.get_config(), "normalization": FOLDED, "frozen": []}
    folded = type(network).from_config(config)
    for (source, norm), (target, _) in zip(_parts(network), _parts(folded), strict=True):
        target.set_weights(source.get_weights() if norm is None else _fold(source, norm))
    return folded


def _parts(network):
    """All that has weights, with the normalisation that follows it, or None."""
    for layer in network.layers:
        if isinstance(layer, Block):
            for kind in ("expand", "depthwise", "project"):
                if getattr(layer, f"{kind}_conv") is not None:
                    yield getattr(layer, f"{kind}_conv"), getattr(layer, f"{kind}_norm")
            if layer.excite is not None:
                yield layer.excite, None
        elif layer.name.endswith("_conv"):
            yield layer, network.get_layer(layer.name.replace("_conv", "_norm"))
        elif layer.weights and not layer.name.endswith("_norm"):
            yield layer, None


def _fold(conv, norm):
    """[kernel, bias], float32."""
    (kernel,), gamma, beta, mean, variance = conv.get_weights(), *(w.astype(np.float64) for w in norm.get_weights())
    scale = gamma / np.sqrt(variance + norm.epsilon)
    # [height, width, in, out], but of a depthwise convolution [height, width, channels, 1].
    kernel = kernel * (scale[:, None] if isinstance(conv, keras.layers.DepthwiseConv2D) else scale)
    return [kernel.astype(np.float32), (beta - mean * scale).astype(np.float32)]
