"""The ends of the resolutions, counted by hand."""

import pytest

from efficientnetv2_tf.networks.block_string import expand
from efficientnetv2_tf.networks.reductions import Reduction, reductions
from efficientnetv2_tf.networks.variants import VARIANTS


def test_of_efficientnetv2_s():
    assert reductions(expand(VARIANTS["efficientnetv2-s"].blocks)) == (
        Reduction("reduction_1", 2, 24, "blocks_1"),
        Reduction("reduction_2", 4, 48, "blocks_5"),
        Reduction("reduction_3", 8, 64, "blocks_9"),
        Reduction("reduction_4", 16, 160, "blocks_24"),
        Reduction("reduction_5", 32, 256, "blocks_39"),
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_the_family_has_five(name):
    variant = VARIANTS[name]
    found = reductions(expand(variant.blocks, variant.width_coefficient, variant.depth_coefficient))
    assert [(r.name, r.stride) for r in found] == [(f"reduction_{i}", 2**i) for i in range(1, 6)]


@pytest.mark.parametrize(
    "blocks, expected",
    [
        (["r2_k3_s1_e1_i8_o16"], [(2, 16, "blocks_1")]),
        (["r1_k3_s2_e1_i8_o16"], [(4, 16, "blocks_0")]),  # the stem's resolution has no block
        (["r2_k3_s2_e1_i8_o16", "r2_k3_s2_e1_i16_o24"], [(4, 16, "blocks_1"), (8, 24, "blocks_3")]),
        (["r1_k3_s1_e1_i8_o8", "r3_k3_s2_e1_i8_o24", "r1_k3_s1_e1_i24_o32"], [(2, 8, "blocks_0"), (4, 32, "blocks_4")]),
    ],
)
def test_of_other_blocks(blocks, expected):
    assert [found[1:] for found in reductions(expand(blocks))] == expected


def test_widths_and_depths_count():
    found = reductions(expand(["r2_k3_s1_e1_i8_o16", "r2_k3_s2_e1_i16_o32"], 1.5, 2))
    assert [(r.channels, r.layer) for r in found] == [(24, "blocks_3"), (48, "blocks_7")]
