"""Recorded steps are where TensorBoard's profiler looks for them."""

import pytest

from efficientnetv2_tf.training.profiler import ProfileSteps


@pytest.mark.parametrize("steps, expected", [(2, 2), (50, 3)])  # of 6 steps the first 3 are left out
def test_steps_are_recorded(make_linear, feature_batches, tmp_path, steps, expected):
    said = []
    callback = ProfileSteps(tmp_path, steps, said.append)
    make_linear().fit(feature_batches, epochs=2, verbose=0, shuffle=False, callbacks=[callback])
    (recording,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    data = recording.read_bytes()
    assert len(data) > 1000 and b"train" in data
    assert len(said) == 1 and f"Recorded {expected} training steps" in said[0] and str(tmp_path) in said[0]
