"""Where a network's feature maps are taken from: the ends of its resolutions. Needs no Keras."""

from typing import NamedTuple

_STEM_STRIDE = 2


class Reduction(NamedTuple):
    """The last feature map of one resolution.

    Attributes:
        name: "reduction_1" and so on, as in the official release.
        stride: pixels of the image to one of the map: an image of [height, width] gives [ceil(height / stride),
            ceil(width / stride)].
        channels: of the map.
        layer: name of the layer that gives it, such as "blocks_1".
    """

    name: str
    stride: int
    channels: int
    layer: str


def reductions(blocks):
    """The `Reduction`s of a network: the outputs of each block before one with stride 2, and of the last.

    The family's networks have five, with strides 2, 4, 8, 16 and 32. The stem's output is none, so where the first
    block has stride 2, the strides begin with 4.

    Args:
        blocks: expanded blocks, as `expand` gives them (one tuple a stage).

    Returns:
        A tuple, in the order of the network.
    """
    flat, found, stride = [block for stage in blocks for block in stage], [], _STEM_STRIDE
    for index, block in enumerate(flat):
        stride *= block.stride
        if index + 1 == len(flat) or flat[index + 1].stride == 2:
            name = f"reduction_{len(found) + 1}"
            found.append(Reduction(name, stride, block.output_filters, f"blocks_{index}"))
    return tuple(found)
