"""What a network costs, straight from its block specs: no network is built, only Python is needed."""

from efficientnetv2_tf.networks.block_string import expand, round_filters


def multiply_adds(blocks, image_size, *, feature_size=1280, num_classes=1000):
    """Multiply-adds of one forward pass of one image: convolutions and the classifier.

    Args:
        blocks: expanded blocks, as `expand` gives them (one tuple a stage).
        image_size: side of the square input in pixels, at least 1.
        feature_size: channels of the last convolution, after scaling.
        num_classes: outputs of the classifier.

    Returns:
        A whole number; the papers print it as "FLOPs".
    """
    flat = [block for stage in blocks for block in stage]
    side = _half(image_size)
    total = side * side * 9 * 3 * flat[0].input_filters
    for block in flat:
        out_side = _half(side) if block.stride == 2 else side
        total += _block_multiply_adds(block, side * side, out_side * out_side)
        side = out_side
    return total + side * side * flat[-1].output_filters * feature_size + feature_size * num_classes


def _block_multiply_adds(block, pixels_in, pixels_out):
    kernel, inner = block.kernel_size**2, block.expanded_filters
    excite = 2 * inner * block.squeezed_filters
    if block.fused and block.expand_ratio == 1:
        return pixels_out * kernel * block.input_filters * block.output_filters + excite
    project = pixels_out * inner * block.output_filters
    if block.fused:
        return pixels_out * kernel * block.input_filters * inner + excite + project
    expansion = pixels_in * block.input_filters * inner if block.expand_ratio != 1 else 0
    return expansion + pixels_out * kernel * inner + excite + project


def _half(side):
    """Side after a convolution with stride 2 and "same" padding."""
    return -(-side // 2)


def parameters(blocks, *, feature_size=1280, num_classes=1000):
    """Parameters of a network for images with three channels.

    Args:
        blocks: expanded blocks, as `expand` gives them (one tuple a stage).
        feature_size: channels of the last convolution, after scaling.
        num_classes: outputs of the classifier.

    Returns:
        The pair (trainable, total); the total has the batch normalisations' moving means and variances too.
    """
    flat = [block for stage in blocks for block in stage]
    counts = [_block_parameters(block) for block in flat]
    stem, last = flat[0].input_filters, flat[-1].output_filters
    weights = 9 * 3 * stem + sum(weights for weights, _ in counts)
    weights += last * feature_size + (feature_size + 1) * num_classes
    normalised = stem + sum(channels for _, channels in counts) + feature_size
    return weights + 2 * normalised, weights + 4 * normalised


def _block_parameters(block):
    """Weights of a block's convolutions, and how many channels its batch normalisations have."""
    kernel, inner, squeezed = block.kernel_size**2, block.expanded_filters, block.squeezed_filters
    excite = 2 * inner * squeezed + squeezed + inner if squeezed else 0
    if block.fused and block.expand_ratio == 1:
        return kernel * block.input_filters * block.output_filters + excite, block.output_filters
    project = inner * block.output_filters
    if block.fused:
        return kernel * block.input_filters * inner + excite + project, inner + block.output_filters
    expansion = block.input_filters * inner if block.expand_ratio != 1 else 0
    normalised = (inner if expansion else 0) + inner + block.output_filters
    return expansion + kernel * inner + excite + project, normalised


def variant_multiply_adds(variant, image_size, *, num_classes=1000):
    """`multiply_adds` of a `Variant` at an image size."""
    blocks = expand(variant.blocks, variant.width_coefficient, variant.depth_coefficient)
    feature_size = round_filters(variant.feature_size, variant.width_coefficient)
    return multiply_adds(blocks, image_size, feature_size=feature_size, num_classes=num_classes)


def minimum_image_size(blocks):
    """The smallest sensible side: from it on, the last convolution with stride 2 sees more than one pixel.

    Args:
        blocks: expanded blocks, as `expand` gives them.
    """
    halvings = 1 + sum(block.stride == 2 for stage in blocks for block in stage)  # 1: the stem
    return 2 ** (halvings - 1) + 1
