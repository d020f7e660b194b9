"""The networks that a search chooses from: per stage an operation, a kernel, an expansion and a number of blocks.

As in EfficientNetV2's own search (arXiv 2104.00298, section 3.3), channels and strides are those of a backbone. Needs
no framework: what a network costs is counted from its block strings, and what costs too much is never built.
"""

import dataclasses
import itertools
import math
import random

from efficientnetv2_tf.networks.block_string import BlockSpec, expand, format_block, round_filters
from efficientnetv2_tf.networks.cost import multiply_adds, parameters
from efficientnetv2_tf.networks.variants import get_variant

OPERATIONS = ("mbconv", "fused_mbconv")
_WIDTH = "width factor"
_SAMPLED = 1000  # networks, to see whether any is within the limits


class SpaceError(ValueError):
    """A search space that holds no network; the message says which setting is the reason."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a network costs: trainable `parameters`, and `multiply_adds` of an image of the space's size."""

    parameters: int
    multiply_adds: int


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Networks with a backbone's channels and strides, or a multiple of the channels.

    Attributes:
        backbone: a variant's name.
        operations: of `OPERATIONS`.
        kernel_sizes: odd sides in pixels.
        expand_ratios: expanded channels / input channels, at least 1.
        layer_changes: added to the number of blocks that the backbone's stage has; less than one block becomes one.
        se_ratios: squeezed channels / input channels in [0, 1]; 0 is no squeeze-and-excitation.
        width_factors: of which one multiplies the channels of all stages.
        width_coefficient: of the backbone; None is its own.
        depth_coefficient: likewise.
        feature_size: channels of the last convolution before `width_coefficient`; None is the backbone's own.
        num_classes: that are counted in the parameters.
        image_size: side in pixels at which multiply-adds are counted.
        max_parameters: limit, or None.
        max_multiply_adds: limit, or None.

    Raises:
        SpaceError: there is nothing to choose from, an option is impossible, or no network is within the limits.
    """

    backbone: str = "efficientnet-b4"
    operations: tuple[str, ...] = OPERATIONS
    kernel_sizes: tuple[int, ...] = (3, 5)
    expand_ratios: tuple[int, ...] = (1, 4, 6)
    layer_changes: tuple[int, ...] = (-2, -1, 0, 1, 2)
    se_ratios: tuple[float, ...] = (0.0, 0.25)
    width_factors: tuple[float, ...] = (1.0,)
    width_coefficient: float | None = None
    depth_coefficient: float | None = None
    feature_size: int | None = None
    num_classes: int = 1000
    image_size: int = 224
    max_parameters: int | None = None
    max_multiply_adds: int | None = None

    def __post_init__(self):
        for name in ("operations", "kernel_sizes", "expand_ratios", "layer_changes", "se_ratios", "width_factors"):
            options = getattr(self, name)
            if not options:
                raise SpaceError(f"`{name}` should have at least one option. Received none.")
            if len({*options}) != len(options):
                raise SpaceError(f"`{name}` should have each option once. Received: {options}")
        unknown = {*self.operations} - {*OPERATIONS}
        if unknown:
            raise SpaceError(f"`operations` should be of {OPERATIONS}. Received: {', '.join(sorted(unknown))}")
        try:
            least = self._least()
        except ValueError as error:
            raise SpaceError(f"The search space has an impossible option. {error}") from error
        for name, limit, smallest in (
            ("max_parameters", self.max_parameters, least.parameters),
            ("max_multiply_adds", self.max_multiply_adds, least.multiply_adds),
        ):
            if limit is not None and smallest > limit:
                raise SpaceError(
                    f"`{name}` should be at least {smallest:,}, which the cheapest network of the space takes. "
                    f"Received: {limit:,}. A smaller width_coefficient or depth_coefficient makes all of them cheaper."
                )

    def options(self):
        """What is chosen: name -> options, several for each stage, in an order that stays the same."""
        found = {_WIDTH: self.width_factors} if len(self.width_factors) > 1 else {}
        for number, stage in enumerate(self._backbone_stages(), start=1):
            found |= {
                f"stage {number} operation": self.operations,
                f"stage {number} kernel size": self.kernel_sizes,
                f"stage {number} expand ratio": self.expand_ratios,
                f"stage {number} layers": self._layers(len(stage)),
                f"stage {number} se ratio": self.se_ratios,
            }
        return found

    @property
    def size(self):
        """How many networks there are to choose, limits not counted."""
        return math.prod(len(options) for options in self.options().values())

    def network(self, choose):
        """The network of one choice.

        Args:
            choose: a function of (name, options), which gives one of the options.

        Returns:
            A tuple of block strings, one a stage, for `get_model(blocks=..., width_coefficient=1, depth_coefficient=1,
            feature_size=space.scaled_feature_size)`.
        """
        options = self.options()
        factor = choose(_WIDTH, options[_WIDTH]) if _WIDTH in options else self.width_factors[0]
        stages = []
        for number, stage in enumerate(self._backbone_stages(factor), start=1):
            operation, kernel_size, expand_ratio, layers, se_ratio = (
                choose(f"stage {number} {what}", options[f"stage {number} {what}"])
                for what in ("operation", "kernel size", "expand ratio", "layers", "se ratio")
            )
            spec = _spec(stage[0], operation, kernel_size, expand_ratio, layers, se_ratio)
            stages.append(format_block(spec))
        return tuple(stages)

    @property
    def scaled_feature_size(self):
        """Channels of the last convolution."""
        variant = get_variant(self.backbone)
        return round_filters(self.feature_size or variant.feature_size, self._width())

    def cost(self, blocks):
        """The `Cost` of block strings."""
        expanded, head = expand(blocks), {"feature_size": self.scaled_feature_size, "num_classes": self.num_classes}
        return Cost(parameters(expanded, **head)[0], multiply_adds(expanded, self.image_size, **head))

    def excess(self, blocks):
        """What of block strings is beyond a limit, in words; None where they are within all."""
        cost = self.cost(blocks)
        for what, limit in (("parameters", self.max_parameters), ("multiply_adds", self.max_multiply_adds)):
            if limit is not None and getattr(cost, what) > limit:
                return f"{getattr(cost, what):,} {what}, more than max_{what}={limit:,}"
        return None

    def backbone_blocks(self):
        """The backbone's own block strings, with its width and depth applied."""
        return tuple(
            format_block(dataclasses.replace(stage[0], repeats=len(stage))) for stage in self._backbone_stages()
        )

    def v2_blocks(self):
        """The backbone's channels and depth with EfficientNetV2's own choices (ICML 2021, table 4).

        The first three stages are fused and without squeeze-and-excitation, all kernels are 3 x 3, and the expansions
        1, 4, 4, 4, then 6.
        """
        blocks = []
        for number, stage in enumerate(self._backbone_stages(), start=1):
            operation, expand_ratio = OPERATIONS[number <= 3], 1 if number == 1 else 4 if number <= 4 else 6
            se_ratio = 0.0 if number <= 3 else 0.25
            blocks.append(format_block(_spec(stage[0], operation, 3, expand_ratio, len(stage), se_ratio)))
        return tuple(blocks)

    def share_within_limits(self):
        """How many of some random networks are within the limits, as a share.

        Raises:
            SpaceError: none is.
        """
        if self.max_parameters is None and self.max_multiply_adds is None:
            return 1.0
        generator = random.Random(0)
        networks = (self.network(lambda _, options: generator.choice(options)) for _ in range(_SAMPLED))
        share = sum(self.excess(blocks) is None for blocks in networks) / _SAMPLED
        if not share:
            raise SpaceError(
                f"None of {_SAMPLED} random networks of the space is within max_parameters={self.max_parameters} and "
                f"max_multiply_adds={self.max_multiply_adds}. Raise the limits, or make the backbone smaller with its "
                "width_coefficient or depth_coefficient."
            )
        return share

    def _backbone_stages(self, factor=1.0):
        variant = get_variant(self.backbone)
        depth = variant.depth_coefficient if self.depth_coefficient is None else self.depth_coefficient
        return expand(variant.blocks, self._width() * factor, depth)

    def _width(self):
        return (
            get_variant(self.backbone).width_coefficient if self.width_coefficient is None else self.width_coefficient
        )

    def _layers(self, backbone_layers):
        return tuple(sorted({max(1, backbone_layers + change) for change in self.layer_changes}))

    def _least(self):
        """The least of each cost, which may be those of two networks.

        Stages cost what they cost whatever the others are, since channels and sizes are the backbone's; fewer channels
        cost less in each.
        """
        first = {name: options[0] for name, options in self.options().items()} | {_WIDTH: min(self.width_factors)}
        chosen = {"parameters": {_WIDTH: first[_WIDTH]}, "multiply_adds": {_WIDTH: first[_WIDTH]}}
        names = [name for name in self.options() if name != _WIDTH]
        for start in range(0, len(names), 5):
            of_stage = names[start : start + 5]
            costs = []
            for values in itertools.product(*(self.options()[name] for name in of_stage)):
                choice = dict(zip(of_stage, values, strict=True))
                costs.append((choice, self.cost(self.network(lambda name, _, c=choice: c.get(name, first[name])))))
            for what, best in chosen.items():
                best |= min(costs, key=lambda found, what=what: getattr(found[1], what))[0]
        networks = {what: self.network(lambda name, _, best=best: best[name]) for what, best in chosen.items()}
        return Cost(**{what: getattr(self.cost(blocks), what) for what, blocks in networks.items()})


def _spec(first, operation, kernel_size, expand_ratio, layers, se_ratio):
    return BlockSpec(
        repeats=layers,
        kernel_size=kernel_size,
        stride=first.stride,
        expand_ratio=expand_ratio,
        input_filters=first.input_filters,
        output_filters=first.output_filters,
        se_ratio=se_ratio,
        fused=operation == "fused_mbconv",
    )
