"""Side by side with Keras' own networks: the same weights, moved over by name, give the same logits."""

import importlib.util
import os

import keras
import numpy as np
import pytest

from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.weights import load_weights

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's, of pixels in 0..1
# keras.applications adds a step where rounding loses more than 10 %: 24 channels of 19.2, as 20 of the release's.
B3_BLOCKS = (
    "r1_k3_s1_e1_i32_o20_se0.25",
    "r2_k3_s2_e6_i20_o24_se0.25",
    "r2_k5_s2_e6_i24_o40_se0.25",
    "r3_k3_s2_e6_i40_o80_se0.25",
    "r3_k5_s1_e6_i80_o112_se0.25",
    "r4_k5_s2_e6_i112_o192_se0.25",
    "r1_k3_s1_e6_i192_o320_se0.25",
)


def randomise(model, seed=0):
    """Values with which every variable shows in the outputs, the batch norm statistics included."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape, leaf = variable.shape, variable.path.rsplit("/", 1)[-1]
        depthwise = "dwconv" in variable.path
        fan = np.prod(shape[:2]) if depthwise else np.prod(shape[:-1])
        values = {
            "kernel": lambda fan=fan, shape=shape: rng.normal(0, np.sqrt(1.5 / fan), shape),
            "gamma": lambda shape=shape: rng.uniform(0.8, 1.2, shape),
            "moving_variance": lambda shape=shape: rng.uniform(0.8, 1.4, shape),
        }
        if not variable.path.startswith("normalization"):
            variable.assign(values.get(leaf, lambda shape=shape: rng.normal(0, 0.1, shape))())
    return model


def images(height, width, seed=1):
    return np.random.default_rng(seed).normal(size=[2, height, width, 3]).astype(np.float32)


def assert_same(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert theirs.std() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.std(), rtol=0)


def build(name, size, **arguments):
    """keras.applications' network with random weights; without a size, it has to be without its top."""
    top = {"classes": 10, "classifier_activation": None} if size else {"include_top": False}
    shape = (*(size or (None, None)), 3)
    return randomise(getattr(keras.applications, name)(weights=None, input_shape=shape, **top, **arguments))


@pytest.fixture(scope="module")
def b0():
    """keras.applications' EfficientNetB0 for 64 x 96 pixels, and ours with its weights."""
    theirs = build("EfficientNetB0", (64, 96))
    return theirs, get_model("efficientnet-b0", num_classes=10, weights=theirs)


@pytest.fixture(scope="module")
def v2_b0():
    theirs = build("EfficientNetV2B0", (64, 96), include_preprocessing=False)
    return theirs, get_model("efficientnetv2-b0", num_classes=10, weights=theirs)


@pytest.fixture(scope="module")
def open_b0():
    """EfficientNetB0's features for any size."""
    theirs = build("EfficientNetB0", None)
    return theirs, get_model("efficientnet-b0", include_top=False, weights=theirs)


def test_logits(b0, v2_b0):
    batch = images(64, 96)
    assert_same(v2_b0[1](batch), v2_b0[0](batch))
    assert_same(b0[1](batch / 255), b0[0](batch))  # a Rescaling is built in, and a Normalization by 0 and 1


def test_v2_on_any_size():
    theirs = build("EfficientNetV2B0", None, include_preprocessing=False)
    ours = get_model("efficientnetv2-b0", include_top=False, weights=theirs)
    for size in [(64, 64), (65, 97), (50, 71)]:
        assert_same(ours(images(*size)), theirs(images(*size)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, variant",
    [("EfficientNetV2S", "efficientnetv2-s"), ("EfficientNetV2B2", "efficientnetv2-b2")],
)
def test_other_v2(name, variant):
    theirs = build(name, (70, 65), include_preprocessing=False)
    batch = images(70, 65)
    assert_same(get_model(variant, num_classes=10, weights=theirs)(batch), theirs(batch))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, variant, arguments",
    [("EfficientNetB1", "efficientnet-b1", {}), ("EfficientNetB3", "efficientnet-b3", {"blocks": B3_BLOCKS})],
)
def test_other_v1(name, variant, arguments):
    theirs = build(name, (64, 81))
    batch = images(64, 81)
    assert_same(get_model(variant, num_classes=10, weights=theirs, **arguments)(batch / 255), theirs(batch))


@pytest.mark.parametrize("size", [(64, 96), (160, 32)], ids=str)
def test_v1_without_a_size_pads_like_us_on_multiples_of_32(open_b0, size):
    theirs, ours = open_b0
    assert_same(ours(images(*size) / 255), theirs(images(*size)))


@pytest.mark.parametrize("side, layer", [(65, "stem_conv"), (66, "block2a_dwconv"), (80, "block6a_dwconv")])
def test_v1_without_a_size_pads_for_even_sides_only(open_b0, side, layer):
    """Elsewhere the first convolution with stride 2 that gets an odd side loses its last row."""
    theirs, ours = open_b0
    shape = keras.Model(theirs.input, theirs.get_layer(layer).output)(images(side, 64)).shape
    strides = {"stem_conv": 2, "block2a_dwconv": 4, "block6a_dwconv": 32}[layer]
    assert shape[1] == -(-side // strides) - 1
    assert ours(images(side, 64) / 255).shape[1] == -(-side // 32)


@pytest.mark.parametrize("size", [(65, 97), (50, 71)], ids=str)
def test_v1_with_a_size_pads_like_us_on_any(b0, size):
    sized = build("EfficientNetB0", size)
    batch = images(*size)
    assert_same(b0[1](batch / 255), sized(batch))


def test_v1_preprocessing_is_ours(b0):
    """With ImageNet's statistics in its Normalization, it is our "v1" scaling of bytes."""
    theirs, ours = b0
    pixels = np.random.default_rng(2).integers(0, 256, [2, 64, 96, 3]).astype(np.float32)
    normalization = next(layer for layer in theirs.layers if isinstance(layer, keras.layers.Normalization))
    before = normalization.mean, normalization.variance
    normalization.mean, normalization.variance = MEAN.astype("float32"), (STD**2).astype("float32")
    try:
        expected = theirs(pixels)
    finally:
        normalization.mean, normalization.variance = before
    assert ours.preprocessing == "v1"
    assert_same(ours((pixels / 255 - MEAN) / STD), expected)


@pytest.mark.parametrize("name, variant", [("EfficientNetV2B0", "efficientnetv2-b0"), ("EfficientNetV2S", None)])
def test_v2_preprocessing_is_ours(name, variant, v2_b0):
    """Of B0 it is "v1"; of S, M and L it is "v2", of which the first two layers are enough to see it."""
    pixels = np.random.default_rng(2).integers(0, 256, [2, 64, 96, 3]).astype(np.float32)
    with_preprocessing = build(name, (64, 96))
    if variant:
        assert v2_b0[1].preprocessing == "v1"
        assert_same(v2_b0[1]((pixels / 255 - MEAN) / STD), with_preprocessing(pixels))
    else:
        scaled = keras.Model(with_preprocessing.input, with_preprocessing.get_layer("stem_conv").input)(pixels)
        np.testing.assert_allclose(scaled, (pixels - 128) / 128, atol=1e-6)


@pytest.mark.parametrize("ending", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("pair", ["b0", "v2_b0"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files(pair, ending, request, tmp_path):
    theirs, expected = request.getfixturevalue(pair)
    path = str(tmp_path / f"model{ending}")
    (theirs.save_weights if ending == ".weights.h5" else theirs.save)(path)
    ours = get_model(expected.variant, num_classes=10)
    report = load_weights(ours, path)
    assert (report.source, report.unused) == ("keras", ())  # the preprocessing layer's statistics are not counted
    for a, b in zip(ours.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_files_that_keras_downloads(b0, tmp_path):
    """Keras 2 wrote them: a group a layer, names with ":0", "depthwise_kernel", and at times a number."""
    h5py = pytest.importorskip("h5py")
    theirs, expected = b0
    path = tmp_path / "efficientnetb0.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in theirs.layers]
        for layer in theirs.layers:
            group = file.create_group(layer.name)
            for variable in layer.weights:
                leaf = variable.path.rsplit("/", 1)[-1]
                leaf = "depthwise_kernel" if "dwconv" in layer.name and leaf == "kernel" else leaf
                scope = f"{layer.name}_1" if layer.name == "top_conv" else layer.name
                group.create_dataset(f"{scope}/{leaf}:0", data=np.asarray(variable))
    ours = get_model("efficientnet-b0", num_classes=10)
    assert len(load_weights(ours, path).loaded) == len(ours.weights)
    for a, b in zip(ours.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_the_top(v2_b0, tmp_path):
    theirs = v2_b0[0]
    trunk = keras.Model(theirs.input, theirs.get_layer("top_activation").output)
    report = load_weights(get_model("efficientnetv2-b0", num_classes=10), trunk)
    assert report.head_reset == ("classifier/kernel", "classifier/bias")
    ours = get_model("efficientnetv2-b0", include_top=False)
    assert load_weights(ours, theirs).head_unused == ("predictions/bias", "predictions/kernel")
    assert_same(ours(images(64, 96)), trunk(images(64, 96)))


def package(name):
    """A package that is there and can be imported on this machine."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return pytest.importorskip(name, exc_type=ImportError)


# Our testing network in their words.
STAGES = {
    "stackwise_kernel_sizes": [3, 3, 3, 3, 3],
    "stackwise_num_repeats": [1, 2, 1, 2, 1],
    "stackwise_input_filters": [16, 16, 16, 24, 24],
    "stackwise_output_filters": [16, 16, 24, 24, 32],
    "stackwise_expansion_ratios": [1, 4, 4, 4, 4],
    "stackwise_squeeze_and_excite_ratios": [0, 0, 0, 0.25, 0.25],
    "stackwise_strides": [1, 2, 2, 2, 2],
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
}
FUSED = ["fused", "fused", "fused", "unfused", "unfused"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("as_file", [False, True], ids=["model", "file"])
def test_keras_cv(as_file, tmp_path):
    models = package("keras_cv").models
    backbone = models.EfficientNetV2Backbone(**STAGES, stackwise_conv_types=FUSED, include_rescaling=False)
    classifier = randomise(models.ImageClassifier(backbone=backbone, num_classes=10, activation=None))
    for theirs, arguments in [(classifier, {"num_classes": 10}), (backbone, {"include_top": False})]:
        source = theirs
        if as_file:
            source = str(tmp_path / "model.weights.h5")
            theirs.save_weights(source)
        ours = get_model("testing", feature_size=1280, weights=source, **arguments)
        assert_same(ours(images(50, 71)), theirs(images(50, 71)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("as_file", [False, True], ids=["model", "file"])
def test_keras_hub(as_file, tmp_path):
    """Its networks pad both sides alike, which is the release's padding for sides of 32 n + 1 pixels."""
    models = package("keras_hub").models
    types = ["cba", *FUSED[1:]]
    backbone = models.EfficientNetBackbone(**STAGES, stackwise_block_types=types, batch_norm_epsilon=1e-3)
    classifier = randomise(models.EfficientNetImageClassifier(backbone=backbone, num_classes=10, activation=None))
    for theirs, arguments in [(classifier, {"num_classes": 10}), (backbone, {"include_top": False})]:
        source = theirs
        if as_file:
            source = str(tmp_path / "model.weights.h5")
            theirs.save_weights(source)
        ours = get_model("testing", feature_size=1280, weights=source, **arguments)
        assert_same(ours(images(65, 97)), theirs(images(65, 97)))


V1_STAGES = {**STAGES, "stackwise_expansion_ratios": [1, 6, 6, 6, 6], "stackwise_squeeze_and_excite_ratios": [0.25] * 5}
V1_BLOCKS = (
    "r1_k3_s1_e1_i16_o16_se0.25",
    "r2_k3_s2_e6_i16_o16_se0.25",
    "r1_k3_s2_e6_i16_o24_se0.25",
    "r2_k3_s2_e6_i24_o24_se0.25",
    "r1_k3_s2_e6_i24_o32_se0.25",
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_keras_hub_v1():
    models = package("keras_hub").models
    arguments = {"stackwise_block_types": ["v1"] * 5, "batch_norm_epsilon": 1e-3}
    theirs = randomise(models.EfficientNetBackbone(**V1_STAGES, **arguments))
    ours = get_model("testing", blocks=V1_BLOCKS, feature_size=1280, include_top=False, weights=theirs)
    assert_same(ours(images(65, 97)), theirs(images(65, 97)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_keras_cv_v1_is_moved_by_name_but_is_another_network():
    models = package("keras_cv").models
    stages = {**V1_STAGES, "include_rescaling": False, "input_shape": (64, 64, 3)}
    theirs = randomise(models.EfficientNetV1Backbone(**stages))
    ours = get_model("testing", blocks=V1_BLOCKS, feature_size=1280, include_top=False, weights=theirs)
    values = {variable.path: np.asarray(variable) for variable in theirs.weights}
    np.testing.assert_array_equal(ours.get_layer("blocks_2").project_conv.kernel, values["block2b_project/kernel"])
    np.testing.assert_array_equal(ours.get_layer("blocks_2").depthwise_norm.beta, values["block2b_dwconv_bn/beta"])
    activations = {layer.name for layer in theirs.layers if layer.name.endswith("project_activation")}
    assert activations  # the paper has none after a projection
