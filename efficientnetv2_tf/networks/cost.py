"""What a network costs, straight from its block specs: no network is built, only Python is needed."""

import dataclasses
import operator

from efficientnetv2_tf.networks.block_string import BlockSpec, expand, round_filters
from efficientnetv2_tf.networks.normalization import has_statistics
from efficientnetv2_tf.networks.variants import get_variant

_FLOAT32_BYTES = 4
_STEM_KERNEL = 3


@dataclasses.dataclass(frozen=True)
class StageCost:
    """What one part of a network costs for one image.

    Attributes:
        name: "stem", "stage 1" and so on as in the papers' tables, or "head".
        output_size: (height, width) that the stage hands on, in pixels; the head pools, and gives (1, 1).
        parameters: trainable ones.
        total_parameters: these and the batch normalisations' moving means and variances.
        multiply_adds: of convolutions and dense layers in a forward pass.
        activation_bytes: of the tensors that a forward pass writes, see `stage_costs`.
        product_bytes: of what convolutions and dense layers read and write, each its input and its output once;
            weights are not included. The rest can ride along with them, so no forward pass moves less layer by layer.
    """

    name: str
    output_size: tuple[int, int]
    parameters: int
    total_parameters: int
    multiply_adds: int
    activation_bytes: int
    product_bytes: int


@dataclasses.dataclass(frozen=True)
class _Product:
    """A convolution of any kind or a dense layer; each of its weights is used once for an output pixel."""

    weights: int
    inputs: int  # elements that it reads
    filters: int
    pixels: int
    biased: bool = False
    normalised: bool = False
    activated: bool = False

    @property
    def parameters(self):
        return self.weights + self.filters * (self.biased + 2 * self.normalised)

    @property
    def statistics(self):
        return 2 * self.filters * self.normalised

    @property
    def multiply_adds(self):
        return self.weights * self.pixels

    @property
    def elements(self):
        return self.filters * self.pixels * (1 + self.normalised + self.activated)

    @property
    def moved(self):
        return self.inputs + self.filters * self.pixels


def stage_costs(blocks, image_size, *, feature_size=1280, num_classes=1000, in_channels=3, normalization="batch"):
    """Parameters, multiply-adds and activation memory of a network with classifier, stage by stage.

    Multiply-adds are those of convolutions (squeeze-and-excitation's included) and of the classifier; biases,
    normalisations, activations, poolings and skip connections have none. The papers print them as "FLOPs".

    Activation bytes count, in float32 and for one image, every tensor that a forward pass at inference
    writes, once each: the output of every convolution and dense layer (its bias included), of every
    normalisation and of every activation (squeeze-and-excitation's sigmoid too), squeeze-and-excitation's
    means and its gated product, every skip connection's sum, and the pooled features. The image itself is not
    counted, nor are dropout and stochastic depth, which write nothing at inference. Training without
    recomputation keeps about as much for the backward pass; inference, which reuses memory, needs far less.

    Args:
        blocks: expanded blocks, as `expand` gives them (one tuple a stage).
        image_size: side of a square input, or (height, width), in pixels, at least 1.
        feature_size: channels of the last convolution, after scaling.
        num_classes: outputs of the classifier; 0 is none, as with `include_top=False`.
        in_channels: channels of the input.
        normalization: "batch", "sync_batch" or "group", which keeps no moving means and variances.

    Returns:
        A tuple of `StageCost`s: the stem, each stage, and the head (last convolution, pooling, classifier), which a
        network with `features_only` does not have.

    Raises:
        ValueError: blocks that were not expanded, an impossible image size or number, or an unknown normalisation.
    """
    _check(blocks, feature_size=feature_size, num_classes=num_classes, in_channels=in_channels)
    with_statistics = has_statistics(normalization)
    image = _height_and_width(image_size)
    size, stem = _halved(image), blocks[0][0].input_filters
    product = _normalised(_STEM_KERNEL**2 * in_channels * stem, in_channels * _area(image), stem, _area(size))
    costs = [_stage_cost("stem", size, [product])]
    for number, stage in enumerate(blocks, start=1):
        products, elements = [], 0
        for block in stage:
            before, size = size, _halved(size) if block.stride == 2 else size
            products += _block_products(block, _area(before), _area(size))
            elements += _block_other_elements(block, _area(before), _area(size))
        costs.append(_stage_cost(f"stage {number}", size, products, elements))
    inputs = blocks[-1][-1].output_filters
    products = [_normalised(inputs * feature_size, inputs * _area(size), feature_size, _area(size))]
    if num_classes:
        products.append(_Product(feature_size * num_classes, feature_size, num_classes, 1, biased=True))
    costs.append(_stage_cost("head", (1, 1), products, feature_size))
    if not with_statistics:
        costs = [dataclasses.replace(cost, total_parameters=cost.parameters) for cost in costs]
    return tuple(costs)


def _check(blocks, **counts):
    first = blocks[0] if blocks else None
    if not isinstance(first, (tuple, list)) or not isinstance(first[0], BlockSpec):
        raise ValueError(f"`blocks` should be expanded, as expand(block_strings) gives them. Received: {blocks!r}")
    for key, value in counts.items():
        least = 0 if key == "num_classes" else 1
        if value < least:
            raise ValueError(f"`{key}` should be at least {least}. Received: {key}={value!r}")


def _normalised(weights, inputs, filters, pixels, activated=True):
    return _Product(weights, inputs, filters, pixels, normalised=True, activated=activated)


def _stage_cost(name, output_size, products, other_elements=0):
    parameters = sum(product.parameters for product in products)
    return StageCost(
        name=name,
        output_size=output_size,
        parameters=parameters,
        total_parameters=parameters + sum(product.statistics for product in products),
        multiply_adds=sum(product.multiply_adds for product in products),
        activation_bytes=_FLOAT32_BYTES * (sum(product.elements for product in products) + other_elements),
        product_bytes=_FLOAT32_BYTES * sum(product.moved for product in products),
    )


def _block_products(block, pixels_in, pixels_out):
    """The convolutions of an expanded block, in their order."""
    kernel, inner = block.kernel_size**2, block.expanded_filters
    inputs, outputs = block.input_filters, block.output_filters
    excite = _excite_products(inner, block.squeezed_filters)
    if block.fused and block.expand_ratio == 1:
        return [*excite, _normalised(kernel * inputs * outputs, inputs * pixels_in, outputs, pixels_out)]
    project = _normalised(inner * outputs, inner * pixels_out, outputs, pixels_out, activated=False)
    if block.fused:
        return [_normalised(kernel * inputs * inner, inputs * pixels_in, inner, pixels_out), *excite, project]
    depthwise = _normalised(kernel * inner, inner * pixels_in, inner, pixels_out)
    expands = block.expand_ratio != 1
    expansion = [_normalised(inputs * inner, inputs * pixels_in, inner, pixels_in)] if expands else []
    return [*expansion, depthwise, *excite, project]


def _excite_products(filters, squeezed):
    if not squeezed:
        return []
    return [
        _Product(filters * squeezed, filters, squeezed, 1, biased=True, activated=True),
        _Product(filters * squeezed, squeezed, filters, 1, biased=True, activated=True),
    ]


def _block_other_elements(block, pixels_in, pixels_out):
    """Elements that a block writes outside its convolutions: means and gated product, and the skip's sum."""
    elements = block.output_filters * pixels_out if block.has_skip else 0
    if block.squeezed_filters:
        gates_input = block.fused and block.expand_ratio == 1  # where nothing comes before the projection
        elements += block.expanded_filters * (1 + (pixels_in if gates_input else pixels_out))
    return elements


def _height_and_width(image_size):
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    try:
        height, width = map(operator.index, sides)
    except (TypeError, ValueError):
        height, width = 0, 0
    if min(height, width) < 1:
        raise ValueError(
            "`image_size` should be the side of a square, or (height, width), in whole pixels from 1 on. "
            f"Received: image_size={image_size!r}"
        )
    return height, width


def _halved(size):
    """(height, width) after a convolution with stride 2 and "same" padding."""
    return tuple(-(-side // 2) for side in size)


def _area(size):
    height, width = size
    return height * width


def multiply_adds(blocks, image_size, *, feature_size=1280, num_classes=1000, in_channels=3):
    """Multiply-adds of one forward pass of one image: convolutions and the classifier.

    Args:
        blocks: expanded blocks, as `expand` gives them (one tuple a stage).
        image_size: side of a square input, or (height, width), in pixels, at least 1.
        feature_size: channels of the last convolution, after scaling.
        num_classes: outputs of the classifier; 0 is none.
        in_channels: channels of the input.

    Returns:
        A whole number; the papers print it as "FLOPs".

    Raises:
        ValueError: as `stage_costs`.
    """
    costs = stage_costs(blocks, image_size, feature_size=feature_size, num_classes=num_classes, in_channels=in_channels)
    return sum(cost.multiply_adds for cost in costs)


def parameters(blocks, *, feature_size=1280, num_classes=1000, in_channels=3, normalization="batch"):
    """Parameters of a network.

    Args:
        blocks: expanded blocks, as `expand` gives them (one tuple a stage).
        feature_size: channels of the last convolution, after scaling.
        num_classes: outputs of the classifier; 0 is none.
        in_channels: channels of the input.
        normalization: "batch", "sync_batch" or "group".

    Returns:
        The pair (trainable, total); the total has the batch normalisations' moving means and variances too.
    """
    any_size = 1  # parameters do not depend on it
    costs = stage_costs(
        blocks,
        any_size,
        feature_size=feature_size,
        num_classes=num_classes,
        in_channels=in_channels,
        normalization=normalization,
    )
    return sum(cost.parameters for cost in costs), sum(cost.total_parameters for cost in costs)


def variant_stage_costs(variant, image_size, *, num_classes=1000, in_channels=3):
    """`stage_costs` of a `Variant`, or of the one of that name, at an image size."""
    variant = get_variant(variant) if isinstance(variant, str) else variant
    blocks = expand(variant.blocks, variant.width_coefficient, variant.depth_coefficient)
    feature_size = round_filters(variant.feature_size, variant.width_coefficient)
    return stage_costs(blocks, image_size, feature_size=feature_size, num_classes=num_classes, in_channels=in_channels)


def variant_multiply_adds(variant, image_size, *, num_classes=1000, in_channels=3):
    """`multiply_adds` of a `Variant`, or of the one of that name, at an image size."""
    costs = variant_stage_costs(variant, image_size, num_classes=num_classes, in_channels=in_channels)
    return sum(cost.multiply_adds for cost in costs)


def minimum_image_size(blocks):
    """The smallest sensible side: from it on, the last convolution with stride 2 sees more than one pixel.

    Args:
        blocks: expanded blocks, as `expand` gives them.
    """
    halvings = 1 + sum(block.stride == 2 for stage in blocks for block in stage)  # 1: the stem
    return 2 ** (halvings - 1) + 1
