"""The family on one screen: block strings, coefficients and sizes of every variant.

Sources: EfficientNetV2 (Tan & Le, ICML 2021, Tables 4 and 6, appendix), EfficientNet (Tan & Le, ICML 2019),
and the official release's configuration.
"""

import dataclasses
import difflib

_V1 = (
    "r1_k3_s1_e1_i32_o16_se0.25",
    "r2_k3_s2_e6_i16_o24_se0.25",
    "r2_k5_s2_e6_i24_o40_se0.25",
    "r3_k3_s2_e6_i40_o80_se0.25",
    "r3_k5_s1_e6_i80_o112_se0.25",
    "r4_k5_s2_e6_i112_o192_se0.25",
    "r1_k3_s1_e6_i192_o320_se0.25",
)
_V2_BASE = (
    "r1_k3_s1_e1_i32_o16_c1",
    "r2_k3_s2_e4_i16_o32_c1",
    "r2_k3_s2_e4_i32_o48_c1",
    "r3_k3_s2_e4_i48_o96_se0.25",
    "r5_k3_s1_e6_i96_o112_se0.25",
    "r8_k3_s2_e6_i112_o192_se0.25",
)
_V2_S = (
    "r2_k3_s1_e1_i24_o24_c1",
    "r4_k3_s2_e4_i24_o48_c1",
    "r4_k3_s2_e4_i48_o64_c1",
    "r6_k3_s2_e4_i64_o128_se0.25",
    "r9_k3_s1_e6_i128_o160_se0.25",
    "r15_k3_s2_e6_i160_o256_se0.25",
)
_V2_M = (
    "r3_k3_s1_e1_i24_o24_c1",
    "r5_k3_s2_e4_i24_o48_c1",
    "r5_k3_s2_e4_i48_o80_c1",
    "r7_k3_s2_e4_i80_o160_se0.25",
    "r14_k3_s1_e6_i160_o176_se0.25",
    "r18_k3_s2_e6_i176_o304_se0.25",
    "r5_k3_s1_e6_i304_o512_se0.25",
)
_V2_L = (
    "r4_k3_s1_e1_i32_o32_c1",
    "r7_k3_s2_e4_i32_o64_c1",
    "r7_k3_s2_e4_i64_o96_c1",
    "r10_k3_s2_e4_i96_o192_se0.25",
    "r19_k3_s1_e6_i192_o224_se0.25",
    "r25_k3_s2_e6_i224_o384_se0.25",
    "r7_k3_s1_e6_i384_o640_se0.25",
)
_V2_XL = (
    "r4_k3_s1_e1_i32_o32_c1",
    "r8_k3_s2_e4_i32_o64_c1",
    "r8_k3_s2_e4_i64_o96_c1",
    "r16_k3_s2_e4_i96_o192_se0.25",
    "r24_k3_s1_e6_i192_o256_se0.25",
    "r32_k3_s2_e6_i256_o512_se0.25",
    "r8_k3_s1_e6_i512_o640_se0.25",
)
# All that the large ones have (fused and depthwise blocks, squeeze-and-excitation, with and without skip).
_TESTING = (
    "r1_k3_s1_e1_i16_o16_c1",
    "r2_k3_s2_e4_i16_o16_c1",
    "r1_k3_s2_e4_i16_o24_c1",
    "r2_k3_s2_e4_i24_o24_se0.25",
    "r1_k3_s2_e4_i24_o32_se0.25",
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One member of the family.

    Attributes:
        name: as in `get_model(name)`.
        blocks: block strings, one a stage.
        width_coefficient: multiplies the block strings' channels.
        depth_coefficient: multiplies the block strings' repeats.
        dropout_rate: share of the pooled features that is dropped before the classifier, in training.
        train_size: side of the (last stage's) training images in pixels.
        eval_size: side of the evaluation images in pixels.
        preprocessing: "v2" scales bytes to (x - 128) / 128; "v1" uses ImageNet's mean and standard deviation.
        parameters: trainable parameters with 1,000 classes.
        total_parameters: these and the batch normalisations' moving means and variances.
        published_top1: top-1 accuracy on ImageNet in percent, trained on ImageNet alone: of V2 from the official
            release's README, of V1 from EfficientNet's Table 2 (arXiv 1905.11946); None where these give none.
        feature_size: channels of the last convolution before `width_coefficient`.
    """

    name: str
    blocks: tuple[str, ...]
    width_coefficient: float
    depth_coefficient: float
    dropout_rate: float
    train_size: int
    eval_size: int
    preprocessing: str
    parameters: int
    total_parameters: int
    published_top1: float | None = None
    feature_size: int = 1280


def _v1_train_size(eval_size):
    """80 % of the evaluation size, rounded down to a multiple of 16 (the release's rule)."""
    return int(eval_size * 0.8) // 16 * 16


def _v1(name, width, depth, eval_size, dropout_rate, *parameters):
    train_size = _v1_train_size(eval_size)
    return Variant(name, _V1, width, depth, dropout_rate, train_size, eval_size, "v1", *parameters)


_TABLE = (
    Variant("efficientnetv2-s", _V2_S, 1.0, 1.0, 0.2, 300, 384, "v2", 21_458_488, 21_612_360, 83.9),
    Variant("efficientnetv2-m", _V2_M, 1.0, 1.0, 0.3, 384, 480, "v2", 54_139_356, 54_431_388, 85.2),
    Variant("efficientnetv2-l", _V2_L, 1.0, 1.0, 0.4, 384, 480, "v2", 118_515_272, 119_027_848, 85.7),
    Variant("efficientnetv2-xl", _V2_XL, 1.0, 1.0, 0.4, 384, 512, "v2", 208_119_808, 208_896_832),
    Variant("efficientnetv2-b0", _V2_BASE, 1.0, 1.0, 0.2, 192, 224, "v1", 7_139_704, 7_200_312, 78.7),
    Variant("efficientnetv2-b1", _V2_BASE, 1.0, 1.1, 0.2, 192, 240, "v1", 8_141_052, 8_212_124, 79.8),
    Variant("efficientnetv2-b2", _V2_BASE, 1.1, 1.2, 0.3, 208, 260, "v1", 10_096_086, 10_178_374, 80.5),
    Variant("efficientnetv2-b3", _V2_BASE, 1.2, 1.4, 0.3, 240, 300, "v1", 14_358_406, 14_467_622, 82.1),
    _v1("efficientnet-b0", 1.0, 1.0, 224, 0.2, 5_288_548, 5_330_564, 77.1),
    _v1("efficientnet-b1", 1.0, 1.1, 240, 0.2, 7_794_184, 7_856_232, 79.1),
    _v1("efficientnet-b2", 1.1, 1.2, 260, 0.3, 9_109_994, 9_177_562, 80.1),
    # 6,020 fewer than in 2019, when the first stage's 19.2 channels became 24; V2's rounding gives 16.
    _v1("efficientnet-b3", 1.2, 1.4, 300, 0.3, 12_227_212, 12_314_268, 81.6),
    _v1("efficientnet-b4", 1.4, 1.8, 380, 0.4, 19_341_616, 19_466_816, 82.9),
    _v1("efficientnet-b5", 1.6, 2.2, 456, 0.4, 30_389_784, 30_562_520, 83.6),
    _v1("efficientnet-b6", 1.8, 2.6, 528, 0.5, 43_040_704, 43_265_136, 84.0),
    _v1("efficientnet-b7", 2.0, 3.1, 600, 0.5, 66_347_960, 66_658_680, 84.3),
    _v1("efficientnet-b8", 2.2, 3.6, 672, 0.5, 87_413_142, 87_793_174),
    _v1("efficientnet-l2", 4.3, 5.3, 800, 0.5, 480_309_308, 481_399_996),
    # For tests and dry runs; not a published network.
    Variant("testing", _TESTING, 1.0, 1.0, 0.1, 32, 32, "v2", 90_874, 92_810, feature_size=32),
)
VARIANTS = {variant.name: variant for variant in _TABLE}


def list_models():
    """Names of all variants, in the order of the table."""
    return list(VARIANTS)


def get_variant(name):
    """The `Variant` called `name`.

    Raises:
        ValueError: there is none; the message shows the nearest names.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    near = difflib.get_close_matches(str(name).lower(), VARIANTS, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"Unknown model {name!r}.{hint} Available: {', '.join(VARIANTS)}.")
