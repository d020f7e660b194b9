"""How a small network becomes a family of larger ones: V1's compound scaling and V2's. Only Python is needed.

Sources: EfficientNet (Tan & Le, ICML 2019, section 3.3) for V1; EfficientNetV2 (Tan & Le, ICML 2021, section
3.3) for V2.
"""

import dataclasses
import itertools
import math

from efficientnetv2_tf.networks.block_string import (
    BlockSpec,
    expand,
    format_block,
    parse_block,
    round_filters,
    round_repeats,
)
from efficientnetv2_tf.networks.variants import VARIANTS

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # the paper's, found for B0
MAX_IMAGE_SIZE = 480  # px at evaluation, V2's cap
LATE_STAGES = (5, 6)  # which get V2's additional layers
_TARGET = 2.0  # phi + 1 doubles the multiply-adds
_SIZE_STEP = 16  # px


@dataclasses.dataclass(frozen=True)
class Scaling:
    """What multiplies a network's blocks (`depth`), channels (`width`) and image side (`resolution`)."""

    depth: float
    width: float
    resolution: float

    @property
    def multiply_adds_factor(self):
        """depth * width^2 * resolution^2: by how much the multiply-adds grow, but for rounding."""
        return self.depth * self.width**2 * self.resolution**2


def compound_scaling(phi, *, alpha=ALPHA, beta=BETA, gamma=GAMMA):
    """V1's compound scaling: depth alpha^phi, width beta^phi, resolution gamma^phi (ICML 2019, equation 3).

    Args:
        phi: how much larger, any number; 0 is the network itself. The multiply-adds grow by about 2^phi.
        alpha: depth's base, at least 1.
        beta: width's base, at least 1.
        gamma: resolution's base, at least 1.

    Returns:
        A `Scaling`.

    Raises:
        ValueError: a base is below 1.
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not value >= 1:
            raise ValueError(f"`{name}` should be at least 1. Received: {name}={value}")
    return Scaling(alpha**phi, beta**phi, gamma**phi)


def compound_candidates(*, step=0.05, tolerance=0.1):
    """The grid of alpha, beta, gamma >= 1 with alpha * beta^2 * gamma^2 near 2 (ICML 2019, equation 3).

    The constraint is the paper's; the step and what counts as near are our own choice, such that the paper's
    1.2, 1.1, 1.15, whose product is 1.92, are among them.

    Args:
        step: of the grid, above 0.
        tolerance: how far from 2 the product may be, at least 0.

    Returns:
        A tuple of (alpha, beta, gamma), in rising order.

    Raises:
        ValueError: the step or the tolerance is out of its range.
    """
    if not step > 0 or not tolerance >= 0:
        raise ValueError(
            "`step` should be above 0 and `tolerance` at least 0. "
            f"Received: step={step}, tolerance={tolerance}"
        )
    points = math.floor((_TARGET + tolerance - 1) / step + 1e-9) + 1
    values = [round(1 + step * index, 10) for index in range(points)]  # 1.15, not 1.1500000000000001
    triples = itertools.product(values, repeat=3)
    return tuple(bases for bases in triples if abs(_product(*bases) - _TARGET) <= tolerance + 1e-9)


def _product(alpha, beta, gamma):
    return compound_scaling(1, alpha=alpha, beta=beta, gamma=gamma).multiply_adds_factor


def search_compound_scaling(accuracy, candidates=None):
    """The small grid search for alpha, beta, gamma with phi = 1 (ICML 2019, section 3.3, step 1).

    Args:
        accuracy: function (alpha, beta, gamma) -> a number, the higher the better; for example the
            accuracy of the network that `compound_scaling(1, ...)` gives, after a training.
        candidates: triples to try; None is `compound_candidates()`.

    Returns:
        A tuple of (score, (alpha, beta, gamma)), the best first; equal ones in the candidates' order.

    Raises:
        ValueError: there are no candidates.
    """
    candidates = compound_candidates() if candidates is None else tuple(candidates)
    if not candidates:
        raise ValueError("No candidates to search. Give some, or `compound_candidates` a larger `tolerance`.")
    scored = [(accuracy(*bases), tuple(bases)) for bases in candidates]
    return tuple(sorted(scored, key=lambda pair: pair[0], reverse=True))


@dataclasses.dataclass(frozen=True)
class ReleasedRow:
    """A released network's coefficients beside the formula's.

    Attributes:
        name: of the variant.
        phi: for which the formula comes nearest.
        released: the release's `Scaling` of B0.
        formula: `compound_scaling(phi)`.
        released_size: side of the evaluation images in pixels.
        formula_size: what the formula gives for it, B0's 224 px times gamma^phi, rounded.
    """

    name: str
    phi: float
    released: Scaling
    formula: Scaling
    released_size: int
    formula_size: int


def released_beside_formula():
    """What the release uses for EfficientNet-B1 to B7 beside what compound scaling gives.

    The phi of each of them is our own choice: the one that fits best (see `fitted_phi`). The released
    coefficients follow the formula only roughly: B7, at phi = 6.6, has depth 3.1, width 2.0 and 600 px where
    the formula gives 3.35, 1.88 and 566 px.

    Returns:
        A tuple of `ReleasedRow`s, B1 to B7.
    """
    return tuple(_released_row(VARIANTS[f"efficientnet-b{number}"]) for number in range(1, 8))


def _released_row(variant):
    base_size = VARIANTS["efficientnet-b0"].eval_size
    released = Scaling(variant.depth_coefficient, variant.width_coefficient, variant.eval_size / base_size)
    phi = fitted_phi(released)
    formula = compound_scaling(phi)
    return ReleasedRow(
        name=variant.name,
        phi=phi,
        released=released,
        formula=formula,
        released_size=variant.eval_size,
        formula_size=round(base_size * formula.resolution),
    )


def fitted_phi(scaling):
    """The phi whose compound scaling is nearest: least squares over the logarithms of the three coefficients.

    Args:
        scaling: a `Scaling` with positive coefficients.
    """
    bases = [math.log(base) for base in (ALPHA, BETA, GAMMA)]
    wanted = [math.log(value) for value in (scaling.depth, scaling.width, scaling.resolution)]
    return sum(b * w for b, w in zip(bases, wanted, strict=True)) / sum(b * b for b in bases)


def scale_v2(blocks, depth, width, *, late_depth=None, late_stages=LATE_STAGES):
    """V2's scaling of a network's stages (ICML 2021, section 3.3).

    The paper's rule: compound scaling as in V1, but the later stages, for example 5 and 6, gradually get more
    layers. It gives no formula and no coefficients; a second depth coefficient for these stages is our own
    choice.

    Args:
        blocks: block strings or `BlockSpec`s, one a stage.
        depth: multiplies the number of blocks, above 0.
        width: multiplies channels, above 0.
        late_depth: the late stages' coefficient in place of `depth`, at least as large; None is `depth`.
        late_stages: their numbers, counted from 1 as in the paper's Table 4, whose stage 0 is the stem.

    Returns:
        A tuple of block strings, one a stage, for `get_model(name, blocks=..., width_coefficient=1,
        depth_coefficient=1)`.

    Raises:
        ValueError: a block string is malformed, a coefficient is out of its range, or there is no such stage.
    """
    late_depth = depth if late_depth is None else late_depth
    expand(blocks, width, depth)  # for its checks
    stages = [stage if isinstance(stage, BlockSpec) else parse_block(stage) for stage in blocks]
    if not late_depth >= depth:
        raise ValueError(
            "`late_depth` should be at least `depth`: the late stages are those that get more blocks. "
            f"Received: late_depth={late_depth}, depth={depth}"
        )
    if not {*late_stages} <= {*range(1, len(stages) + 1)}:
        raise ValueError(
            f"`late_stages` should be among the network's stages 1 to {len(stages)}. "
            f"Received: late_stages={tuple(late_stages)}"
        )
    return tuple(
        format_block(
            dataclasses.replace(
                stage,
                repeats=round_repeats(stage.repeats, late_depth if number in late_stages else depth),
                input_filters=round_filters(stage.input_filters, width),
                output_filters=round_filters(stage.output_filters, width),
            )
        )
        for number, stage in enumerate(stages, start=1)
    )


def scale_image_size(image_size, resolution, *, maximum=MAX_IMAGE_SIZE):
    """An image size for a larger network, capped as V2's are (ICML 2021, section 3.3: at most 480 px).

    Rounding to whole multiples of 16 px is the release's habit.

    Args:
        image_size: side in pixels of the network that is scaled.
        resolution: multiplies it, above 0.
        maximum: cap in pixels.

    Returns:
        The side in pixels, a multiple of 16 unless it is the cap.

    Raises:
        ValueError: the sizes or the coefficient are not positive.
    """
    if not image_size > 0 or not resolution > 0 or not maximum > 0:
        raise ValueError(
            "`image_size`, `resolution` and `maximum` should be above 0. "
            f"Received: image_size={image_size}, resolution={resolution}, maximum={maximum}"
        )
    return min(maximum, max(_SIZE_STEP, math.floor(image_size * resolution / _SIZE_STEP + 0.5) * _SIZE_STEP))


@dataclasses.dataclass(frozen=True)
class ScaledNetwork:
    """One size of a family.

    Attributes:
        name: "s", "m" or "l".
        blocks: block strings, one a stage.
        train_size: side of the last training stage's images in pixels.
        eval_size: side of the evaluation images in pixels.
    """

    name: str
    blocks: tuple[str, ...]
    train_size: int
    eval_size: int


# Our own choice, see `scaled_family`: name -> (depth, late depth, width, resolution).
_FAMILY = {
    "s": (1.0, 1.0, 1.0, 1.0),
    "m": (1.2, 1.8, 1.15, 1.25),
    "l": (1.5, 2.4, 1.5, 1.5),
}
_TRAIN_SHARE = 0.8  # of the evaluation size, the release's rule


def scaled_family(blocks, *, eval_size=384, late_stages=LATE_STAGES):
    """A found network as S, and its larger sizes M and L.

    The rules, more layers in late stages and images of at most 480 px, are the paper's (see `scale_v2`). The
    coefficients are our own choice, because it states none: with them EfficientNetV2-S gives networks within
    10 % of the released M's and L's parameters and multiply-adds. Those have a seventh stage besides, which
    no rule in the paper gives and which is not added here.

    Args:
        blocks: block strings or `BlockSpec`s of the smallest network, one a stage.
        eval_size: side of its evaluation images in pixels, at most 480.
        late_stages: numbers of the stages that get more layers, counted from 1.

    Returns:
        A tuple of three `ScaledNetwork`s: s, m, l. Training sizes are 80 % of the evaluation sizes, rounded
        down to a multiple of 16, by which S has 304 px where the release has 300.

    Raises:
        ValueError: as `scale_v2`'s.

    Example:
        >>> s, m, l = scaled_family(get_variant("efficientnetv2-s").blocks)
        >>> model = get_model("efficientnetv2-s", blocks=m.blocks, image_size=m.train_size)
    """
    return tuple(
        _scaled_network(name, blocks, eval_size, late_stages, *coefficients)
        for name, coefficients in _FAMILY.items()
    )


def _scaled_network(name, blocks, eval_size, late_stages, depth, late_depth, width, resolution):
    eval_size = scale_image_size(eval_size, resolution)
    return ScaledNetwork(
        name=name,
        blocks=scale_v2(blocks, depth, width, late_depth=late_depth, late_stages=late_stages),
        train_size=int(eval_size * _TRAIN_SHARE) // _SIZE_STEP * _SIZE_STEP,
        eval_size=eval_size,
    )
