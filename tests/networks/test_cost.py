"""Parameters and multiply-adds from the specs, against Keras, hand-made sums and the papers."""

import pytest

from efficientnetv2_tf.networks.block_string import expand, round_filters
from efficientnetv2_tf.networks.cost import (
    minimum_image_size,
    multiply_adds,
    parameters,
    variant_multiply_adds,
)
from efficientnetv2_tf.networks.variants import VARIANTS


def counted(name):
    variant = VARIANTS[name]
    blocks = expand(variant.blocks, variant.width_coefficient, variant.depth_coefficient)
    return parameters(blocks, feature_size=round_filters(variant.feature_size, variant.width_coefficient))


class TestParameters:
    @pytest.mark.parametrize("name", VARIANTS)
    def test_as_in_the_table_which_is_as_in_keras(self, name):
        assert counted(name) == (VARIANTS[name].parameters, VARIANTS[name].total_parameters)

    def test_of_one_block_by_hand(self):
        blocks = expand(["r1_k5_s1_e4_i8_o16_se0.25"])
        kernels = 27 * 8 + (8 * 32 + 25 * 32 + 32 * 2 + 2 * 32 + 32 * 16) + 16 * 64 + 64 * 10
        biases = 2 + 32 + 10
        normalised = 8 + 32 + 32 + 16 + 64
        expected = kernels + biases + 2 * normalised
        assert parameters(blocks, feature_size=64, num_classes=10) == (expected, expected + 2 * normalised)

    @pytest.mark.parametrize(
        "text, inside",
        [
            ("r1_k3_s2_e1_i8_o16_c1", 9 * 8 * 16),
            ("r1_k3_s1_e4_i8_o16_c1", 9 * 8 * 32 + 32 * 16 + 2 * 32),
            ("r1_k3_s1_e1_i8_o16", 9 * 8 + 8 * 16 + 2 * 8),
            ("r1_k3_s1_e1_i8_o16_se0.5_c1", 9 * 8 * 16 + 2 * 8 * 4 + 4 + 8),
        ],
    )
    def test_each_kind_of_block(self, text, inside):
        around = 27 * 8 + 16 * 64 + 65 * 10 + 2 * (8 + 16 + 64)
        assert parameters(expand([text]), feature_size=64, num_classes=10)[0] == around + inside

    @pytest.mark.parametrize(
        "blocks",
        [
            ["r1_k3_s2_e1_i8_o16_se0.5_c1", "r2_k5_s1_e2_i16_o16_se0.1_c1"],
            ["r2_k7_s2_e1_i8_o8", "r1_k3_s2_e3_i8_o24_se1"],
        ],
    )
    def test_of_unusual_blocks_as_in_keras(self, blocks):
        from efficientnetv2_tf.networks.model import get_model

        model = get_model("testing", blocks=blocks, num_classes=3)
        trainable = sum(int(variable.value.shape.num_elements()) for variable in model.trainable_variables)
        expected = parameters(expand(blocks), feature_size=32, num_classes=3)
        assert (trainable, model.count_params()) == expected


class TestMultiplyAdds:
    def test_by_hand_on_an_odd_image(self):
        # 9 px -> stem 5 px -> block 3 px.
        blocks = expand(["r1_k3_s2_e4_i8_o16_se0.25"])
        block = 25 * 8 * 32 + 9 * 9 * 32 + 2 * 32 * 2 + 9 * 32 * 16
        expected = 25 * 27 * 8 + block + 9 * 16 * 64 + 64 * 10
        assert multiply_adds(blocks, 9, feature_size=64, num_classes=10) == expected

    @pytest.mark.parametrize(
        "text, block",
        [
            ("r1_k3_s2_e1_i8_o16_c1", 4 * 9 * 8 * 16),
            ("r1_k3_s2_e4_i8_o16_c1", 4 * (9 * 8 * 32 + 32 * 16)),
            ("r1_k3_s2_e1_i8_o16", 4 * (9 * 8 + 8 * 16)),
        ],
    )
    def test_each_kind_of_block(self, text, block):
        around = 16 * 27 * 8 + 4 * 16 * 64 + 64 * 10
        assert multiply_adds(expand([text]), 8, feature_size=64, num_classes=10) == around + block

    @pytest.mark.parametrize(
        "name, billions, digits",
        [
            ("efficientnetv2-s", 8.4, 1),
            ("efficientnetv2-b0", 0.72, 2),
            ("efficientnetv2-b1", 1.2, 1),
            ("efficientnetv2-b2", 1.7, 1),
            ("efficientnetv2-b3", 3.0, 1),
            ("efficientnet-b0", 0.39, 2),
            ("efficientnet-b4", 4.4, 1),
            ("efficientnet-b7", 38, 0),
        ],
    )
    def test_the_published_figures(self, name, billions, digits):
        variant = VARIANTS[name]
        assert round(variant_multiply_adds(variant, variant.eval_size) / 1e9, digits) == billions

    @pytest.mark.parametrize("name, billions", [("efficientnetv2-m", 24.7), ("efficientnetv2-l", 56.3)])
    def test_the_published_figures_of_the_large_ones_within_half_a_percent(self, name, billions):
        variant = VARIANTS[name]
        assert variant_multiply_adds(variant, variant.eval_size) / 1e9 == pytest.approx(billions, rel=0.005)

    def test_the_classifier_has_its_share(self):
        variant = VARIANTS["efficientnetv2-b2"]
        one, eleven = (variant_multiply_adds(variant, 64, num_classes=classes) for classes in (1, 11))
        assert eleven - one == 10 * 1408


@pytest.mark.parametrize("name", VARIANTS)
def test_the_smallest_image_leaves_two_pixels_before_the_last_stride(name):
    variant = VARIANTS[name]
    side = minimum_image_size(expand(variant.blocks, variant.width_coefficient, variant.depth_coefficient))
    assert side == 17  # 17 -> 9 -> 5 -> 3 -> 2 -> 1
