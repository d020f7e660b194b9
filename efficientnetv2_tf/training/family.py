"""The family at a glance: the rows of its table, and the table itself. Needs no TensorFlow."""

import dataclasses

import rich.table

from efficientnetv2_tf.networks.cost import variant_multiply_adds
from efficientnetv2_tf.networks.variants import VARIANTS

_UNPUBLISHED = ("testing",)  # made for tests


@dataclasses.dataclass(frozen=True)
class FamilyRow:
    """One published network.

    Attributes:
        name: as in `get_model(name)`.
        parameters: trainable ones with 1,000 classes.
        multiply_adds: of one image at `eval_size`.
        train_size: side of the last stage's training images in pixels.
        eval_size: side of the evaluation images in pixels.
        preprocessing: "v1" or "v2" (see `Variant`).
        published_top1: on ImageNet in percent, or None.
    """

    name: str
    parameters: int
    multiply_adds: int
    train_size: int
    eval_size: int
    preprocessing: str
    published_top1: float | None


def family_rows():
    """One `FamilyRow` for each published variant, in the order of `list_models()`."""
    return tuple(
        FamilyRow(
            name=variant.name,
            parameters=variant.parameters,
            multiply_adds=variant_multiply_adds(variant, variant.eval_size),
            train_size=variant.train_size,
            eval_size=variant.eval_size,
            preprocessing=variant.preprocessing,
            published_top1=variant.published_top1,
        )
        for variant in VARIANTS.values()
        if variant.name not in _UNPUBLISHED
    )


def family_table(rows):
    """The family as a rich table.

    Args:
        rows: `FamilyRow`s, at least one.
    """
    unknown = [row.name for row in rows if row.published_top1 is None]
    note = "Multiply-adds of one image at the evaluation size. Top-1 on ImageNet, trained on ImageNet alone, as "
    note += "published: V2 in the official release's README, V1 in EfficientNet's Table 2."
    if unknown:
        note += f" These give none for {', '.join(unknown)}, which the picture leaves out."
    table = rich.table.Table(title="The family", caption=note, caption_justify="left")
    table.add_column("name", no_wrap=True)
    for heading in (
        "parameters [M]", "multiply-adds [B]", "train size [px]", "eval size [px]", "preprocessing",
        "top-1 [%]",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.parameters / 1e6:.1f}",
            f"{row.multiply_adds / 1e9:.2f}",
            str(row.train_size),
            str(row.eval_size),
            row.preprocessing,
            "-" if row.published_top1 is None else f"{row.published_top1:.1f}",
        )
    return table
