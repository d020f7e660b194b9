"""The progressive plan of a configuration, and the table that shows it. Needs no TensorFlow."""

import dataclasses

import rich.table

from efficientnetv2_tf.networks.block_string import expand, round_filters
from efficientnetv2_tf.networks.cost import minimum_image_size, multiply_adds
from efficientnetv2_tf.networks.variants import get_variant
from efficientnetv2_tf.progressive.stages import plan_stages
from efficientnetv2_tf.training.hparams import ConfigError


def steps_per_epoch(config):
    """Whole batches of training images in an epoch, or None where the number of images is not known yet."""
    images = config.data.num_train_images
    return images and images // config.data.batch_size


def total_epochs(config):
    """`train.epochs`, or as many more as `train.min_steps` needs, if the number of images is known."""
    steps = steps_per_epoch(config)
    return max(config.train.epochs, -(-config.train.min_steps // steps)) if steps else config.train.epochs


def make_plan(config):
    """The stages of a training.

    Args:
        config: a resolved `Config`.

    Returns:
        A tuple of `Stage`s. Without `progressive.dropout`, their dropout is the network's own.

    Raises:
        ConfigError: an image size is too small for the network.
    """
    progressive = config.progressive
    plan = plan_stages(
        total_epochs(config),
        progressive.stages,
        image_size=progressive.image_size,
        image_size_ramp=progressive.image_size_ramp,
        magnitude=progressive.randaugment,
        mixup=progressive.mixup,
        cutmix=progressive.cutmix,
        dropout=progressive.dropout or (config.model.dropout_rate,) * 2,
    )
    smallest = minimum_image_size(network_blocks(config))
    sizes = {
        "progressive.image_size": min(stage.image_size for stage in plan),
        "data.eval_image_size": config.data.eval_image_size,
    }
    for key, size in sizes.items():
        if size < smallest:
            raise ConfigError(
                f"{key}: expected at least {smallest} px, because {config.model.name} halves the picture until its "
                f"last stage would see a single pixel. Received: {size}"
            )
    return plan


def network_blocks(config):
    """The expanded blocks of the configured network, one tuple a stage."""
    variant, model = get_variant(config.model.name), config.model
    return expand(
        model.blocks or variant.blocks,
        model.width_coefficient or variant.width_coefficient,
        model.depth_coefficient or variant.depth_coefficient,
    )


def relative_costs(config, plan):
    """Multiply-adds of a picture in each stage, relative to the last stage's.

    Args:
        config: a resolved `Config`.
        plan: its `Stage`s.

    Returns:
        A list of numbers, one a stage; the last is 1.
    """
    variant, model = get_variant(config.model.name), config.model
    width = model.width_coefficient or variant.width_coefficient
    feature_size = round_filters(model.feature_size or variant.feature_size, width)
    blocks, classes = network_blocks(config), model.num_classes or 1000
    costs = [multiply_adds(blocks, s.image_size, feature_size=feature_size, num_classes=classes) for s in plan]
    return [cost / costs[-1] for cost in costs]


@dataclasses.dataclass(frozen=True)
class PlanRow:
    """One line of the table; what does not apply is None."""

    stage: int
    epochs: str
    image_size: int
    magnitude: float | None
    mixup: float
    cutmix: float
    dropout: float
    batch_size: int
    relative_cost: float


def plan_rows(config, plan):
    """The table's rows: stage and epochs counted from 1, as they are shown."""
    return [
        PlanRow(
            stage=stage.index + 1,
            epochs=_epochs(stage),
            image_size=stage.image_size,
            magnitude=stage.magnitude if config.data.augment == "randaugment" else None,
            mixup=stage.mixup_alpha,
            cutmix=stage.cutmix_alpha,
            dropout=stage.dropout_rate,
            batch_size=config.data.batch_size,
            relative_cost=cost,
        )
        for stage, cost in zip(plan, relative_costs(config, plan), strict=True)
    ]


def _epochs(stage):
    first, last = stage.first_epoch + 1, stage.end_epoch
    return str(first) if first == last else f"{first}-{last}"


def plan_table(config, plan):
    """The plan as a rich table.

    Args:
        config: a resolved `Config`.
        plan: its `Stage`s.
    """
    table = rich.table.Table(title=f"{config.model.name} on {config.data.dataset}: {plan[-1].end_epoch} epochs")
    for heading in (
        "stage", "epochs", "image size", "RandAugment", "mixup", "cutmix", "dropout", "batch size", "relative cost",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in plan_rows(config, plan):
        table.add_row(
            str(row.stage),
            row.epochs,
            str(row.image_size),
            config.data.augment if row.magnitude is None else f"{row.magnitude:.3g}",
            f"{row.mixup:.3g}",
            f"{row.cutmix:.3g}",
            f"{row.dropout:.3g}",
            str(row.batch_size),
            f"{row.relative_cost:.2f}",
        )
    return table
