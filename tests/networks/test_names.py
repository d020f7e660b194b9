"""Names of variables elsewhere: one to one for every variant, and the ones that other packages have."""

import keras
import pytest

from efficientnetv2_tf.networks import names
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.variants import VARIANTS
from efficientnetv2_tf.networks.weights import official_name

NAMINGS = [names.official_name, names.object_name, names.keras_name, names.timm_name]


@pytest.fixture(scope="module", params=VARIANTS)
def thin(request):
    """A variant with all its blocks, and few channels."""
    variant = VARIANTS[request.param]
    deep = variant.depth_coefficient
    return get_model(request.param, width_coefficient=0.1, depth_coefficient=deep, feature_size=8, num_classes=2)


@pytest.mark.parametrize("naming", NAMINGS, ids=lambda naming: naming.__name__)
@pytest.mark.parametrize("normalization", ["sync_batch", "group"])
@pytest.mark.parametrize("features_only", [False, True])
def test_every_variable_of_other_networks_has_a_name_of_its_own(naming, normalization, features_only):
    model = get_model("testing", num_classes=2, normalization=normalization, features_only=features_only)
    found = [naming(model, variable) for variable in model.weights]
    assert len({*found}) == len(found)


def test_group_normalisations():
    """In blocks the release's names do not tell the kind; outside of them TensorFlow named them."""
    group, batch = (get_model("testing", num_classes=2, normalization=name) for name in ("group", "batch"))
    for path in (variable.path for variable in group.weights):
        expected = official_name(batch, path)
        if path.startswith("stem_norm"):
            expected = expected.replace("tpu_batch_normalization", "group_normalization")
        elif path.startswith("head_norm"):
            expected = expected.replace("tpu_batch_normalization", "group_normalization_1")
        assert official_name(group, path) == expected
    assert official_name(group, "stem_norm/gamma") == "testing/stem/group_normalization/gamma"
    assert official_name(group, "head_norm/beta") == "testing/head/group_normalization_1/beta"


@pytest.mark.slow
@pytest.mark.parametrize("naming", NAMINGS, ids=lambda naming: naming.__name__)
def test_every_variable_of_every_variant_has_a_name_of_its_own(thin, naming):
    found = [naming(thin, variable) for variable in thin.weights]
    assert len({*found}) == len(found)
    assert not [name for name in found if ":" in name or "//" in name or ".." in name]
    if naming is names.official_name:
        assert all(name.startswith(f"{thin.variant}/") for name in found)


def test_official_name_is_where_the_weights_are_loaded():
    assert official_name is names.official_name


@pytest.mark.parametrize(
    "path, official, objects, keras_name, timm",
    [
        ("stem_conv/kernel", "stem/conv2d/kernel", "_stem/_conv_stem/kernel", "stem_conv/kernel", "conv_stem.weight"),
        (
            "head_norm/moving_variance",
            "head/tpu_batch_normalization/moving_variance",
            "_head/_norm/moving_variance",
            "top_bn/moving_variance",
            "bn2.running_var",
        ),
        ("classifier/bias", "head/dense/bias", "_fc/bias", "predictions/bias", "classifier.bias"),
        (  # a fused block without expansion: its k x k convolution is the projection
            "blocks_0/project_norm/gamma",
            "blocks_0/tpu_batch_normalization/gamma",
            "_blocks/0/_norm1/gamma",
            "block1a_project_bn/gamma",
            "blocks.0.0.bn1.weight",
        ),
        (  # a fused block with expansion
            "blocks_2/project_conv/kernel",
            "blocks_2/conv2d_1/kernel",
            "_blocks/2/_project_conv/kernel",
            "block2b_project_conv/kernel",
            "blocks.1.1.conv_pwl.weight",
        ),
        (  # depthwise convolutions are not counted among the others, normalisations after them are
            "blocks_4/depthwise_conv/kernel",
            "blocks_4/depthwise_conv2d/depthwise_kernel",
            "_blocks/4/_depthwise_conv/depthwise_kernel",
            "block4a_dwconv/kernel",
            "blocks.3.0.conv_dw.weight",
        ),
        (
            "blocks_5/project_norm/beta",
            "blocks_5/tpu_batch_normalization_2/beta",
            "_blocks/5/_norm2/beta",
            "block4b_project_bn/beta",
            "blocks.3.1.bn3.bias",
        ),
        (
            "blocks_4/se/expand/bias",
            "blocks_4/se/conv2d_1/bias",
            "_blocks/4/_se/_se_expand/bias",
            "block4a_se_expand/bias",
            "blocks.3.0.se.conv_expand.bias",
        ),
    ],
)
def test_names(testing_model, path, official, objects, keras_name, timm):
    assert path in {variable.path for variable in testing_model.weights}
    found = [naming(testing_model, path) for naming in NAMINGS]
    assert found == [f"testing/{official}", objects, keras_name, timm]


def test_a_block_without_expansion_that_is_not_fused():
    model = get_model("testing", blocks=["r1_k3_s2_e1_i8_o8_se0.25"], num_classes=2)
    found = [[naming(model, f"blocks_0/{part}") for part in ("project_conv/kernel", "depthwise_norm/gamma")]
             for naming in NAMINGS]  # fmt: skip
    assert found == [
        ["testing/blocks_0/conv2d/kernel", "testing/blocks_0/tpu_batch_normalization/gamma"],
        ["_blocks/0/_project_conv/kernel", "_blocks/0/_norm1/gamma"],
        ["block1a_project_conv/kernel", "block1a_bn/gamma"],
        ["blocks.0.0.conv_pw.weight", "blocks.0.0.bn1.weight"],
    ]


def test_a_variable_or_its_path(testing_model):
    for variable in testing_model.weights[:3]:
        assert official_name(testing_model, variable) == official_name(testing_model, variable.path)


@pytest.mark.parametrize(
    "path",
    [
        "stem/kernel",
        "stem_conv",
        "stem_conv/foo",
        "stem_conv/kernel:0",
        "blocks_0",
        "blocks_0/foo_conv/kernel",
        "blocks_0/depthwise_conv/kernel",  # of other blocks
        "blocks_99/project_conv/kernel",
        "classifier/a/b",
        "",
        5,
    ],
)
@pytest.mark.parametrize("naming", NAMINGS, ids=lambda naming: naming.__name__)
def test_unknown_variables(testing_model, naming, path):
    with pytest.raises(ValueError, match=f"testing has no variable {path!r}\\. Expected one of `model\\.weights`"):
        naming(testing_model, path)


def test_a_network_without_a_head_has_no_names_for_it():
    features = get_model("testing", features_only=True)
    with pytest.raises(ValueError, match="has no variable 'head_conv/kernel'"):
        official_name(features, "head_conv/kernel")
    assert official_name(features, "head_conv/kernel", check=False) == "testing/head/conv2d/kernel"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["EfficientNetV2B3", "EfficientNetV2M", "EfficientNetB1"])
def test_keras_names_are_those_of_keras_applications(name):
    theirs = getattr(keras.applications, name)(weights=None, classes=2)
    variant = name.replace("EfficientNetV2", "efficientnetv2-").replace("EfficientNetB", "efficientnet-b").lower()
    model = get_model(variant, num_classes=2)
    expected = {v.path.replace("dwconv2", "dwconv") for v in theirs.weights if not v.path.startswith("norm")}
    assert {names.keras_name(model, variable) for variable in model.weights} == expected
