"""Recorded steps are where TensorBoard's profiler looks for them."""

import keras
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


def test_another_can_record_after_one_whose_training_failed(make_linear, feature_batches, tmp_path):
    class Fails(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 4:
                raise ZeroDivisionError

    failed, said = ProfileSteps(tmp_path / "failed", 50, lambda _: None), []
    with pytest.raises(ZeroDivisionError):
        make_linear().fit(feature_batches.repeat(2), verbose=0, shuffle=False, callbacks=[failed, Fails()])
    failed.close()
    after = ProfileSteps(tmp_path / "after", 2, said.append)
    make_linear().fit(feature_batches, epochs=2, verbose=0, shuffle=False, callbacks=[after])
    assert len(said) == 1 and [*tmp_path.glob("failed/plugins/profile/*/*.xplane.pb")]
