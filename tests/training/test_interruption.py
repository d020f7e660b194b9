"""Real signals to this process in the middle of a real, small training."""

import os
import signal
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.training import interruption
from efficientnetv2_tf.training.callbacks import Checkpointing, Evaluation
from efficientnetv2_tf.training.checkpoint import Checkpoints
from efficientnetv2_tf.training.interruption import StopWhenTold
from efficientnetv2_tf.training.stopping import Interrupted, StopSignals

HANDLERS = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)


def kill(number):
    return lambda *_: os.kill(os.getpid(), number)


def fit(classifier, batches, folder, killer, *, evaluate=False):
    """Two epochs of three steps; what was told."""
    told = []
    signals = StopSignals(told.append, "This goes on.")
    checkpointing = Checkpointing(Checkpoints(folder, classifier))
    stop = StopWhenTold(signals, checkpointing, tf.distribute.get_strategy())
    evaluation = [Evaluation(batches, 1, 2, [killer, stop])] if evaluate else []
    callbacks = [killer, checkpointing, stop, *evaluation]
    with signals, signals.held():
        classifier.fit(batches, epochs=2, callbacks=callbacks, verbose=0, shuffle=False)
    return told


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_saves_within_the_step(make_linear, feature_batches, tmp_path, number, code):
    classifier = make_linear()
    at_step = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: kill(number)() if int(classifier.optimizer.iterations) == 4 else None
    )
    with pytest.raises(Interrupted, match=rf"Stopped by {number.name}; .* is saved. This goes on.") as caught:
        fit(classifier, feature_batches, tmp_path, at_step)
    assert caught.value.exit_code == code and isinstance(caught.value, KeyboardInterrupt)
    weights = classifier.network.get_weights()
    fresh = make_linear()
    assert Checkpoints(tmp_path, fresh).restore() == (1, 2)
    assert int(fresh.optimizer.iterations) == 5
    for a, b in zip(fresh.network.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == HANDLERS


def test_evaluation_is_left_at_once(make_linear, feature_batches, tmp_path):
    classifier, seen = make_linear(ema_decay=0.9), []
    killer = keras.callbacks.LambdaCallback()
    killer.on_test_batch_end = lambda batch, logs=None: (seen.append(batch), kill(signal.SIGTERM)())
    with pytest.raises(Interrupted):
        fit(classifier, feature_batches, tmp_path, killer, evaluate=True)
    assert seen == [0]  # of three batches
    fresh = make_linear(ema_decay=0.9)
    assert Checkpoints(tmp_path, fresh).restore() == (0, 3)
    for a, b in zip(fresh.network.get_weights(), classifier.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)  # the raw weights again, not the averages


def test_an_evaluation_is_left_at_its_end_where_another_worker_was_told(
    make_linear, feature_batches, tmp_path, monkeypatch
):
    seen, asked = [], []
    monkeypatch.setattr(interruption, "num_workers", lambda _: 2)
    monkeypatch.setattr(interruption, "any_worker", lambda _, told: (asked.append(told), len(asked) == 2)[1])
    watcher = keras.callbacks.LambdaCallback()
    watcher.on_test_batch_end = lambda batch, logs=None: seen.append(batch)
    with pytest.raises(Interrupted, match="Stopped by SIGTERM") as caught:
        fit(make_linear(), feature_batches, tmp_path, watcher, evaluate=True)
    assert caught.value.exit_code == 143
    assert seen == [0, 1, 2] * 2 and asked == [False, False]
    assert Checkpoints(tmp_path, make_linear()).restore() == (1, 3)


def test_after_the_last_step(make_linear, feature_batches, tmp_path):
    killer = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: kill(signal.SIGTERM)() if epoch else None)
    with pytest.raises(Interrupted):
        fit(make_linear(), feature_batches, tmp_path, killer)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_where_no_steps_are_it_acts_at_once(number, code):
    told, reached = [], []
    message = f"Stopped by {number.name}; .* This goes on."
    with pytest.raises(Interrupted, match=message) as caught, StopSignals(told.append, "This goes on."):
        kill(number)()
        reached.append(True)
    assert caught.value.exit_code == code
    assert told == reached == []
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == HANDLERS


def test_what_was_held_acts_at_the_end():
    reached = []
    with pytest.raises(Interrupted), StopSignals(print, "") as signals, signals.held():
        kill(signal.SIGTERM)()
        reached.append(True)
    assert reached


def test_a_second_ctrl_c_ends_at_once():
    told = []
    with pytest.raises(Interrupted), StopSignals(told.append, "") as signals, signals.held():
        kill(signal.SIGTERM)()
        kill(signal.SIGINT)()  # a launcher may send both
        assert signals.received == signal.SIGTERM and len(told) == 1
    with pytest.raises(KeyboardInterrupt) as caught, StopSignals(told.append, "") as signals, signals.held():
        kill(signal.SIGINT)()
        kill(signal.SIGINT)()
    assert caught.type is KeyboardInterrupt
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == HANDLERS


def test_in_another_thread_nothing_changes():
    seen = []

    def run():
        with StopSignals(print, ""):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [HANDLERS[0]]
