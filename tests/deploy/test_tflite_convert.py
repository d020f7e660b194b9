"""Conversion in every mode, run by LiteRT's own interpreter and compared with the network."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.deploy.tflite_convert import classify_function, converter_of
from efficientnetv2_tf.deploy.tflite_file import operators, schema
from efficientnetv2_tf.deploy.tflite_model import make_interpreter
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.training.hparams import ConfigError

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.slow
# Mode -> least agreement in percent, largest difference of a probability, most bytes a parameter.
MODES = {
    "float32": (100, 1e-5, 5.0),
    "float16": (99.5, 0.01, 3.0),
    "dynamic": (98, 0.1, 2.5),
    "int8": (98, 0.2, 2.5),
    "int16x8": (98, 0.2, 2.5),
}
BUILTINS = {
    "ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "FULLY_CONNECTED", "LOGISTIC", "MEAN", "MUL", "QUANTIZE",
    "SOFTMAX", "SUB",
}  # fmt: skip


def run(content, pixels):
    """Probabilities [pictures, classes] of a file with float32 input and output."""
    interpreter = make_interpreter(content)
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for image in pixels:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target["index"])[0])
    return np.stack(rows)


def parsed(content):
    """A file as TFLite's schema has it: (model, its graph)."""
    tflite = schema()
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(content, 0))
    return model, model.subgraphs[0]


@pytest.fixture(scope="module")
def calibration(digit_pixels):
    return digit_pixels[0][:60]


@pytest.fixture(scope="module")
def small_network():
    """A network of one block, for what does not depend on what it was taught."""
    keras.utils.set_random_seed(0)
    return get_model("testing", blocks=["r1_k3_s2_e2_i16_o16_c1"], feature_size=16, num_classes=10)


@pytest.fixture(scope="module")
def uint8_file(make_bundle, small_network, calibration):
    """int8 with uint8 input and output, calibrated with pictures that are neither black nor white anywhere."""
    with converter_of(make_bundle(small_network), 40 + calibration / 2, uint8_io=True) as made:
        return made.convert("int8")


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_does_what_the_network_does(mode, tflite_files, make_bundle, unseen_batches, digit_network):
    agreement, difference, bytes_a_parameter = MODES[mode]
    content = tflite_files[mode]
    assert {*operators(content)} <= BUILTINS
    assert len(content) < bytes_a_parameter * digit_network.count_params() + 20_000
    pixels = unseen_batches[0][0]
    expected = classify_function(make_bundle())(pixels)["probabilities"].numpy()
    actual = run(content, pixels)
    assert np.abs(actual - expected).max() < difference
    assert 100 * np.mean(actual.argmax(1) == expected.argmax(1)) >= agreement
    interpreter = make_interpreter(content)
    assert interpreter.get_signature_list() == {"classify": {"inputs": ["pixels"], "outputs": ["probabilities"]}}
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 32, 32, 3]


def test_int8_is_integer_throughout_with_a_scale_for_each_channel(tflite_files):
    model, graph = parsed(tflite_files["int8"])
    floats = [index for index, tensor in enumerate(graph.tensors) if tensor.type == schema().TensorType.FLOAT32]
    assert sorted(floats) == sorted([*graph.inputs, *graph.outputs])
    kernels = [t for t in graph.tensors if len(t.shape) == 4 and model.buffers[t.buffer].data is not None]
    assert len(kernels) == 15
    for kernel in kernels:
        # Output channels come first, and last in the two depthwise convolutions.
        assert len(kernel.quantization.scale) == kernel.shape[kernel.quantization.quantizedDimension] > 1
    assert sum(kernel.quantization.quantizedDimension == 3 for kernel in kernels) == 2


def test_uint8_files_take_pixels_as_they_are(uint8_file):
    interpreter = make_interpreter(uint8_file)
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert source["dtype"] == target["dtype"] == np.uint8
    assert source["quantization"] == (1.0, 0)
    assert target["quantization"] == (1 / 256, 0)
    assert schema().TensorType.FLOAT32 not in {tensor.type for tensor in parsed(uint8_file)[1].tensors}


def test_the_range_of_the_input_is_that_of_the_calibration(make_bundle, small_network, calibration):
    with converter_of(make_bundle(small_network), calibration * 2 - 64) as made:
        _, graph = parsed(made.convert("int8"))
    quantized = [t for t in graph.tensors if t.quantization.scale is not None and t.shape.tolist() == [1, 32, 32, 3]]
    assert max(tensor.quantization.scale[0] for tensor in quantized) == pytest.approx(510 / 255)


def test_several_labels_are_sigmoids(make_bundle, small_network, unseen_batches):
    pixels = unseen_batches[0][0][:20]
    with converter_of(make_bundle(small_network, multi_label=True)) as made:
        actual = run(made.convert("float32"), pixels)
    logits = small_network(small_network.preprocess(pixels), training=False)
    np.testing.assert_allclose(actual, tf.sigmoid(logits), atol=1e-5)
    assert actual.std() > 1e-3


def test_what_tflite_has_no_operator_for_is_told(make_bundle):
    inputs = keras.Input([32, 32, 3])
    outputs = keras.layers.Lambda(lambda x: tf.reduce_mean(tf.math.igamma(x, x), axis=(1, 2)))(inputs)
    with (
        converter_of(make_bundle(keras.Model(inputs, outputs))) as made,
        pytest.raises(ConfigError, match=r"cannot convert this network to float32: .*Leave float32 out"),
    ):
        made.convert("float32")
