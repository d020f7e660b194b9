"""The table of variants against the release's values, the papers' figures and the networks Keras builds."""

import pytest

from efficientnetv2_tf.networks.variants import VARIANTS, get_variant, list_models

# width, depth, training size, evaluation size, dropout, preprocessing; trainable and total parameters.
RELEASE = {
    "efficientnetv2-s": (1.0, 1.0, 300, 384, 0.2, "v2", 21_458_488, 21_612_360),
    "efficientnetv2-m": (1.0, 1.0, 384, 480, 0.3, "v2", 54_139_356, 54_431_388),
    "efficientnetv2-l": (1.0, 1.0, 384, 480, 0.4, "v2", 118_515_272, 119_027_848),
    "efficientnetv2-xl": (1.0, 1.0, 384, 512, 0.4, "v2", 208_119_808, 208_896_832),
    "efficientnetv2-b0": (1.0, 1.0, 192, 224, 0.2, "v1", 7_139_704, 7_200_312),
    "efficientnetv2-b1": (1.0, 1.1, 192, 240, 0.2, "v1", 8_141_052, 8_212_124),
    "efficientnetv2-b2": (1.1, 1.2, 208, 260, 0.3, "v1", 10_096_086, 10_178_374),
    "efficientnetv2-b3": (1.2, 1.4, 240, 300, 0.3, "v1", 14_358_406, 14_467_622),
    "efficientnet-b0": (1.0, 1.0, 176, 224, 0.2, "v1", 5_288_548, 5_330_564),
    "efficientnet-b1": (1.0, 1.1, 192, 240, 0.2, "v1", 7_794_184, 7_856_232),
    "efficientnet-b2": (1.1, 1.2, 208, 260, 0.3, "v1", 9_109_994, 9_177_562),
    "efficientnet-b3": (1.2, 1.4, 240, 300, 0.3, "v1", 12_227_212, 12_314_268),
    "efficientnet-b4": (1.4, 1.8, 304, 380, 0.4, "v1", 19_341_616, 19_466_816),
    "efficientnet-b5": (1.6, 2.2, 352, 456, 0.4, "v1", 30_389_784, 30_562_520),
    "efficientnet-b6": (1.8, 2.6, 416, 528, 0.5, "v1", 43_040_704, 43_265_136),
    "efficientnet-b7": (2.0, 3.1, 480, 600, 0.5, "v1", 66_347_960, 66_658_680),
    "efficientnet-b8": (2.2, 3.6, 528, 672, 0.5, "v1", 87_413_142, 87_793_174),
    "efficientnet-l2": (4.3, 5.3, 640, 800, 0.5, "v1", 480_309_308, 481_399_996),
}
TESTING = "testing"
# The release's README, EfficientNetV2's Table 7 (XL) and the appendix (B0 to B3): millions, rounded.
PUBLISHED_MILLIONS = {
    "efficientnetv2-s": 21.5,
    "efficientnetv2-m": 54.1,
    "efficientnetv2-xl": 208,
    "efficientnetv2-b0": 7.1,
    "efficientnetv2-b1": 8.1,
    "efficientnetv2-b2": 10.1,
    "efficientnetv2-b3": 14.4,
    # EfficientNet, Table 2. B3 (12 in the paper) is not compared to more digits: its rounding changed since.
    "efficientnet-b0": 5.3,
    "efficientnet-b1": 7.8,
    "efficientnet-b2": 9.2,
    "efficientnet-b4": 19,
    "efficientnet-b5": 30,
    "efficientnet-b6": 43,
    "efficientnet-b7": 66,
    "efficientnet-l2": 480,
}
V1_BLOCKS = (
    "r1_k3_s1_e1_i32_o16_se0.25 r2_k3_s2_e6_i16_o24_se0.25 r2_k5_s2_e6_i24_o40_se0.25 "
    "r3_k3_s2_e6_i40_o80_se0.25 r3_k5_s1_e6_i80_o112_se0.25 r4_k5_s2_e6_i112_o192_se0.25 "
    "r1_k3_s1_e6_i192_o320_se0.25"
)
V2_BASE_BLOCKS = (
    "r1_k3_s1_e1_i32_o16_c1 r2_k3_s2_e4_i16_o32_c1 r2_k3_s2_e4_i32_o48_c1 r3_k3_s2_e4_i48_o96_se0.25 "
    "r5_k3_s1_e6_i96_o112_se0.25 r8_k3_s2_e6_i112_o192_se0.25"
)
BLOCKS = {
    "efficientnetv2-s": "r2_k3_s1_e1_i24_o24_c1 r4_k3_s2_e4_i24_o48_c1 r4_k3_s2_e4_i48_o64_c1 "
    "r6_k3_s2_e4_i64_o128_se0.25 r9_k3_s1_e6_i128_o160_se0.25 r15_k3_s2_e6_i160_o256_se0.25",
    "efficientnetv2-m": "r3_k3_s1_e1_i24_o24_c1 r5_k3_s2_e4_i24_o48_c1 r5_k3_s2_e4_i48_o80_c1 "
    "r7_k3_s2_e4_i80_o160_se0.25 r14_k3_s1_e6_i160_o176_se0.25 r18_k3_s2_e6_i176_o304_se0.25 "
    "r5_k3_s1_e6_i304_o512_se0.25",
    "efficientnetv2-l": "r4_k3_s1_e1_i32_o32_c1 r7_k3_s2_e4_i32_o64_c1 r7_k3_s2_e4_i64_o96_c1 "
    "r10_k3_s2_e4_i96_o192_se0.25 r19_k3_s1_e6_i192_o224_se0.25 r25_k3_s2_e6_i224_o384_se0.25 "
    "r7_k3_s1_e6_i384_o640_se0.25",
    "efficientnetv2-xl": "r4_k3_s1_e1_i32_o32_c1 r8_k3_s2_e4_i32_o64_c1 r8_k3_s2_e4_i64_o96_c1 "
    "r16_k3_s2_e4_i96_o192_se0.25 r24_k3_s1_e6_i192_o256_se0.25 r32_k3_s2_e6_i256_o512_se0.25 "
    "r8_k3_s1_e6_i512_o640_se0.25",
}


def test_every_variant_has_its_row():
    assert list_models() == [*RELEASE, TESTING]
    assert {*PUBLISHED_MILLIONS} <= {*RELEASE}


@pytest.mark.parametrize("name", RELEASE)
def test_the_release_values(name):
    v = VARIANTS[name]
    sizes = (v.width_coefficient, v.depth_coefficient, v.train_size, v.eval_size)
    assert (*sizes, v.dropout_rate, v.preprocessing, v.parameters, v.total_parameters) == RELEASE[name]
    assert (v.name, v.feature_size) == (name, 1280)


@pytest.mark.parametrize("name", RELEASE)
def test_the_release_blocks(name):
    expected = BLOCKS.get(name) or (V2_BASE_BLOCKS if name.startswith("efficientnetv2-b") else V1_BLOCKS)
    assert " ".join(VARIANTS[name].blocks) == expected


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_the_published_figures(name):
    published = PUBLISHED_MILLIONS[name]
    # The papers round; B2's 9.2 counts the statistics too (9.18) or is rounded up (9.11).
    step = 0.1 if isinstance(published, float) else 1
    assert abs(VARIANTS[name].parameters / 1e6 - published) < step


@pytest.mark.parametrize("name", VARIANTS)
def test_keras_builds_as_many_parameters(full_model, name):
    model = full_model(name)
    trainable = sum(int(variable.value.shape.num_elements()) for variable in model.trainable_variables)
    assert (trainable, model.count_params()) == (VARIANTS[name].parameters, VARIANTS[name].total_parameters)


def test_the_testing_network_is_small():
    assert 10_000 < VARIANTS[TESTING].parameters < 100_000
    assert any(text.endswith("_c1") for text in VARIANTS[TESTING].blocks)
    assert any("_se" in text for text in VARIANTS[TESTING].blocks)


class TestGetVariant:
    def test_by_name(self):
        assert get_variant("efficientnetv2-b3").name == "efficientnetv2-b3"

    @pytest.mark.parametrize(
        "name, nearest",
        [
            ("efficientnetv2-z", "efficientnetv2-"),
            ("EfficientNetV2-S", "efficientnetv2-s"),
            ("efficientnet_b4", "efficientnet-b4"),
            ("effnetv2-xl", "efficientnetv2-xl"),
        ],
    )
    def test_an_unknown_name_shows_the_nearest(self, name, nearest):
        message = f"Unknown model {name!r}. Did you mean .*{nearest}.*Available: "
        with pytest.raises(ValueError, match=message) as caught:
            get_variant(name)
        assert all(known in str(caught.value) for known in VARIANTS)

    @pytest.mark.parametrize("name", ["resnet50xyz!", None])
    def test_far_names_get_the_list_alone(self, name):
        with pytest.raises(ValueError, match="Available: efficientnetv2-s"):
            get_variant(name)
