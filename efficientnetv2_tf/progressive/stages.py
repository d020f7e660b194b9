"""The plan of a progressive training, as pure functions of its settings."""

import dataclasses

RAMPS = ("linear", "release")


@dataclasses.dataclass(frozen=True)
class Stage:
    """What holds while one stage of the training lasts.

    Attributes:
        index: 0 for the first stage.
        first_epoch: the epoch it begins with, counted from 0.
        epochs: how many epochs it lasts.
        image_size: side of the training images in pixels.
        magnitude: RandAugment's, 0..30.
        mixup_alpha: parameter of MixUp's Beta distribution; 0 is off.
        cutmix_alpha: parameter of CutMix's Beta distribution; 0 is off.
        dropout_rate: in [0, 1), or None to leave the network's as it is.
    """

    index: int
    first_epoch: int
    epochs: int
    image_size: int
    magnitude: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    dropout_rate: float | None = None

    @property
    def end_epoch(self):
        """The first epoch after the stage."""
        return self.first_epoch + self.epochs


def plan_stages(
    epochs,
    stages=4,
    *,
    image_size=(128, 300),
    image_size_ramp="linear",
    magnitude=(5.0, 15.0),
    mixup=(0.0, 0.0),
    cutmix=(0.0, 0.0),
    dropout=None,
):
    """Divides a training into stages (EfficientNetV2, section 4.2, Algorithm 1 and Table 6).

    Every pair is (first stage's, last stage's) value, with the stages between evenly spaced. Epochs that do not
    divide by the stages go to the later ones.

    Args:
        epochs: of the whole training, at least `stages`.
        stages: how many, at least 1. One stage takes the last values.
        image_size: pair of sides in pixels, not falling.
        image_size_ramp: "linear", or "release": the official release's
            `int(first + (last - first) * (stage + 1) / stages)`, whose first stage is already larger than `first`.
        magnitude: pair of RandAugment magnitudes, 0..30.
        mixup: pair of MixUp alphas, at least 0.
        cutmix: pair of CutMix alphas, at least 0.
        dropout: pair of dropout rates in [0, 1), or None to leave dropout alone.

    Returns:
        A tuple of `Stage`s that cover the epochs 0..epochs-1 without gap or overlap.

    Raises:
        ValueError: a value is out of its range.

    Example:
        >>> [s.image_size for s in plan_stages(8, 4, image_size=(128, 300))]
        [128, 185, 243, 300]
    """
    _check_plan(epochs, stages, image_size, image_size_ramp)
    _check_pair("magnitude", magnitude, 0, 30)
    _check_pair("mixup", mixup, 0, float("inf"))
    _check_pair("cutmix", cutmix, 0, float("inf"))
    if dropout is not None:
        _check_pair("dropout", dropout, 0, 0.999)
    starts = [index * epochs // stages for index in range(stages + 1)]
    return tuple(
        Stage(
            index=index,
            first_epoch=starts[index],
            epochs=starts[index + 1] - starts[index],
            image_size=_ramp_size(image_size, index, stages, image_size_ramp),
            magnitude=_ramp(magnitude, index, stages),
            mixup_alpha=_ramp(mixup, index, stages),
            cutmix_alpha=_ramp(cutmix, index, stages),
            dropout_rate=None if dropout is None else _ramp(dropout, index, stages),
        )
        for index in range(stages)
    )


def stage_at(plan, epoch):
    """The stage that an epoch belongs to.

    Args:
        plan: from `plan_stages`.
        epoch: counted from 0; epochs after the plan's end belong to its last stage.

    Raises:
        ValueError: the epoch is negative or the plan is empty.
    """
    if epoch < 0 or not plan:
        raise ValueError(f"`epoch` should be at least 0 and the plan not empty. Received: {epoch=}, {len(plan)} stages")
    return next((stage for stage in plan if epoch < stage.end_epoch), plan[-1])


def _ramp(pair, index, stages):
    """Evenly spaced value from pair[0] (first stage) to pair[1] (last stage)."""
    first, last = pair
    if stages == 1 or index == stages - 1:
        return float(last)
    return float(first + (last - first) * index / (stages - 1))


def _ramp_size(pair, index, stages, ramp):
    first, last = pair
    if ramp == "release":
        return int(first + (last - first) * (index + 1) / stages)
    return int(_ramp(pair, index, stages) + 0.5)  # halves upwards; round() would go to the even neighbour


def _check_plan(epochs, stages, image_size, ramp):
    if stages < 1:
        raise ValueError(f"`stages` should be at least 1. Received: stages={stages}")
    if epochs < stages:
        raise ValueError(
            f"`epochs` should be at least the number of stages, so that none is empty. Received: epochs={epochs}, "
            f"stages={stages}"
        )
    _check_pair("image_size", image_size, 1, float("inf"))
    if image_size[0] > image_size[1]:
        raise ValueError(f"`image_size` should not fall from the first stage to the last. Received: {image_size}")
    if ramp not in RAMPS:
        raise ValueError(f"`image_size_ramp` should be one of {RAMPS}. Received: {ramp!r}")


def _check_pair(name, pair, low, high):
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(low <= value <= high for value in pair):
        raise ValueError(f"`{name}` should be a pair (first, last) within {low}..{high}. Received: {name}={pair}")
