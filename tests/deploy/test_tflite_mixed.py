"""Which parts of a network stay in float32, and what that gives back."""

import io

import numpy as np
import pytest
from rich.console import Console

from efficientnetv2_tf.deploy.tflite_convert import classify_function, converter_of
from efficientnetv2_tf.deploy.tflite_file import operators
from efficientnetv2_tf.deploy.tflite_mixed import convert_mixed
from efficientnetv2_tf.deploy.tflite_model import make_interpreter

pytest.importorskip("ai_edge_litert")


def top(content, pixels):
    interpreter = make_interpreter(content)
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    classes = []
    for image in pixels:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        classes.append(interpreter.get_tensor(target)[0].argmax())
    return np.array(classes)


@pytest.mark.slow
def test_sensitive_parts_in_float32_bring_the_agreement_back(badly_scaled, make_bundle, digit_pixels, unseen_batches):
    bundle, calibration, pixels = make_bundle(badly_scaled), digit_pixels[0][:60], unseen_batches[0][0]
    classify = classify_function(bundle)
    expected = classify(pixels)["probabilities"].numpy().argmax(axis=1)
    np.testing.assert_array_equal(classify_function(make_bundle())(pixels)["probabilities"].numpy().argmax(1), expected)
    text = io.StringIO()
    with converter_of(bundle, calibration) as converter:
        before = np.mean(top(converter.convert("int8"), pixels) == expected)
        wanted = classify(calibration)["probabilities"].numpy()
        mixed = convert_mixed(converter, wanted, 0.95, Console(file=text))
    after = np.mean(top(mixed.content, pixels) == expected)
    # The wide channel goes from block 2 over block 3 to the head.
    assert mixed.parts == 7 and {*mixed.float_parts} == {"blocks_2", "blocks_3", "head"}
    assert before < 0.6 and after > 0.95 and mixed.agreement >= 0.95
    assert "which of 7 parts" in text.getvalue()
    counts = operators(mixed.content)
    assert counts["DEQUANTIZE"] >= 2 and counts["QUANTIZE"] >= 2  # some of the network is int8 still


@pytest.mark.slow
def test_without_success_the_best_try_is_given(badly_scaled, make_bundle, digit_pixels):
    bundle, calibration = make_bundle(badly_scaled), digit_pixels[0][:40]
    nonsense = np.eye(10, dtype=np.float32)[np.arange(40) % 10]  # agrees with nothing
    with converter_of(bundle, calibration) as converter:
        mixed = convert_mixed(converter, nonsense, 1.0, Console(file=io.StringIO()))
    assert mixed.agreement < 0.5
    assert 1 <= len(mixed.float_parts) <= mixed.parts / 2
