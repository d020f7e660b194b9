"""Which parts of a network stay in float32; what that gives back is tested with the whole export."""

import io

import numpy as np
import pytest
from rich.console import Console

from efficientnetv2_tf.deploy.tflite_convert import classify_function, converter_of
from efficientnetv2_tf.deploy.tflite_mixed import convert_mixed

pytest.importorskip("ai_edge_litert")


@pytest.mark.slow
def test_without_success_the_best_try_is_given(badly_scaled, make_bundle, digit_pixels):
    bundle, calibration, text = make_bundle(badly_scaled), digit_pixels[0][:20], io.StringIO()
    nonsense = np.roll(classify_function(bundle)(calibration)["probabilities"], 1, axis=1)  # always the next class
    with converter_of(bundle, calibration) as converter:
        mixed = convert_mixed(converter, nonsense, 1.0, Console(file=text))
    assert mixed.agreement < 0.5
    assert 1 <= len(mixed.float_parts) <= mixed.parts / 2
    assert "which of 7 parts" in text.getvalue()
